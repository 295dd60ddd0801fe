"""Penstock's class of `arq.Worker`: arq keeps functions, slots, tasks, hooks and signals; what talks to Redis is ours.

`_poll_iteration` is claim, start, or sleep until woken; `run_job` runs a claimed record through its registered function
and needs none of arq's keys; `heart_beat` only tells the heartbeat thread that the loop turns. arq is pinned, and
tests/worker/test_seam.py fails if it calls a replaced method differently.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from signal import Signals
from typing import Any

import structlog
from arq.connections import ArqRedis
from arq.worker import Function, Worker
from redis.exceptions import RedisError

from jobs.claims import Claims
from jobs.record import CHAT, Claim, ClaimedJob
from jobs.runner import EpochChanged

log = structlog.get_logger(__name__)

RECONNECT_S = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Waits between claims while Redis cannot serve; the last one is repeated."""

TURNS_TO_SEND = 3
"""Turns of the loop in which a job that was started writes its request: run_job's, its function's, aiohttp's. To go to
sleep takes the time of half a call, and comes after them."""

FUNCTIONS = {CHAT: "run_chat"}
"""The arq function that runs the jobs of an endpoint."""
UNKNOWN = "hand_on"
"""The one for endpoints that only newer workers know."""

WakeSleep = Callable[[float], Awaitable[None]]
"""Sleep for that many seconds, or until woken."""


