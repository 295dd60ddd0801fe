"""Waiting for something that happens in another process."""

import asyncio
import time
from collections.abc import Callable

# Far more than anything takes, unless the machine is busy with something else.
PATIENCE_S = 90.0
POLL_S = 0.05


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns once the condition holds; fails if that takes too long."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, "it did not come true in time"
        time.sleep(POLL_S)


async def until(condition: Callable[[], bool]) -> None:
    """The same, while the event loop goes on."""
    await asyncio.to_thread(wait_until, condition)
