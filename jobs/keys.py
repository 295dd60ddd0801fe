"""The Redis keys that Python touches by itself; all others belong to the scripts (lua/keys.lua, limiter/lua/)."""

DONE = "done"
"""Channel: the id of each job that has ended. One subscription per API process wakes all who wait."""

KEYS_CHANGED = "keys"
"""Channel: the id of an API key that was made, rotated or revoked; `*` for all."""

EPOCH = "epoch"
"""String: tells this data from an emptied Redis, or another one."""

EPOCH_ACCEPTED = "epoch:accepted"
"""String: the epoch with which an operator said to go on after a loss."""

WRITABLE = "writable"
"""String: written to prove that Redis can be written to."""

WAKE = "wake"
"""List: wake tokens; an idle worker sleeps on it."""

WAKE_SENDERS = "wake:senders"
"""List: the same for the part of a worker that sends webhooks."""

USERS = "users"
"""Sorted set of all registered users, scores 0."""

KEYS = "keys"
"""Sorted set of all key ids, scores 0."""


def worker_channel(worker: str) -> str:
    """Channel: ids of running jobs this worker is to stop."""
    return f"worker:{worker}"


def user(user_id: str) -> str:
    """Hash: tier, created, and the user's overrides of single limits."""
    return f"user:{user_id}"


def tier(name: str) -> str:
    """Hash: the limits of a tier, as published from the configuration."""
    return f"config:tier:{name}"


def key(key_id: str) -> str:
    """Hash: an API key's digest, user, scopes and times."""
    return f"key:{key_id}"


def keys_of(user_id: str) -> str:
    """Set: the key ids of one user."""
    return f"keys:{user_id}"


def usage(user_id: str, day: str) -> str:
    """Hash: what a user was charged on a day, by served name."""
    return f"usage:{user_id}:{day}"


def usage_users(day: str) -> str:
    """Set: the users who were charged anything on a day."""
    return f"charged:{day}"


def ledger(day: str) -> str:
    """Stream: a line per settled or lost attempt whose tokens were held on that day."""
    return f"ledger:{day}"


def tokens(user_id: str, day: str) -> str:
    """String: the tokens a user has used or holds of a day's budget."""
    return f"tokens:{user_id}:{day}"


def holds(user_id: str, day: str) -> str:
    """Hash: the tokens each unfinished job holds of a day's budget; `*` is their sum."""
    return f"holds:{user_id}:{day}"


def endpoint(endpoint_id: str) -> str:
    """Hash: a registered webhook endpoint."""
    return f"endpoint:{endpoint_id}"


def endpoints_of(user_id: str) -> str:
    """Sorted set: the ids of a user's webhook endpoints, scores 0."""
    return f"endpoints:{user_id}"
