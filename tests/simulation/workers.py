"""Worker processes: the real Claims, Dispatcher and ClaimingWorker over a simulated network, clock and provider.

Only what ties them to a machine is written anew here: the heartbeat's thread is a task, BLPOP asks the world.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from signal import Signals
from typing import TYPE_CHECKING, cast

from arq.connections import ArqRedis
from arq.worker import func
from redis.exceptions import RedisError

from jobs import keys
from jobs.claims import Claims
from jobs.store import JobStore
from jobs.webhooks.outbox import Outbox
from jobs.webhooks.signing import SecretBox
from tests.jobs.post import PEPPER
from tests.simulation.provider import Clients, Words
from tests.simulation.receivers import Poster
from tests.simulation.world import NOW, Link, Process, World, until_it_serves
from worker.dispatch import Dispatcher
from worker.heartbeat import pause_s
from worker.process import run_chat
from worker.providers import Providers
from worker.seam import ClaimingWorker
from worker.webhooks.guarded import GuardedClient
from worker.webhooks.sender import Sender

if TYPE_CHECKING:
    from redis.asyncio import Redis


def now() -> int:
    """The clock of all stubs: Redis's own, in the moment the script runs."""
    return NOW


@dataclass(eq=False)
class Worker:
    """One worker process from its start to its goodbye, or to its death."""

    world: World
    process: Process
    slots: int
    ticked: float = 0.0
    terms: int = 0
    seam: ClaimingWorker | None = None
    sender: Sender | None = None
    tokens: Words = field(default_factory=Words)

    @property
    def alive(self) -> bool:
        """Whether it claims, or will when it thaws."""
        return not self.process.killed and not self.process.gone and not self.terms

    @property
    def busy(self) -> bool:
        """Whether it runs a job."""
        return self.seam is not None and self.seam.job_counter > 0

    async def run(self) -> None:
        """As worker.process.assembled and the command line do it."""
        plan, loop = self.world.plan, self.world.loop
        redis = cast("Redis", Link(self.process))
        claims = Claims(redis, self.process.name, lease_ms=plan.lease_ms, clock=now)
        store = JobStore(redis, lease_ms=plan.lease_ms, clock=now)
        await until_it_serves(store.start)
        await until_it_serves(claims.start)
        clients = Clients(self.world, self.process)
        dispatcher = Dispatcher(
            claims, cast(Providers, clients), self.tokens, jitter=plan.random(self.process.name).random
        )
        clients.serve(dispatcher)
        self.process.told = dispatcher.stop
        if self.world.receivers is not None:
            self.sender = await make_sender(self.world, self.process, plan.idle_stretch)
        self.ticked = loop.time()
        self.seam = ClaimingWorker(
            [func(run_chat, name="run_chat")],
            claims=claims,
            sleep=self._sleep,
            tick=self._tick,
            # Only asked whether it is there.
            redis_pool=cast(ArqRedis, redis),
            max_jobs=self.slots,
            drain_s=plan.drain_s,
            ctx={"dispatcher": dispatcher},
            handle_signals=False,
        )
        posting = loop.create_task(self.sender.run()) if self.sender is not None else None
        duties = [
            loop.create_task(self._sweep(store)),
            loop.create_task(self._heartbeat(claims, dispatcher)),
        ]
        self.seam.main_task = loop.create_task(self._poll(self.seam))
        with suppress(asyncio.CancelledError):
            await self.seam.main_task
        await self.process.gate()
        away_before = self.world.outage
        await self.seam.close()
        self.process.left_in_outage = away_before or self.world.outage
        if self.sender is not None and posting is not None:
            await asyncio.wait([posting])
            await self.sender.drain(plan.drain_s)
        for duty in duties:
            duty.cancel()
        await asyncio.gather(*duties, return_exceptions=True)
        with suppress(RedisError):
            await claims.goodbye()
        self.process.gone = True
        self.tokens.close()
        self.world.note(f"{self.process.name} has left")

    def sigterm(self) -> None:
        """A first one drains, a second one ends the drain at once; one that has not begun to claim just ends."""
        self.terms += 1
        self.process.told_to_stop = True
        self.world.note(f"{self.process.name} gets SIGTERM")
        if self.seam is None:
            self.world.kill(self.process)
        else:
            if self.sender is not None:
                self.sender.stop()
            self.seam.handle_sig_wait_for_completion(Signals.SIGTERM)

    def _tick(self) -> None:
        self.ticked = self.world.loop.time()

    async def _poll(self, seam: ClaimingWorker) -> None:
        """What arq.Worker.main does but for what it logs of Redis."""
        while True:
            await seam._poll_iteration()
            await asyncio.sleep(0)

    async def _sleep(self, seconds: float) -> None:
        """Stretched, to spare idle claims: nothing may rest on a worker's coming back exactly in time."""
        lease_s = self.world.plan.lease_ms / 1000
        await self.world.blpop_wake(
            self.process, min(seconds * self.world.plan.idle_stretch, max(seconds, lease_s / 2))
        )

    async def _sweep(self, store: JobStore) -> None:
        while True:
            await asyncio.sleep(self.world.plan.sweep_s)
            with suppress(RedisError):
                await store.sweep()

    async def _heartbeat(self, claims: Claims, dispatcher: Dispatcher) -> None:
        """As worker.heartbeat.Heartbeat with worker.process's leases and answers."""
        loop, lease_s = self.world.loop, self.world.plan.lease_ms / 1000
        while True:
            renewed = True
            if loop.time() - self.ticked < lease_s:
                oldest = loop.time() - lease_s
                running = list(dispatcher.running.values())
                leases = [(run.job.id, run.job.token) for run in running if run.deadline > oldest]
                sending = self.sender.leases() if self.sender is not None else []
                try:
                    renewal = await claims.renew(leases, slots=self.slots, deliveries=sending)
                except RedisError:
                    self.process.renewals_lost += not self.world.outage
                    renewed = False
                else:
                    for token in renewal.lost:
                        dispatcher.lease_lost(token)
                        if self.sender is not None:
                            self.sender.lease_lost(token)
                    for job_id in renewal.stop:
                        dispatcher.stop(job_id)
            await asyncio.sleep(pause_s(lease_s, renewed=renewed))


