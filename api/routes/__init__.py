"""The routes, one file per group; each offers `add`, which puts its routes on the application."""
