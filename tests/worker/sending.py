"""A worker's sender in tests: the real outbox and the real guard, a receiver on loopback, the time injected."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from jobs import keys
from jobs.webhooks.outbox import Outbox
from jobs.webhooks.record import Attempt, Delivery
from jobs.webhooks.signing import SecretBox
from tests.jobs.builders import ALICE, LEASE_MS, Desk
from tests.jobs.post import PEPPER, Post, own_url
from tests.support.waiting import eventually
from tests.worker.raw_provider import Answer
from tests.worker.receiver import Receiver
from tests.worker.receiver import Sender as Guarded
from worker.webhooks.guarded import GuardedClient
from worker.webhooks.sender import Sender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis


@dataclass
class Sending:
    """A sender that runs, and the desk whose jobs it tells of."""

    desk: Desk
    post: Post
    client: GuardedClient
    outbox: Outbox
    _running: list[tuple[Sender, "asyncio.Task[None]"]] = field(default_factory=list)

    def start(self, *, pepper: str = PEPPER, at_once: int = 20) -> Sender:
        """Run one more sender."""
        sender = Sender(
            self.outbox,
            self.client,
            SecretBox(pepper),
            sleep=self._sleep,
            at_once=at_once,
            spread=lambda: 1.0,
            now_s=lambda: self.desk.clock.now_ms / 1000,
        )
        self._running.append((sender, asyncio.create_task(sender.run())))
        return sender

    async def stop(self) -> None:
        for sender, task in self._running:
            sender.stop()
            await asyncio.wait([task])
            await sender.drain(0)
            task.result()

    async def _sleep(self, seconds: float) -> None:
        await cast(Awaitable[Any], self.desk.redis.blpop([keys.WAKE_SENDERS], timeout=cast(int, seconds)))

    async def wake(self) -> None:
        """What is due may have changed: the time was moved."""
        await cast(Awaitable[int], self.desk.redis.rpush(keys.WAKE_SENDERS, "1"))

    async def job(self, receiver: Receiver, user: str = ALICE) -> str:
        """A job that has ended, with the receiver's URL for its own."""
        return await self.post.finished_job(user, **self.url(receiver, user))

    def url(self, receiver: Receiver, user: str = ALICE) -> dict[str, Any]:
        return own_url(user, receiver.url, receiver.authority)

    async def told(
        self, wanted: Callable[[Delivery, tuple[Attempt, ...]], bool], user: str = ALICE
    ) -> tuple[Delivery, tuple[Attempt, ...]]:
        """The user's one delivery, as soon as it is as wanted."""
        async with asyncio.timeout(20):
            while True:
                found = await self.post.deliveries.get(user, (await self.post.only(user)).id)
                assert found is not None
                if wanted(*found):
                    return found
                await asyncio.sleep(0.005)

    async def attempted(self, times: int, user: str = ALICE) -> tuple[Delivery, tuple[Attempt, ...]]:
        """The user's one delivery after so many attempts."""
        return await self.told(lambda one, _: one.attempts == times and not one.sending, user)

    async def requests(self, receiver: Receiver, number: int) -> None:
        """Wait until so many have come."""
        await eventually(lambda: len(receiver.requests) >= number)


@asynccontextmanager
async def sending(redis: "Redis", guarded: Guarded) -> "AsyncIterator[Sending]":
    """The parts over a Redis; nothing runs before `start`."""
    desk = await Desk.open(redis)
    outbox = Outbox(redis, "s1", lease_ms=LEASE_MS, clock=desk.clock)
    await outbox.start()
    parts = Sending(desk, await Post.open(desk), guarded.client, outbox)
    try:
        yield parts
    finally:
        await parts.stop()


@asynccontextmanager
async def receiving(
    redis: "Redis", *answers: Answer, allowed: bool = True, **guard: Any
) -> "AsyncIterator[tuple[Sending, Receiver]]":
    """The same with one receiver that answers so, where webhooks may go unless not `allowed`."""
    async with Receiver(*answers) as receiver:
        allow = [receiver.authority] if allowed else []
        async with Guarded(*allow, **guard) as guarded, sending(redis, guarded) as parts:
            yield parts, receiver
