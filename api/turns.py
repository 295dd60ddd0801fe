"""Whose large body is worked on: of each user one at a time, so that whoever sends many holds up himself.

The threads beside the loop take what comes in order, and a megabyte can keep one of them for a second.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Turns:
    """The users of one process who have a turn, or wait for one."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._wanted: dict[str, int] = {}

    @property
    def waiting(self) -> int:
        """How many wait for a turn, all users together."""
        return sum(self._wanted.values()) - len(self._wanted)

    @contextlib.asynccontextmanager
    async def of(self, user: str) -> AsyncIterator[None]:
        """The user's turn for as long as the block lasts; others of his wait for it in their order."""
        lock = self._locks.setdefault(user, asyncio.Lock())
        self._wanted[user] = self._wanted.get(user, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._wanted[user] -= 1
            if not self._wanted[user]:
                del self._wanted[user], self._locks[user]
