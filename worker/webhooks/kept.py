"""Connections kept open between deliveries to the same receiver, which spare a TLS handshake each."""

import time
from collections.abc import Hashable
from typing import Final

import httpcore2

KEPT_S: Final = 4.0
"""Sooner than servers close idle connections (uvicorn: 5 s), and far too short for a name to move meanwhile."""

KEPT_MAX: Final = 256


class KeptConnections:
    """Idle connections by what they lead to: a key that is quickly compared, since all may be looked at."""

    def __init__(self) -> None:
        # In the order in which they became idle, and when (monotonic, s).
        self._idle: list[tuple[Hashable, httpcore2.AsyncHTTPConnection, float]] = []
        self._is_closed = False

    async def take(self, key: Hashable) -> httpcore2.AsyncHTTPConnection | None:
        """An open connection under `key`, no longer kept; the latest, as the least likely to be closed."""
        oldest_s = time.monotonic() - KEPT_S
        while self._idle and self._idle[0][2] < oldest_s:
            await self._idle.pop(0)[1].aclose()
        for position in reversed(range(len(self._idle))):
            kept_key, connection, _ = self._idle[position]
            if kept_key == key:
                del self._idle[position]
                if not connection.has_expired():
                    return connection
                await connection.aclose()
                return None
        return None

    async def keep(self, key: Hashable, connection: httpcore2.AsyncHTTPConnection) -> None:
        """Keep an idle connection for its next use."""
        if self._is_closed:
            await connection.aclose()
            return
        self._idle.append((key, connection, time.monotonic()))
        if len(self._idle) > KEPT_MAX:
            await self._idle.pop(0)[1].aclose()

    async def aclose(self) -> None:
        """Close all that are idle, and keep no more."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop()[1].aclose()
