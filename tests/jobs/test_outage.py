"""What is the matter with Redis is told from its errors, those in scripts of older servers included."""

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from jobs.outage import outage

OLD = "Error running script (call to f_f437c38156c6245414401c6ca703cedf5e1ff764): @user_script:1: @user_script: 1: "


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "full"),
        (ReadOnlyError("You can't write against a read only replica. script: on @user_script:1."), "read-only"),
        (BusyLoadingError("Valkey is loading the dataset in memory"), "loading"),
        (NoScriptError("No matching script."), "busy"),
        (ResponseError("MISCONF Valkey is configured to save RDB snapshots, but …"), "disk"),
        (ResponseError("NOREPLICAS Not enough good replicas to write. script: on @user_script:1."), "safely"),
        (ResponseError("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."), "away"),
        (AuthenticationError("invalid username-password pair"), "reached"),
        (ConnectionError("Connection closed by server."), "reached"),
        (TimeoutError("Timeout reading from 127.0.0.1:6379"), "reached"),
        # Redis 6.2.
        (ResponseError(f"{OLD}-OOM command not allowed when used memory > 'maxmemory'."), "full"),
        (ResponseError(f"{OLD}-READONLY You can't write against a read only replica."), "read-only"),
        (ResponseError(f"{OLD}-MISCONF Redis is configured to save RDB snapshots, but …"), "disk"),
    ],
)  # fmt: skip
def test_an_outage_is_told_in_words(error: RedisError, told: str) -> None:
    assert told in (outage(error) or "")


@pytest.mark.parametrize(
    "text",
    [
        "ERR Error running script: @user_script:3: attempt to index a nil value",
        "Error running script (call to f_1): @user_script:1: @user_script: 1: attempt to index -OOM a nil value",
        f"{OLD}-WRONGTYPE Operation against a key holding the wrong kind of value",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
    ],
)
def test_a_mistake_of_ours_is_no_outage(text: str) -> None:
    assert outage(ResponseError(text)) is None
