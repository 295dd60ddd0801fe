"""Waiting for what must come to pass: a condition and a deadline, never a sleep that hopes."""

import asyncio
from collections.abc import Callable

DEADLINE_S = 20.0


async def eventually(condition: Callable[[], bool], within_s: float = DEADLINE_S) -> None:
    """Wait until the condition holds; TimeoutError after `within_s` seconds."""
    async with asyncio.timeout(within_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)
