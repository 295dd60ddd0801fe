"""The receivers of webhooks: they answer as the plan's chances say, and judge what comes at the moment it comes."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from standardwebhooks.webhooks import Webhook

from tests.simulation.facts import Job
from tests.simulation.letters import Letters
from tests.simulation.plan import Hooks
from tests.simulation.world import Process, World
from worker.webhooks.guarded import TOTAL_S, Delivered, Failed

Answer = Literal["taken", "error", "busy", "gone", "silent", "refused", "cut", "no_names"]

_STATUS: Final[dict[Answer, int]] = {"taken": 204, "error": 500, "busy": 429, "gone": 410}
_NOWHERE: Final[dict[Answer, Failed]] = {
    "refused": Failed("connecting failed: connection refused", 0.0),
    "no_names": Failed("the name servers gave no answer", 0.0, our_fault=True),
}


@dataclass
class Receivers:
    """All of them, each by its URL. `jobs`: those that they are told of; `bodies`: what came of each event first."""

    world: World
    hooks: Hooks
    jobs: Mapping[str, Job]
    letters: Letters
    bodies: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._chance = self.world.plan.random("receivers")

    def answer(self, url: str) -> Answer:
        """What is to become of the next attempt."""
        if url in self.hooks.dead:
            return (
                "error" if self.world.faults_stopped else self._chance.choice(("refused", "error", "silent"))
            )
        if self.world.faults_stopped or self._chance.random() >= self.hooks.troubled:
            return "taken"
        often: tuple[Answer, ...] = ("error", "error", "busy", "silent", "refused", "cut", "cut", "no_names")
        return "gone" if self._chance.random() < 0.03 else self._chance.choice(often)

    def arrived(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        """An attempt has come in whole: of an end that can be seen, the same each time, signed, to the right user."""
        world, event_id = self.world, headers["webhook-id"]
        event = json.loads(body)
        job = self.jobs[event["data"]["id"]]
        if job.end is None:
            world.fail("webhooks", f"{url} is told that {job.id} has {event['type']}, which has not ended")
            return
        told = (event["id"], event["type"], event["data"]["status"], event["data"]["result"])
        result = None if job.end.result is None else json.loads(job.end.result)
        if told != (event_id, f"job.{job.end.state}", job.end.state, result):
            world.fail("webhooks", f"{url} is told {told} of {job.id}, which has ended as {job.end}")
        if self.bodies.setdefault(event_id, body) != body:
            world.fail("webhooks", f"{url} gets {body!r} for {event_id}, which was {self.bodies[event_id]!r}")
        if not url.endswith(f"/{job.user}"):
            world.fail("apart", f"{url} is told of {job.id}, which is {job.user}'s")
        at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        secrets = self.letters.secrets.get(url) or self.letters.secrets[job.user]
        signed = {Webhook(one).sign(event_id, at, body.decode()) for one in secrets}
        if not signed & set(headers["webhook-signature"].split(" ")):
            world.fail("webhooks", f"{url} gets {event_id} with a signature that is not the user's")

    async def post(
        self, process: Process, url: str, body: bytes, headers: Mapping[str, str]
    ) -> Delivered | Failed:
        """One attempt of a worker's, from its connection to what the worker hears of it."""
        world, chance = self.world, self._chance
        began = world.loop.now_s
        answer = self.answer(url)
        await asyncio.sleep(chance.random() * 0.02)
        await process.gate()
        if answer in _NOWHERE:
            return _NOWHERE[answer]
        world.note(f"{process.name} sends {headers['webhook-id']} to {url}: {answer}")
        self.arrived(url, body, headers)
        world.strike(process, "post")
        slow = not world.faults_stopped and chance.random() < 0.1
        await asyncio.sleep(chance.random() * (0.6 * TOTAL_S if slow else 0.1))
        if answer == "silent":
            await asyncio.sleep(began + TOTAL_S - world.loop.now_s)
        await process.gate()
        duration_s = world.loop.now_s - began
        if answer not in _STATUS:
            return Failed("no answer", duration_s)
        if answer == "taken":
            self.letters.taken.add((headers["webhook-id"], url))
        wait_s = chance.choice((None, 1.0, 600.0)) if answer == "busy" else None
        return Delivered(_STATUS[answer], duration_s, answer, wait_s)


@dataclass(frozen=True)
class Poster:
    """Stands where a worker's GuardedClient stands."""

    receivers: Receivers
    process: Process

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Delivered | Failed:
        """As worker.webhooks.guarded.GuardedClient.post."""
        return await self.receivers.post(self.process, url, body, headers)
