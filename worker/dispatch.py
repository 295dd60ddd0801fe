"""The life of a claimed job: call → decide → settle. A job comes in admitted, its budget and windows reserved, and goes
out ended, or back to its lane. This is the main path of a worker; what it waits for lies in seam.py.
"""

import asyncio
import itertools
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import structlog
from redis.exceptions import RedisError

from jobs.claims import Claims, PoolPause, WindowEffect
from jobs.config import Pool
from jobs.outage import outage
from jobs.record import ClaimedJob, ErrorCode, JobError, State, Usage
from jobs.runner import EpochChanged
from jobs.tokens.estimate import with_output_cap
from jobs.tokens.estimator import TokenEstimator
from worker.cost import cost_nano_usd
from worker.hearing import heard
from worker.outcome import Completion, Failure, FailureKind
from worker.providers import Providers
from worker.retry import AttemptState, GiveUp, Pause, Retry, decide

log = structlog.get_logger(__name__)

StopReason = Literal["asked", "lost", "drain"]

SETTLE_BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Waits between attempts to settle while Redis is away; the last one is repeated: money has been spent."""


HAND_ON_MS = 1000
"""How long a job waits that came to a worker who does not know its pool or its endpoint."""


@dataclass(slots=True)
class Running:
    """A job this worker runs. Times of the event loop, in seconds; `deadline` is that of the whole call."""

    job: ClaimedJob
    claimed_at: float
    deadline: float
    task: asyncio.Task[None] | None = None
    sent: bool = False
    stop: StopReason | None = None
    settling: asyncio.Future[None] | None = None


@dataclass(slots=True)
class Dispatcher:
    """What a worker needs to run jobs, and the jobs it runs, by lease token."""

    claims: Claims
    providers: Providers
    tokens: TokenEstimator
    jitter: Callable[[], float] = random.random
    running: dict[str, Running] = field(default_factory=dict)

    async def run(self, job: ClaimedJob, claimed_at: float) -> None:
        """Run one claimed job to its end or back to its lane; `claimed_at`: loop time before the claim."""
        run = Running(job, claimed_at, claimed_at, asyncio.current_task())
        self.running[job.token] = run
        try:
            await self._run(run)
        except asyncio.CancelledError:
            # An outcome that is known is settled as it is: a complete answer that came before the cancel wins.
            await asyncio.shield(run.settling or asyncio.ensure_future(self._stopped(run)))
        except EpochChanged:
            log.error("outcome dropped: Redis lost its data", job=job.id)
        except Exception:
            log.exception("job failed for a reason of our own", job=job.id)
            await self._internal(run)
        finally:
            del self.running[job.token]

    async def hand_on(self, job: ClaimedJob) -> None:
        """Let somebody else take a job that this process does not know how to run; it waits as long as it takes."""
        log.warning("job handed on", job=job.id, pool=job.pool, endpoint=job.endpoint)
        await self._keep_trying(
            lambda: self.claims.put_back(job, after_ms=HAND_ON_MS, counts=False, window="given_back")
        )

    def stop(self, job_id: str) -> None:
        """Stop a running job: it was asked to end."""
        for run in list(self.running.values()):
            if run.job.id == job_id:
                _cut_off(run, "asked")

    def lease_lost(self, token: str) -> None:
        """Stop what ran under a lease that is lost; the job itself may be here again under another one."""
        if token in self.running:
            _cut_off(self.running[token], "lost")

    async def _run(self, run: Running) -> None:
        job = run.job
        pool = self.providers.pool(job.pool)
        if pool is None:
            # Another process's configuration is ahead of ours.
            await self.hand_on(job)
            return
        outcome = await self._call(run, pool)
        run.settling = asyncio.ensure_future(self._decide(run, pool, outcome))
        await asyncio.shield(run.settling)

    async def _call(self, run: Running, pool: Pool) -> Completion | Failure:
        margin_s = pool.provider_settings.window_margin_s
        run.deadline = run.claimed_at + margin_s + pool.provider_settings.timeout_s

        def sent() -> None:
            run.sent = True

        return await self.providers.client(pool).chat(
            request_body(run.job.body, pool),
            deadline=run.deadline,
            write_by=run.claimed_at + margin_s,
            on_sent=sent,
        )

    async def _decide(self, run: Running, pool: Pool, outcome: Completion | Failure) -> None:
        if isinstance(outcome, Completion):
            await self._succeed(run.job, pool, outcome)
            return
        decision = decide(outcome, await self._state(run.job, outcome), self.jitter())
        if isinstance(decision, Retry):
            await self._retry(run.job, outcome, decision)
        else:
            await self._give_up(run.job, outcome, decision)

    async def _succeed(self, job: ClaimedJob, pool: Pool, completion: Completion) -> None:
        usage = completion.usage
        if usage is None:
            # Another tokenizer may count more than the cap that the provider was sent and kept to.
            counted = min(
                job.output_tokens,
                await self.tokens.count_text(completion.text, pool.model_settings.encoding),
            )
            usage = Usage(job.prompt_tokens, counted, job.prompt_tokens + counted, 0, "estimated")
        charge = usage
        ours = await self._keep_trying(
            lambda: self.claims.settle(
                job,
                State.SUCCEEDED,
                charge=charge,
                cost_nano_usd=self._cost(job, charge),
                window="charged",
                result=completion.body,
                heard=heard(completion),
            )
        )
        log.info(
            "job succeeded",
            job=job.id,
            pool=job.pool,
            attempt=job.attempt,
            tokens=usage.total_tokens,
            ours=ours,
        )

    async def _retry(self, job: ClaimedJob, failure: Failure, retry: Retry) -> None:
        cause: Literal["", "throttled", "unknown", "connect"] = ""
        if failure.kind is FailureKind.THROTTLED:
            cause = "throttled"
        elif failure.kind is FailureKind.UNKNOWN:
            cause = "unknown"
        elif failure.kind is FailureKind.NOT_SENT_CONNECT:
            cause = "connect"
        log.info(
            "job put back", job=job.id, pool=job.pool, attempt=job.attempt, why=failure.kind, status=failure.status,
            after_s=round(retry.after_s, 3),
        )  # fmt: skip
        await self._keep_trying(
            lambda: self.claims.put_back(
                job, after_ms=round(retry.after_s * 1000), counts=retry.counts, window=retry.window, cause=cause,
                pause=_pause(retry.pause), heard=heard(failure),
            )
        )  # fmt: skip

    async def _give_up(self, job: ClaimedJob, failure: Failure, end: GiveUp) -> None:
        charge: Usage | None = None
        if end.charge == "estimate":
            charge = estimate_of(job)
        elif end.charge == "usage":
            charge = failure.usage
        asked = end.code == "cancelled"
        error = (
            None if asked else JobError(cast(ErrorCode, end.code), end.message, job.attempt, failure.status)
        )
        log.info(
            "job failed", job=job.id, pool=job.pool, attempt=job.attempt, code=end.code, status=failure.status
        )
        await self._keep_trying(
            lambda: self.claims.settle(
                job, None if asked else State.FAILED, charge=charge, cost_nano_usd=self._cost(job, charge),
                window=end.window, error=error, replayable=end.code == "provider_failed", pause=_pause(end.pause),
                heard=heard(failure),
            )
        )  # fmt: skip

    async def _stopped(self, run: Running) -> None:
        """The call was cut off. What had been sent may be charged: its outcome is unknown."""
        job = run.job
        if run.stop == "lost":
            log.warning("lease lost: outcome dropped", job=job.id)
            return
        charge = estimate_of(job) if run.sent else None
        cost = self._cost(job, charge)
        if run.stop == "asked":
            window: WindowEffect = "in_flight" if run.sent else "given_back"
            await self._keep_trying(
                lambda: self.claims.settle(job, None, charge=charge, cost_nano_usd=cost, window=window)
            )
        elif run.sent and job.retry == "never":
            message = "The worker was shut down while the job ran, and retry is never."
            error = JobError("outcome_unknown", message, job.attempt)
            await self._keep_trying(
                lambda: self.claims.settle(
                    job, State.FAILED, charge=charge, cost_nano_usd=cost, window="in_flight", error=error
                )
            )
        else:
            await self._keep_trying(
                lambda: self.claims.put_back(
                    job, after_ms=0, counts=False, window="in_flight" if run.sent else "given_back"
                )
            )
        log.info("job stopped", job=job.id, why=run.stop or "drain", sent=run.sent)

    async def _internal(self, run: Running) -> None:
        error = JobError(
            "internal", "Penstock failed while it ran this job; its log says why.", run.job.attempt
        )
        charge = estimate_of(run.job) if run.sent else None
        await self._keep_trying(
            lambda: self.claims.settle(
                run.job, State.FAILED, charge=charge, cost_nano_usd=self._cost(run.job, charge),
                window="in_flight" if run.sent else "given_back", error=error, replayable=True,
            )
        )  # fmt: skip

    def _cost(self, job: ClaimedJob, charge: Usage | None) -> int | None:
        pool = self.providers.pool(job.pool)
        return None if charge is None or pool is None else cost_nano_usd(pool.model, charge)

    async def _state(self, job: ClaimedJob, failure: Failure) -> AttemptState:
        widely = failure.kind is FailureKind.FORBIDDEN and await self._keep_trying(
            lambda: self.claims.forbidden_widely(job)
        )
        return AttemptState(
            attempt=job.attempt,
            throttled_in_row=job.throttled_in_row,
            unconnected_in_row=job.unconnected_in_row,
            unknown_attempts=job.unknown_attempts,
            retry=job.retry,
            cancel_requested=job.cancel_requested,
            forbidden_widely=widely,
        )

    async def _keep_trying(self, operation: Callable[[], Awaitable[bool]]) -> bool:
        """The answer of what must be told to Redis, however long it is away; repeating it changes nothing more."""
        waits = itertools.chain(SETTLE_BACKOFF_S, itertools.repeat(SETTLE_BACKOFF_S[-1]))
        while True:
            try:
                return await operation()
            except RedisError as error:
                if outage(error) is None:
                    raise
                log.warning("Redis is away; the outcome is kept until it is back", error=type(error).__name__)
                await asyncio.sleep(next(waits))


def _cut_off(run: Running, reason: StopReason) -> None:
    if run.task is not None and run.stop is None:
        run.stop = reason
        run.task.cancel()


def estimate_of(job: ClaimedJob) -> Usage:
    """What is charged where the provider told nothing."""
    total = job.prompt_tokens + job.output_tokens
    return Usage(job.prompt_tokens, job.output_tokens, total, 0, "estimated")


def request_body(body: bytes, pool: Pool) -> bytes:
    """The stored body as it goes to the pool: its own model's name, and never without a cap on the answer."""
    fields: dict[str, Any] = json.loads(body)
    named = fields | {"model": pool.model}
    capped = with_output_cap(named, pool.model_settings.max_output_tokens)
    return (
        body if capped == fields else json.dumps(capped, ensure_ascii=False, separators=(",", ":")).encode()
    )


def _pause(pause: Pause | None) -> PoolPause | None:
    return None if pause is None else PoolPause(round(pause.seconds * 1000), pause.reason, pause.alarm)
