"""Which errors of Redis pass, or are an operator's to mend, and which are mistakes of ours."""

import re
from typing import Final

from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,
    NoScriptError,
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

_IN_A_SCRIPT: Final = re.compile(r"^Error running script \(.*: @user_script: \d+: -([A-Z]+) ")
"""Redis before 7 wraps what stops a script at a write: `…: @user_script: 1: -OOM command not allowed …`."""


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
    if isinstance(error, NoScriptError):
        # Flushed faster than it was loaded: nothing ran, and the next call loads it again.
        return _WORDS["BUSY"]
    if isinstance(error, ResponseError):
        text = str(error)
        wrapped = _IN_A_SCRIPT.match(text)
        return _WORDS.get(wrapped[1] if wrapped else text.partition(" ")[0])
    return "The job store cannot be used."
