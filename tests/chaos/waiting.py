"""Waiting for what must come to pass in other processes: a condition and a deadline."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

PATIENCE_S = 110.0
"""Far more than anything takes, unless the machine is busy with something else."""
POLL_S = 0.04

T = TypeVar("T")


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = PATIENCE_S) -> None:
    """Returns once the condition holds. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while True:
            if await condition():
                return
            await asyncio.sleep(POLL_S)


async def eventually(condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """The same for a condition that needs no loop."""

    async def holds() -> bool:
        return condition()

    await until(holds, within_s)


@asynccontextmanager
async def alongside(*doings: Coroutine[Any, Any, T]) -> AsyncIterator[list[asyncio.Task[T]]]:
    """What goes on during the block, and is stopped with it, whatever it came to."""
    tasks = [asyncio.create_task(doing) for doing in doings]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
