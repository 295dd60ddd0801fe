"""The one Pub/Sub connection of an API process: hears which jobs have ended and which keys have changed.

What is told while the connection is broken is lost, so everybody who relies on it is told when it was away.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import PubSub

PING_INTERVAL_S = 2.0
"""A silent connection is asked at this interval whether it still lives: a cut one is found within two."""
FIRST_RETRY_S = 0.05
LONGEST_RETRY_S = 1.0

log = structlog.get_logger(__name__)


class Subscription:
    """Calls `on_message[channel]` for each message, and `on_hearing` when it begins (True) and ceases to hear."""

    def __init__(
        self,
        redis: "Redis",
        *,
        on_message: Mapping[str, Callable[[str], None]],
        on_hearing: Callable[[bool], None],
    ) -> None:
        self._redis = redis
        self._on_message = {channel.encode(): handler for channel, handler in on_message.items()}
        self._on_hearing = on_hearing
        self.hearing = asyncio.Event()

    async def run(self) -> None:
        """Hears until cancelled; comes back by itself whatever happens to Redis."""
        retry_s = FIRST_RETRY_S
        while True:
            pubsub = self._redis.pubsub()
            try:
                await pubsub.subscribe(*self._on_message)
                await self._hear(pubsub)
            except (RedisError, OSError) as error:
                if self.hearing.is_set():
                    log.warning("subscription lost", error=type(error).__name__)
                    retry_s = FIRST_RETRY_S
            finally:
                if self.hearing.is_set():
                    self.hearing.clear()
                    self._on_hearing(False)
                with contextlib.suppress(RedisError, OSError):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py 5.3 leaves it untyped
            await asyncio.sleep(retry_s)
            retry_s = min(LONGEST_RETRY_S, retry_s * 2)

    async def _hear(self, pubsub: "PubSub") -> None:
        missing = set(self._on_message)
        asked = False
        while True:
            message = cast(
                "dict[str, Any] | None",
                await pubsub.get_message(timeout=PING_INTERVAL_S),
            )
            if message is None:
                if asked:
                    raise RedisConnectionError("the subscription's connection does not answer")
                asked = True
                await cast(Awaitable[None], pubsub.ping())
                continue
            asked = False
            if message["type"] == "message":
                self._on_message[message["channel"]](message["data"].decode("utf-8", "replace"))
            elif message["type"] == "subscribe":
                missing.discard(message["channel"])
                if not missing and not self.hearing.is_set():
                    self.hearing.set()
                    self._on_hearing(True)
