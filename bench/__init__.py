"""Benchmarks: each file answers one question with one command, `python -m bench.<name>`."""
