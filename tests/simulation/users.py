"""The users, through two API processes: they submit, repeat, poll, cancel and erase, and give up in the middle."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from redis.exceptions import RedisError

from jobs.egress import Policy, Target, parse
from jobs.record import NewJob
from jobs.store import JobStore
from jobs.users import Users
from jobs.webhooks import own_lane
from jobs.webhooks.deliveries import Deliveries
from jobs.webhooks.endpoints import Endpoints
from jobs.webhooks.signing import SecretBox
from tests.jobs.post import PEPPER
from tests.simulation.plan import own_url
from tests.simulation.witness import Watch
from tests.simulation.workers import now
from tests.simulation.world import Link, Process, World, until_it_serves

if TYPE_CHECKING:
    from redis.asyncio import Redis

Act: TypeAlias = Callable[[], Awaitable[None]]

LONG_MS = 3 * 86_400_000
TRIES = 2
"""How often the API asks Redis before it tells a caller that it is unavailable."""


@dataclass(eq=False)
class Crowd:
    """All users. `play` lets them do what the plan has for them."""

    world: World
    watch: Watch
    desks: list[tuple[Process, JobStore]]
    endpoints: Endpoints
    deliveries: Deliveries
    made: int = 0

    @classmethod
    async def gather(cls, world: World, watch: Watch) -> "Crowd":
        """Two API processes with the configuration published and the plan's users registered."""
        desks = []
        for name in ("api1", "api2"):
            process = world.process(name)
            redis = cast("Redis", Link(process))
            store = JobStore(redis, lease_ms=world.plan.lease_ms, clock=now)
            await until_it_serves(store.start)
            desks.append((process, store))
        store = desks[0][1]
        await until_it_serves(lambda: store.publish(world.plan.config))
        accounts = Users(redis)
        for user in world.plan.registered:
            tier = world.plan.tier(user)
            await until_it_serves(partial(accounts.create, user, tier, {}))
        endpoints, deliveries = Endpoints(redis, SecretBox(PEPPER), clock=now), Deliveries(redis, clock=now)
        if world.plan.hooks is not None:
            await until_it_serves(endpoints.start)
            await until_it_serves(deliveries.start)
            for made, user, url, types in world.plan.hooks.endpoints:
                await until_it_serves(
                    partial(endpoints.create, user, made, url=url, event_types=types, name="")
                )
        return cls(world, watch, desks, endpoints, deliveries)

    def play(self) -> list[tuple[float, Act]]:
        """When what is done, in simulated seconds."""
        plan = self.world.plan
        chance = plan.random("users")
        acts: list[tuple[float, Act]] = []
        for n in range(plan.operations):
            own = random.Random(f"{plan.seed} act {n}")
            act = self._submit if n < 2 or own.random() < 0.55 else self._other
            acts.append((chance.random() * plan.length_s, partial(act, own)))
        for n in range(plan.hooks.acts if plan.hooks is not None else 0):
            own = random.Random(f"{plan.seed} act on webhooks {n}")
            acts.append((own.random() * plan.length_s, partial(self._on_webhooks, own)))
        return acts

    async def sweep(self) -> None:
        """Work off what is due by time."""
        await self._tried(self.desks[0][1].sweep)

    async def keep_sweeping(self) -> None:
        """The API's share of that."""
        while True:
            await asyncio.sleep(self.world.plan.sweep_s)
            await self.sweep()

    async def _submit(self, chance: random.Random) -> None:
        """A client that gets no answer may submit again under its key, through another API process."""
        user = chance.choice(list(self.world.plan.users))
        key = f"key{chance.randint(1, 4)}" if chance.random() < 0.35 else None
        fields = self._fields(chance, user, key)
        for _ in range(chance.choice((1, 1, 2, 3)) if key else 1):
            self.made += 1
            job = self._new(fields, self.made)
            outcome = await self._tried(partial(self._desk(chance).submit, job))
            if outcome is not None and chance.random() < 0.7:
                return
            await asyncio.sleep(chance.random())

    def _fields(self, chance: random.Random, user: str, key: str | None) -> dict[str, Any]:
        prompt, cap = chance.randint(1, 60), chance.randint(1, 140)
        at_ms = self.world.redis_ms()
        expires_ms = LONG_MS if chance.random() < 0.75 else chance.randint(500, 20_000)
        not_before_ms = at_ms + chance.randint(-500, 20_000) if chance.random() < 0.2 else None
        if not_before_ms is not None and not_before_ms >= at_ms + expires_ms:
            not_before_ms = None
        return {
            "user": user,
            "name": chance.choice(self.world.plan.names),
            "prompt_tokens": prompt,
            "output_tokens": cap,
            "priority": chance.choice(("interactive", "standard", "batch")),
            "not_before_ms": not_before_ms,
            "expires_after_ms": expires_ms,
            "retry": chance.choice(("safe", "safe", "never")),
            "on_budget": "wait" if chance.random() < self.world.plan.waiting else "reject",
            "idempotency_key": key,
            "payload_digest": "another" if chance.random() < 0.1 else f"payload of {key}",
            "anonymous": user.startswith("ip:"),
            "poison": chance.random() < self.world.plan.faults.poison,
            **self._webhook(chance, user),
        }

    def _webhook(self, chance: random.Random, user: str) -> dict[str, str]:
        hooks = self.world.plan.hooks
        if hooks is None or user.startswith("ip:") or chance.random() >= hooks.own:
            return {}
        url = own_url(user, chance.randint(1, 2))
        target = parse(url, Policy())
        assert isinstance(target, Target)
        return {"webhook_url": url, "webhook_lane": own_lane(user, target)}

    def _new(self, fields: dict[str, Any], number: int) -> NewJob:
        job_id = f"job_{number:04d}"
        body = {
            "model": fields["name"],
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": fields["output_tokens"],
            "user": job_id,
            "prompt": fields["prompt_tokens"],
            "poison": fields["poison"],
        }
        given = {name: value for name, value in fields.items() if name != "poison"}
        return NewJob(id=job_id, body=json.dumps(body).encode(), **given)

    async def _other(self, chance: random.Random) -> None:
        store = self._desk(chance)
        known = list(self.watch.jobs.values())
        if not known:
            return
        job = chance.choice(known)
        # Now and then somebody else's.
        user = job.user if chance.random() < 0.9 else chance.choice(list(self.world.plan.users))
        act = chance.choice(("cancel", "cancel", "cancel", "read", "read", "list", "erase", "publish"))
        if act == "cancel":
            await self._tried(lambda: store.cancel(user, job.id))
        elif act == "read":
            await self._tried(lambda: store.read(user, job.id))
        elif act == "list":
            await self._tried(lambda: self._list(store, user))
        elif act == "erase":
            await self._tried(lambda: store.erase(user, job.id))
        else:
            await self._tried(lambda: store.publish(self.world.plan.config))

    async def _on_webhooks(self, chance: random.Random) -> None:
        letters = list(self.watch.letters.all.values())
        addresses = list(self.watch.letters.addresses.values())
        if letters and (not addresses or chance.random() < 0.5):
            letter = chance.choice(letters)
            # Now and then somebody else's.
            user = letter.job.user if chance.random() < 0.8 else chance.choice(list(self.world.plan.users))
            await self._tried(lambda: self.deliveries.redeliver(user, letter.id))
        elif addresses:
            one = chance.choice(addresses)
            if chance.random() < 0.2:
                await self._tried(lambda: self.endpoints.delete(one.user, one.id))
            else:
                disabled = "" if one.disabled else "by its user"
                await self._tried(lambda: self.endpoints.change(one.user, one.id, {"disabled": disabled}))

    async def _list(self, store: JobStore, user: str) -> None:
        listed, _, _ = await store.list(user, limit=100, after=None, status=None, custom_id=None)
        for view in listed:
            if self.watch.jobs[view.id].user != user:
                self.world.fail("apart", f"{user} is shown {view.id}, which is not his")

    def _desk(self, chance: random.Random) -> JobStore:
        return chance.choice(self.desks)[1]

    async def _tried(self, operation: Callable[[], Awaitable[Any]]) -> Any:
        """The answer, or None when Redis was away each time."""
        for _ in range(TRIES):
            try:
                return await operation()
            except RedisError:
                continue
        return None
