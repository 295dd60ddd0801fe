"""What the routes work with: the parts of one API process, put together once."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from starlette.requests import Request
from starlette.types import Scope

from api.auth import Authenticator, Principal
from api.blocks import Blocks
from api.body import read_fields
from api.durability import Durability
from api.errors import FieldError, invalid, problem_of, unavailable
from api.hooks import Hooks
from api.rejections import Rejections
from api.retraction import Retractions
from api.subscription import Subscription
from api.turns import Turns
from api.waiting import Waiters, until_gone
from jobs.config import Config
from jobs.dead import DeadJobs
from jobs.figures import Figures, FiguresStore
from jobs.pools import Pools
from jobs.record import JobView, LimitsView, NewJob, SubmitRefused, Submitted
from jobs.runner import EpochChanged
from jobs.scaling import Advice, advise
from jobs.store import JobStore
from jobs.tokens.estimator import TokenEstimator
from jobs.usage import UsageLedger
from jobs.users import Users

SMALL_BODY_BYTES = 65_536
"""Of whatever is not a job."""

LAST_RETRACTIONS_S = 1.0
_LOOK_AGAIN_S = 0.5


@dataclass(slots=True)
class Service:
    """One process. `config` is exchanged when the file changes; `ready` once the store has been started.

    `now_ms` is Unix time for what is judged outside of the scripts.
    """

    config: Config
    store: JobStore
    pools: Pools
    dead: DeadJobs
    figures: FiguresStore
    worker_slots: int
    rejections: Rejections
    users: Users
    usage: UsageLedger
    estimator: TokenEstimator
    authenticator: Authenticator
    subscription: Subscription
    waiters: Waiters
    blocks: Blocks
    turns: Turns
    retractions: Retractions
    durability: Durability
    hooks: Hooks
    now_ms: Callable[[], int]
    ready: bool = False
    not_ready: str = "the job store has not answered yet"
    attempted: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Take up the job store; until this has succeeded, nothing is accepted. Raises Problem 503 and RedisError."""
        try:
            reasons = await self.durability.reasons()
            if reasons:
                self.not_ready = f"the job store is not safe to use: {'; '.join(reasons)}"
                raise unavailable(f"Not started: {self.not_ready}.")
            await self.store.start()
            await self.pools.start()
            await self.dead.start()
            await self.figures.start()
            await self.hooks.start()
            await self.store.publish(self.config)
            self.ready = True
        finally:
            self.attempted.set()

    async def sweep(self) -> None:
        """Work off what is due by time. Raises what the store raises."""
        if self.ready:
            await self.store.sweep()

    async def wait_for_start(self, timeout_s: float) -> None:
        """Returns when the first attempt to start has come to an end, whichever, or after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.attempted.wait()

    async def principal(self, scope: Scope, *scopes: str) -> Principal:
        """Who sent this request, having one of these scopes. Raises Problem 401, 403, or 503 while starting."""
        if not self.ready:
            raise unavailable(f"Not started: {self.not_ready}.")
        principal = await self.authenticator.authenticate(scope, self.config)
        principal.require(*scopes)
        return principal

    async def operations_reader(self, scope: Scope) -> None:
        """Whoever reads metrics: a key with that scope, or anybody where they are open. Raises Problem."""
        if not self.config.open_metrics or not self.ready:
            await self.principal(scope, "metrics")

    async def advice(self) -> tuple[Figures, Advice]:
        """The figures, and how many workers they advise, which is kept for the next to be asked."""
        figures = await self.figures.read()
        advice = advise(figures, slots=self.worker_slots)
        if advice.held != figures.held:
            await self.figures.hold(figures.held, advice.held)
        return figures, advice

    async def admin_body(self, request: Request) -> dict[str, object]:
        """The body of an administrator's request. Raises Problem."""
        await self.principal(request.scope, "admin")
        return await read_fields(request.scope, request.receive, limit_bytes=SMALL_BODY_BYTES)

    def check_tier(self, tier: str) -> None:
        """Raises Problem 422 for a tier that the configuration does not have."""
        if tier not in self.config.tiers:
            raise invalid(FieldError("/tier", f"must be one of {', '.join(self.config.tiers)}"))

    async def submit(self, job: NewJob) -> Submitted | SubmitRefused:
        """Submit, once more if the connection broke: the job's id makes the second a question after the first.

        If that breaks as well, the job may exist all the same. It is taken back later, since its caller is told
        that nothing was accepted; but not where an Idempotency-Key will lead the caller to it.
        """
        broken = (RedisConnectionError, RedisTimeoutError)
        try:
            try:
                return await self.store.submit(job)
            except broken:
                return await self.store.submit(job)
        except (*broken, asyncio.CancelledError):
            if job.idempotency_key is None:
                self.retractions.add(job.user, job.id)
            raise

    async def last_retractions(self) -> None:
        """Take back, before the process ends, what was refused and may have reached Redis; if Redis answers soon."""
        with contextlib.suppress(TimeoutError, RedisError, EpochChanged):
            async with asyncio.timeout(LAST_RETRACTIONS_S):
                await self.retractions.work()

    async def read_at_end(
        self, request: Request, user: str, job_id: str, wait_s: float
    ) -> tuple[JobView | None, LimitsView]:
        """A job when it has ended, or as it is after `wait_s` (or when the client hangs up, or this process stops).

        The request's body must have been read.
        """
        if wait_s <= 0:
            return await self.store.read(user, job_id)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        with self.waiters.listen(job_id) as wake:
            found = await self.store.read(user, job_id)
            if not _worth_waiting(found[0]):
                return found
            async with until_gone(request.receive, wake):
                failing = False
                while (left_s := deadline - loop.time()) > 0 and not (wake.gone or self.waiters.draining):
                    await wake.wait(min(left_s, _LOOK_AGAIN_S) if failing else left_s)
                    try:
                        # The key may have been revoked meanwhile.
                        await self.principal(request.scope, "jobs")
                        found = await self.store.read(user, job_id)
                    except Exception as error:
                        problem = problem_of(error)
                        failing = (
                            problem is not None and problem.code == "unavailable" and loop.time() < deadline
                        )
                        if not failing:
                            raise
                        continue
                    failing = False
                    if not _worth_waiting(found[0]):
                        break
        return found


def _worth_waiting(job: JobView | None) -> bool:
    return job is not None and not job.state.final
