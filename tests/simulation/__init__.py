"""Many users, workers, a provider and faults, drawn from a seed, in simulated time over the real scripts.

`schedule.run` plays one seed against a real Valkey; replay any of them with `make replay SEED=...`.
"""
