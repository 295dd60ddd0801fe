"""The outbox in tests: a user's endpoints, a worker that sends by hand, and what came of each delivery."""

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from ulid import ULID

from jobs.config import Webhooks
from jobs.egress import Policy, Target, parse
from jobs.webhooks import EVENT_TYPES, own_lane
from jobs.webhooks.deliveries import Deliveries
from jobs.webhooks.endpoints import Endpoints
from jobs.webhooks.event import job_event
from jobs.webhooks.outbox import Outbox, Outcome
from jobs.webhooks.record import Attempt, ClaimedDelivery, Delivery, Endpoint
from jobs.webhooks.signing import SecretBox, hint, new_secret
from tests.jobs.builders import ALICE, LEASE_MS, Desk

PEPPER = "a pepper of the tests"
URL = "https://hooks.example.com/in"
CODES: dict[Outcome, int | None] = {"delivered": 204, "failed": 500, "gone": 410, "ours": None}


def own_url(user: str = ALICE, url: str = URL, *allow: str) -> dict[str, Any]:
    """The fields of a submission with its own webhook_url, where `allow` lets it go there."""
    target = parse(url, Policy.of(Webhooks(allow=allow)))
    assert isinstance(target, Target)
    return {"webhook_url": url, "webhook_lane": own_lane(user, target)}


@dataclass
class Post:
    """Endpoints and deliveries at a desk."""

    desk: Desk
    endpoints: Endpoints
    deliveries: Deliveries
    box: SecretBox

    @classmethod
    async def open(cls, desk: Desk) -> "Post":
        box = SecretBox(PEPPER)
        endpoints = Endpoints(desk.redis, box, clock=desk.clock)
        deliveries = Deliveries(desk.redis, clock=desk.clock)
        await endpoints.start()
        await deliveries.start()
        return cls(desk, endpoints, deliveries, box)

    async def endpoint(self, user: str = ALICE, *kinds: str, url: str = URL) -> Endpoint:
        """A new endpoint for these types of events, for all of them if none is named."""
        made, _ = await self.endpoints.create(
            user, f"we_{ULID()}", url=url, event_types=kinds or EVENT_TYPES, name=""
        )
        return made

    async def sender(self, name: str = "s1") -> "Sender":
        outbox = Outbox(self.desk.redis, name, lease_ms=LEASE_MS, clock=self.desk.clock)
        await outbox.start()
        return Sender(self, outbox)

    async def all(self, user: str = ALICE) -> list[Delivery]:
        """The user's deliveries, in the order of their jobs."""
        found, _ = await self.deliveries.list(user, limit=1000)
        return found[::-1]

    async def only(self, user: str = ALICE) -> Delivery:
        """The one that there is to be."""
        [one] = await self.all(user)
        return one

    async def finished_job(self, user: str = ALICE, **fields: Any) -> str:
        """A job that has just been cancelled."""
        job = await self.desk.submit(user, **fields)
        await self.desk.store.cancel(user, job.id)
        return job.id


class Sender:
    """One worker's sending half: every claim under a new number, unless it is told to repeat the last one."""

    def __init__(self, post: Post, outbox: Outbox) -> None:
        self._post = post
        self.outbox = outbox
        self.sequence = 0

    async def take(self, slots: int = 10) -> list[ClaimedDelivery]:
        self.sequence += 1
        return await self.take_again(slots)

    async def take_again(self, slots: int = 10) -> list[ClaimedDelivery]:
        """The last claim once more, as if its answer had been lost."""
        return list((await self.outbox.claim(self.sequence, slots)).deliveries)

    async def take_one(self) -> ClaimedDelivery:
        [one] = await self.take()
        return one

    async def prepare(self, claimed: ClaimedDelivery) -> ClaimedDelivery:
        """As the worker does it before the first attempt."""
        if claimed.body and claimed.secret:
            return claimed
        delivery = claimed.delivery
        body = claimed.body
        if not body:
            assert claimed.job is not None
            body = job_event(delivery.event_id, delivery.event_type, claimed.job)
        secret = new_secret()
        ready = await self.outbox.prepare(
            claimed, body, secret=self._post.box.seal(secret, delivery.user), secret_hint=hint(secret)
        )
        assert ready is not None
        return ready

    async def settle(
        self,
        claimed: ClaimedDelivery,
        outcome: Outcome = "delivered",
        *,
        retry_after_ms: int | None = None,
        spread: float = 1.0,
    ) -> bool:
        attempt = Attempt(self._post.desk.clock.now_ms, 12, CODES[outcome], answer="told")
        return await self.outbox.settle(
            claimed, outcome, attempt, spread=spread, retry_after_ms=retry_after_ms
        )

    async def send(self, outcome: Outcome = "delivered", slots: int = 10) -> list[ClaimedDelivery]:
        """Take what is due, and settle all of it so."""
        sent = [await self.prepare(one) for one in await self.take(slots)]
        for one in sent:
            assert await self.settle(one, outcome)
        return sent


async def opened(server: Redis) -> tuple[Desk, Post]:
    """A desk on that server, and the post of its users."""
    desk = await Desk.open(server)
    return desk, await Post.open(desk)
