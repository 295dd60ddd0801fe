"""redis-py's connections and pools, made fit to be cancelled: what jobs/connection.py builds its clients of.

Two things go wrong when a task is cancelled on Python 3.11. asyncio.wait_for drops a cancellation that arrives as
what it waits for has just ended (python/cpython#86296), and redis-py 5.3 sends every command within it: a worker told
to stop at that moment went on as if nothing had been said. And a waiter of a Condition that was woken and cancelled at
once takes the wake-up with it (python/cpython#112202): others went on waiting for a connection that was free.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedConnection
from redis.exceptions import TimeoutError as RedisTimeoutError


class _Cancellable(AbstractConnection):
    """Sends within asyncio.timeout, which keeps a cancellation that is not its own."""

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        # First, and with its own timeouts: the handshake sends through here again.
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]  # redis-py 5.3 leaves it untyped
        limit_s = self.socket_timeout
        self.socket_timeout = None  # so that redis-py adds no wait_for
        try:
            async with asyncio.timeout(limit_s):
                await super().send_packed_command(command, check_health)
        except TimeoutError:
            raise RedisTimeoutError("Timeout writing to socket") from None
        finally:
            self.socket_timeout = limit_s


class TcpConnection(_Cancellable, Connection):
    """redis://"""


class TlsConnection(_Cancellable, SSLConnection):
    """rediss://"""


class SocketFileConnection(_Cancellable, UnixDomainSocketConnection):
    """unix://"""


class PrimaryConnection(_Cancellable, SentinelManagedConnection):
    """redis+sentinel://, to whichever server the Sentinels name."""


class Pool(BlockingConnectionPool):
    """Whoever finds all connections in use waits for one."""

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """A connection that is connected. Raises ConnectionError after `timeout` seconds without one."""
        try:
            return await super().get_connection()
        except BaseException:
            # It may have been woken for a free connection: then that is the next one's.
            async with self._condition:
                self._condition.notify()
            raise


class SentinelPool(SentinelConnectionPool, Pool):
    """The same for the primary that Sentinels name; closes the connections to them with its own."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close what is idle, which is what a change of the primary asks for, or everything."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.aclose()
