"""Programs that run in environments of their own (bench/environments.py); none of them imports anything of ours."""
