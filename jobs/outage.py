"""Which errors of Redis pass, or are an operator's to mend, and which are mistakes of ours."""

from typing import Final

from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

_WORDS: Final = {
    "MISCONF": "The job store cannot write to its disk.",
    "OOM": "The job store is full.",
    "READONLY": "The job store is read-only.",
    "LOADING": "The job store is still loading.",
    "BUSY": "The job store is busy.",
    "MASTERDOWN": "The job store is away.",
    "NOREPLICAS": "The job store cannot store safely.",
    "CLUSTERDOWN": "The job store is away.",
    "NOAUTH": "The job store refuses us.",
    "WRONGPASS": "The job store refuses us.",
    "NOPERM": "The job store refuses us.",
}


def outage(error: RedisError) -> str | None:
    """What is the matter with Redis, in a sentence; None for an answer that a mistake of ours has caused."""
    if isinstance(error, BusyLoadingError):
        return _WORDS["LOADING"]
    if isinstance(error, OutOfMemoryError):
        return _WORDS["OOM"]
    if isinstance(error, ReadOnlyError):
        return _WORDS["READONLY"]
    if isinstance(error, ConnectionError | TimeoutError):
        return "The job store cannot be reached."
    if isinstance(error, ResponseError):
        return _WORDS.get(str(error).partition(" ")[0])
    return "The job store cannot be used."
