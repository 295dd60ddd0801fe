"""What the tests of jobs share: a clock moved by hand, a desk to submit at, workers, and what Redis then holds.

Nothing here stands in for a part of ours: a desk is a JobStore, a worker a Claims, both over the server of the test.
"""

import time
from collections.abc import Awaitable, Mapping
from typing import Any, cast

from redis.asyncio import Redis
from ulid import ULID

from jobs.claims import Claims, PoolPause, RetryCause, WindowEffect
from jobs.config import Anonymous, Config, Model, Provider, Retention, Tier
from jobs.config.model import Route
from jobs.record import (
    Claim,
    ClaimedJob,
    JobError,
    JobView,
    LimitsView,
    NewJob,
    State,
    SubmitRefused,
    Submitted,
    Usage,
)
from jobs.store import JobStore
from jobs.users import Users
from tests.support.windows import stored_window

SECOND_MS, MINUTE_MS, DAY_MS = 1000, 60_000, 86_400_000
LEASE_MS = 6000
ALICE, BOB = "alice", "bob"
MODEL = "m"
POOL = "p/m"
TIER = "plain"


class HandClock:
    """Unix ms; stands still unless moved. It starts at noon (UTC) of tomorrow.

    Keys get the rest of their life as a duration, so that with a time in the future a real server keeps them.
    """

    def __init__(self) -> None:
        self.now_ms = (int(time.time() * 1000) // DAY_MS + 1) * DAY_MS + DAY_MS // 2

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, ms: int) -> None:
        self.now_ms += ms

    @property
    def midnight_ms(self) -> int:
        """The first ms of the next day."""
        return (self.now_ms // DAY_MS + 1) * DAY_MS

    @property
    def day(self) -> str:
        return day_of(self.now_ms)


def day_of(ms: int) -> str:
    """YYYY-MM-DD, in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(ms // 1000))


def provider(
    *models: str,
    tokens: int | None = None,
    requests: int | None = None,
    of_model: Mapping[str, Model] | None = None,
    timeout_s: float = 120.0,
    accounting: str = "openai",
) -> Provider:
    """A provider of some models; `of_model`: settings of single ones."""
    served = {name: Model() for name in models or (MODEL,)} | dict(of_model or {})
    return Provider.model_validate(
        {
            "base_url": "http://127.0.0.1:9/v1",
            "tokens_per_minute": tokens,
            "requests_per_minute": requests,
            "models": served,
            "timeout_s": timeout_s,
            "accounting": accounting,
        }
    )


def config(
    *,
    providers: Mapping[str, Provider] | None = None,
    routes: Mapping[str, Route] | None = None,
    tiers: Mapping[str, Tier] | None = None,
    anonymous: Anonymous | None = None,
    retention: Retention | None = None,
) -> Config:
    """One provider `p` with one model `m`, a tier without limits, and what is given."""
    return Config(
        providers=dict(providers or {"p": provider()}),
        routes=dict(routes or {}),
        tiers={TIER: Tier()} | dict(tiers or {}),
        anonymous=anonymous,
        retention=retention or Retention(),
    )


def usage(tokens: int, *, prompt: int = 1) -> Usage:
    """What a provider reports for so many tokens in all."""
    return Usage(prompt, tokens - prompt, tokens)


class Desk:
    """A store on a server with a configuration in force, and the clock that all its scripts go by."""

    def __init__(self, redis: Redis, clock: HandClock) -> None:
        self.redis = redis
        self.clock = clock
        self.store = JobStore(redis, lease_ms=LEASE_MS, clock=clock)
        self.users = Users(redis)
        self._made = 0
        self._workers = 0

    @classmethod
    async def open(cls, redis: Redis, settings: Config | None = None) -> "Desk":
        """A desk with the users alice and bob on the tier without limits."""
        desk = cls(redis, HandClock())
        await desk.store.start()
        await desk.store.publish(settings or config())
        await desk.user(ALICE)
        await desk.user(BOB)
        return desk

    async def user(self, name: str, **limits: int | None) -> str:
        """Register a user on the tier without limits, or change one; `limits` are his own."""
        if await self.users.create(name, TIER, limits) is None:
            await self.users.change(name, overrides=limits)
        return name

    def id(self) -> str:
        """A new job id; ids sort by the desk's time, then by their order."""
        self._made += 1
        return f"job_{ULID.from_int((self.clock.now_ms << 80) | self._made)}"

    def new(self, user: str = ALICE, tokens: int = 100, *, prompt: int = 1, **fields: Any) -> NewJob:
        """A submission whose estimate is `tokens`."""
        made: dict[str, Any] = {"id": self.id(), "name": MODEL, "body": b'{"model": "m"}'} | fields
        return NewJob(user=user, prompt_tokens=prompt, output_tokens=tokens - prompt, **made)

    async def ask(self, user: str = ALICE, tokens: int = 100, **fields: Any) -> Submitted | SubmitRefused:
        """Submit, whatever comes of it."""
        return await self.store.submit(self.new(user, tokens, **fields))

    async def submit(self, user: str = ALICE, tokens: int = 100, **fields: Any) -> JobView:
        """Submit what is to be accepted."""
        answer = await self.ask(user, tokens, **fields)
        assert isinstance(answer, Submitted), answer
        return answer.job

    async def refused(self, user: str = ALICE, tokens: int = 100, **fields: Any) -> SubmitRefused:
        """Submit what is to be refused."""
        answer = await self.ask(user, tokens, **fields)
        assert isinstance(answer, SubmitRefused), answer
        return answer

    async def worker(self, name: str = "") -> "Hand":
        """A worker; without a name another one each time."""
        self._workers += 1
        claims = Claims(self.redis, name or f"w{self._workers}", lease_ms=LEASE_MS, clock=self.clock)
        await claims.start()
        return Hand(claims)

    async def read(self, job: JobView | ClaimedJob) -> JobView:
        """The job as a poll shows it."""
        view, _ = await self.store.read(job.user, job.id)
        assert view is not None
        return view

    async def state(self, job: JobView | ClaimedJob) -> State:
        return (await self.read(job)).state

    async def limits(self, user: str = ALICE) -> LimitsView:
        return await self.store.limits(user)

    async def tokens(self, user: str = ALICE, day: str = "") -> int:
        """The counter of the user's day: used and held."""
        return int(await self.text(f"tokens:{user}:{day or self.clock.day}") or 0)

    async def window(self, scope: str = "p") -> tuple[int, int, int]:
        """Tokens charged, tokens in flight, requests, as the window was last written."""
        state = await self.redis.get(f"window:{scope}")
        if state is None:
            return 0, 0, 0
        window = stored_window(
            state, await cast(Awaitable[list[bytes]], self.redis.lrange(f"slices:{scope}", 0, -1))
        )
        return window.tokens, window.flying, window.requests

    async def ledger(self, day: str = "") -> list[dict[str, str]]:
        """The lines of a day."""
        lines = await self.redis.xrange(f"ledger:{day or self.clock.day}")
        return [{k.decode(): v.decode() for k, v in fields.items()} for _, fields in lines]

    async def text(self, key: str) -> str | None:
        stored = await self.redis.get(key)
        return None if stored is None else stored.decode()

    async def hash(self, key: str) -> dict[str, str]:
        stored = await cast(Awaitable[dict[bytes, bytes]], self.redis.hgetall(key))
        return {name.decode(): value.decode() for name, value in stored.items()}

    async def scores(self, key: str) -> dict[str, int]:
        """A sorted set's members with their scores, lowest first."""
        stored = await self.redis.zrange(key, 0, -1, withscores=True)
        return {member.decode(): round(score) for member, score in stored}

    async def members(self, key: str) -> set[str]:
        stored = await cast(Awaitable[set[bytes]], self.redis.smembers(key))
        return {member.decode() for member in stored}

    async def length(self, key: str) -> int:
        """How many entries a list has."""
        return await cast(Awaitable[int], self.redis.llen(key))

    async def keys(self) -> set[str]:
        return {key.decode() for key in await self.redis.keys("*")}

    async def snapshot(self) -> dict[str, object]:
        """Every key with what it holds, but not for how long."""
        return {key: await self._value(key) for key in await self.keys()}

    async def _value(self, key: str) -> object:
        kind = (await self.redis.type(key)).decode()
        match kind:
            case "string":
                return await self.text(key)
            case "hash":
                return await self.hash(key)
            case "zset":
                return await self.scores(key)
            case "set":
                return await self.members(key)
            case "list":
                return await cast(Awaitable[list[bytes]], self.redis.lrange(key, 0, -1))
            case _:
                return await self.redis.xrange(key)


class Hand:
    """One worker: every claim under a new number, unless it is told to repeat the last one."""

    def __init__(self, claims: Claims) -> None:
        self.claims = claims
        self.sequence = 0

    async def claim(self, slots: int = 1) -> Claim:
        self.sequence += 1
        return await self.claims.claim(self.sequence, slots)

    async def claim_again(self, slots: int = 1) -> Claim:
        """The last claim once more, as if its answer had been lost."""
        return await self.claims.claim(self.sequence, slots)

    async def take(self, slots: int = 1) -> list[ClaimedJob]:
        return list((await self.claim(slots)).jobs)

    async def take_one(self) -> ClaimedJob:
        """The one job that there is to be for one slot."""
        [job] = await self.take()
        return job

    async def succeed(self, job: ClaimedJob, tokens: int | None = None, *, result: bytes = b"{}") -> bool:
        """Settle a complete answer; without `tokens` it used what was estimated."""
        charge = usage(job.prompt_tokens + job.output_tokens if tokens is None else tokens)
        return await self.claims.settle(job, State.SUCCEEDED, charge=charge, window="charged", result=result)

    async def fail(self, job: ClaimedJob, charge: Usage | None = None, window: WindowEffect = "kept") -> bool:
        """Settle a failure for good."""
        error = JobError("provider_rejected", "no", job.attempt, 400)
        return await self.claims.settle(job, State.FAILED, charge=charge, window=window, error=error)

    async def put_back(
        self,
        job: ClaimedJob,
        *,
        after_ms: int = 0,
        counts: bool = True,
        window: WindowEffect = "kept",
        cause: RetryCause = "",
        pause: PoolPause | None = None,
    ) -> bool:
        return await self.claims.put_back(
            job, after_ms=after_ms, counts=counts, window=window, cause=cause, pause=pause
        )

    async def renew(self, *jobs: ClaimedJob) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Renew the leases of these jobs: the tokens that are lost, and the ids to be stopped."""
        renewal = await self.claims.renew([(job.id, job.token) for job in jobs], slots=10)
        return renewal.lost, renewal.stop
