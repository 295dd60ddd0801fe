"""A subscription that has begun, and what is heard over it within a deadline."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from tests.support.waiting import DEADLINE_S


@asynccontextmanager
async def subscribed(redis: Redis, channel: str) -> AsyncIterator[PubSub]:
    """To one channel; the block begins once the server has said so, and hears all that is published from then on."""
    async with redis.pubsub() as heard:
        await heard.subscribe(channel)
        async with asyncio.timeout(DEADLINE_S):
            told = await heard.get_message(timeout=None)
        assert told is not None
        assert told["type"] == "subscribe"
        yield heard


async def next_message(heard: PubSub) -> bytes:
    """The next message of a subscription; raises TimeoutError if there is none within the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        message = await heard.get_message(timeout=None)
    assert message is not None
    data = message["data"]
    assert isinstance(data, bytes)
    return data
