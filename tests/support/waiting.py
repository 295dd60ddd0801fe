"""Waiting for what must come to pass: a condition and a deadline, never a sleep that hopes."""

import asyncio
from collections.abc import Callable

DEADLINE_S = 20.0
SOON_S = 4.5
"""Less than the timeouts that are usual, and much more than those that tests set which assert it."""


async def eventually(condition: Callable[[], bool], within_s: float = DEADLINE_S) -> None:
    """Wait until the condition holds; TimeoutError after `within_s` seconds."""
    async with asyncio.timeout(within_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)