async def make_sender(world: World, process: Process, stretch: float) -> Sender:
    """A process's real Sender and Outbox, whose posts go to the simulated receivers; ready to run."""
    assert world.receivers is not None
    chance = world.plan.random(f"{process.name} posts")
    redis = cast("Redis", Link(process, chance))
    outbox = Outbox(redis, process.name, lease_ms=world.plan.lease_ms, clock=now)
    await until_it_serves(outbox.start)
    return Sender(
        outbox,
        cast(GuardedClient, Poster(world.receivers, process)),
        SecretBox(PEPPER),
        sleep=lambda seconds: world.blpop_wake(process, seconds * stretch, keys.WAKE_SENDERS),
        spread=lambda: chance.uniform(0.8, 1.2),
        now_s=lambda: world.redis_ms() / 1000,
    )


@dataclass(eq=False)
class Fleet:
    """All workers there ever were."""

    world: World
    start: Callable[[Worker], "asyncio.Future[None]"]
    running: "list[asyncio.Future[None]]" = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)

    def add(self, slots: int) -> Worker:
        worker = Worker(self.world, self.world.process(f"w{len(self.workers) + 1}"), slots)
        self.workers.append(worker)
        self.world.note(f"{worker.process.name} starts with {slots} slots")
        self.running.append(self.start(worker))
        return worker

    async def all_gone(self) -> None:
        """Returns when everybody who lives has left."""
        leaving = [
            run for worker, run in zip(self.workers, self.running, strict=True) if not worker.process.killed
        ]
        if leaving:
            await asyncio.wait(leaving)

    @property
    def alive(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.alive]
