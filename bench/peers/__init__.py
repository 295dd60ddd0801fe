"""Programs that run in environments of their own (bench/environments.py).

They import nothing of ours but bench/pacing.py and bench/settings.py, which need the standard library alone.
"""
