"""Tokens: counting what a prompt holds and estimating, before it runs, the most that a job can be charged."""