class ClaimingWorker(Worker):
    """Runs claimed jobs. `sleep` waits for a wake token; `tick` is called at least once a second.

    `on_signal` is called with each signal to drain: what runs beside the jobs is to do the same.
    """

    def __init__(
        self,
        functions: Sequence[Function],
        *,
        claims: Claims,
        sleep: WakeSleep,
        tick: Callable[[], None],
        redis_pool: ArqRedis,
        max_jobs: int,
        drain_s: float,
        ctx: dict[Any, Any],
        on_signal: Callable[[], None] = lambda: None,
        burst: bool = False,
        handle_signals: bool = True,
    ) -> None:
        super().__init__(
            functions,
            redis_pool=redis_pool,
            max_jobs=max_jobs,
            # arq sleeps this long after each poll, a wake-up included.
            poll_delay=0,
            job_completion_wait=max(1, round(drain_s)),
            ctx=ctx,
            burst=burst,
            handle_signals=handle_signals,
        )
        self._claims = claims
        self._sleep = sleep
        self._tick = tick
        self._on_signal = on_signal
        self._sequence = 0
        self._failures = 0
        self._asking: asyncio.Task[Claim] | None = None
        self._asked_at = 0.0
        self._claimed: dict[str, tuple[ClaimedJob, float]] = {}
        self._slot_free = asyncio.Event()
        self._draining = False

    async def main(self) -> None:
        """Claim until told to stop. arq's own begins by asking Redis how it is, and ends where that fails."""
        self.ctx["redis"] = self.pool
        if self._draining:
            # A signal that came before this began: arq's drain had nothing to wait for, and no main task to end.
            return
        while True:
            await self._poll_iteration()
            if self.burst:
                return
            await asyncio.sleep(0)

    async def _poll_iteration(self) -> None:
        await self.heart_beat()
        if not self.allow_pick_jobs:
            await self._one_ends(0.1 if await self._hand_back() else RECONNECT_S[-1])
        elif self.job_counter >= self.max_jobs:
            await self._one_ends(1.0)
        else:
            await self._claim()
        self._reap()
        while self.burst and self.tasks:
            await self._one_ends(1.0)
            self._reap()

    async def _claim(self) -> None:
        """Claim as many jobs as slots are free, start them, and sleep if that was not all of them."""
        free = self.max_jobs - self.job_counter
        if self._asking is None:
            # Of a claim that is repeated, the first may have taken the jobs.
            self._asked_at = self.loop.time()
        self._asking = self._ask(free)
        try:
            claim = await _answer(self._asking)
        except (RedisError, EpochChanged) as error:
            # Asked again under the same number: jobs of an answer that was lost are not.
            wait_s = RECONNECT_S[min(self._failures, len(RECONNECT_S) - 1)]
            self._failures += 1
            log.warning("no claim", error=str(error) or type(error).__name__, again_in_s=wait_s)
            await self._one_ends(wait_s)
            return
        self._failures = 0
        self._sequence += 1
        self._asking = None
        for job in claim.jobs:
            await self._start(job, self._asked_at)
        if len(claim.jobs) < free and not self.burst:
            if claim.jobs:
                for _ in range(TURNS_TO_SEND):
                    await asyncio.sleep(0)
            await self._sleep(claim.wait_ms / 1000)

    def _ask(self, slots: int) -> "asyncio.Task[Claim]":
        asking = self.loop.create_task(self._claims.claim(self._sequence, slots))
        # A failure that nobody waits for any more, since a drain has ended, is none of a task: it is asked again.
        asking.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        return asking

    async def _start(self, job: ClaimedJob, asked_at: float) -> None:
        await self.sem.acquire()
        self.job_counter += 1
        self._claimed[job.token] = (job, asked_at)
        task = self.loop.create_task(self.run_job(job.token, 0))
        task.add_done_callback(self._ended)
        self.tasks[job.token] = task

    async def _hand_back(self) -> bool:
        """Jobs that were claimed and never started go back unsent; False: Redis could not be told so yet."""
        if self._asking is not None and self._asking.done():
            # Its answer was lost, or not waited for: asked for no slots, the same number only tells what it took.
            self._asking = self._ask(0)
        try:
            if self._asking is not None:
                claim = await _answer(self._asking)
                self._claimed |= {job.token: (job, self._asked_at) for job in claim.jobs}
                self._asking = None
            for token, (job, _) in list(self._claimed.items()):
                if token not in self.tasks or self.tasks[token].done():
                    await self._claims.put_back(job, after_ms=0, counts=False, window="given_back")
                    del self._claimed[token]
        except (RedisError, EpochChanged) as error:
            log.warning("claimed jobs not handed back yet", error=str(error) or type(error).__name__)
            return False
        return True

    async def run_job(self, job_id: str, score: int) -> None:
        """Run the claimed record of that lease token; the function has its own deadline and settles by itself."""
        job, asked_at = self._claimed.pop(job_id)
        function = self.functions[FUNCTIONS.get(job.endpoint, UNKNOWN)]
        task = self.loop.create_task(function.coroutine({**self.ctx, "asked_at": asked_at}, job))
        self.job_tasks[job_id] = task
        try:
            await asyncio.shield(task)
            self.jobs_complete += 1
        except asyncio.CancelledError:
            # The end of a drain: the function hands its job back, and is waited for.
            task.cancel()
            await asyncio.wait([task])
            self.jobs_retried += 1
        finally:
            del self.job_tasks[job_id]

    async def heart_beat(self) -> None:
        """The loop turns: the heartbeat thread may renew the leases."""
        self._tick()

    def handle_sig_wait_for_completion(self, signum: Signals) -> None:
        """The first signal lets running jobs finish within the drain; a second one ends the drain at once."""
        self._on_signal()
        if self._draining:
            log.warning("second signal: the drain ends now", signal=signum.name, running=len(self.tasks))
            self.handle_sig(signum)
            return
        self._draining = True
        log.info("draining", signal=signum.name, running=len(self.tasks), for_s=self._job_completion_wait)
        super().handle_sig_wait_for_completion(signum)

    async def close(self) -> None:
        """Wait for what is still being handed back, and say goodbye; none of arq's keys is touched."""
        if self._pool is None:
            return
        if self.tasks:
            await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        for wait_s in RECONNECT_S:
            if await self._hand_back():
                break
            await asyncio.sleep(wait_s)
        if self.on_shutdown:
            await self.on_shutdown(self.ctx)
        self._pool = None

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._release_sem_dec_counter_on_complete()
        self._slot_free.set()

    async def _one_ends(self, at_most_s: float) -> None:
        self._slot_free.clear()
        try:
            async with asyncio.timeout(at_most_s):
                await self._slot_free.wait()
        except TimeoutError:
            return

    def _reap(self) -> None:
        for token, task in list(self.tasks.items()):
            if task.done():
                del self.tasks[token]
                if not task.cancelled() and (error := task.exception()) is not None:
                    log.error("a job's task failed", exc_info=error)


async def _answer(asking: "asyncio.Task[Claim]") -> Claim:
    """What a claim is told. The end of a drain must not cut it off: it takes jobs all the same."""
    await asyncio.wait([asking])
    return asking.result()
