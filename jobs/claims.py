"""The jobs as a worker sees them: claimed under a lease, renewed, settled or put back; each is one script."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jobs.codec import decode_claimed, encode_charge, encode_error
from jobs.record import Claim, ClaimedJob, JobError, State, Usage
from jobs.runner import Runner, job_script

if TYPE_CHECKING:
    from redis.asyncio import Redis

_claim = job_script("claim")
_renew = job_script("renew")
_settle = job_script("settle")
_retry = job_script("retry")
_forbidden = job_script("forbidden")
_goodbye = job_script("goodbye")

CLAIM_BYTES = 8 * 1024 * 1024
"""No claim's answer carries much more than this of request bodies: what is left stays queued."""

WindowEffect = Literal["charged", "kept", "tokens_back", "given_back", "in_flight"]
"""How an attempt's place in the provider's windows ends: limiter/lua/window.lua; `in_flight` leaves it until the
call's own deadline has passed."""
RetryCause = Literal["", "throttled", "unknown", "connect"]


@dataclass(frozen=True, slots=True)
class PoolPause:
    """No job is claimed for the pool for `ms`; with `alarm` one job is then tried, at growing intervals."""

    ms: int
    reason: str
    alarm: bool

    def encode(self) -> str:
        return json.dumps({"ms": self.ms, "reason": self.reason, "alarm": self.alarm})


@dataclass(frozen=True, slots=True)
class Heard:
    """What an answer told of the provider's limits; None: nothing. Resets in ms from the answer on.

    `refused`: what a 429 said was lacking; `largest_tokens`: the most tokens one request may have.
    """

    limit_tokens: int | None = None
    limit_requests: int | None = None
    remaining_tokens: int | None = None
    remaining_requests: int | None = None
    reset_tokens_ms: int | None = None
    reset_requests_ms: int | None = None
    refused: Literal["tokens", "requests"] | None = None
    largest_tokens: int | None = None

    def encode(self) -> str:
        """As receipt.lua reads it; '' is nothing."""
        fields = {
            "lt": self.limit_tokens,
            "lr": self.limit_requests,
            "kt": self.remaining_tokens,
            "kr": self.remaining_requests,
            "st": self.reset_tokens_ms,
            "sr": self.reset_requests_ms,
            "refused": self.refused,
            "large": self.largest_tokens,
        }
        told = {name: value for name, value in fields.items() if value is not None}
        return json.dumps(told) if told else ""


@dataclass(frozen=True, slots=True)
class Renewal:
    """`lost`: tokens of leases that are no longer this worker's; `stop`: ids of jobs that were asked to end."""

    lost: tuple[str, ...]
    stop: tuple[str, ...]


class Claims:
    """One worker's side. All methods raise EpochChanged, and redis.exceptions.RedisError when Redis cannot serve;
    every one may then be repeated with the same arguments.
    """

    def __init__(
        self, redis: "Redis", worker: str, *, lease_ms: int, clock: Callable[[], int] | None = None
    ) -> None:
        self._redis = redis
        self._run = Runner(redis, clock)
        self.worker = worker
        self._lease_ms = lease_ms

    async def start(self) -> None:
        """Remember the epoch of the data; call once per process, before anything else."""
        await self._run.start()

    async def claim(self, sequence: int, slots: int) -> Claim:
        """Take up to `slots` jobs; the same sequence number again gives the same jobs."""
        reply = await self._run(_claim, self.worker, sequence, slots, self._lease_ms, CLAIM_BYTES)
        return Claim(tuple(decode_claimed(*row) for row in reply[2:]), reply[0], reply[1])

    async def renew(
        self,
        jobs: Sequence[tuple[str, str]],
        *,
        slots: int,
        deliveries: Sequence[tuple[str, str]] = (),
    ) -> Renewal:
        """Lengthen the leases of running jobs and deliveries under way, given as (id, token), by a whole period."""
        leases = [f"{held} {token}" for held, token in (*jobs, *deliveries)]
        lost, stop = await self._run(_renew, self.worker, self._lease_ms, slots, len(jobs), *leases)
        return Renewal(tuple(i.decode() for i in lost), tuple(i.decode() for i in stop))

    async def settle(
        self,
        job: ClaimedJob,
        state: State | None,
        *,
        charge: Usage | None,
        window: WindowEffect,
        cost_nano_usd: int | None = None,
        result: bytes = b"",
        error: JobError | None = None,
        replayable: bool = False,
        pause: PoolPause | None = None,
        heard: Heard | None = None,
    ) -> bool:
        """End a running job; `state` None is the one it was asked to end in. False: it is no longer ours."""
        reply = await self._run(
            _settle, job.id, job.token, state or "asked", encode_charge(charge),
            "" if cost_nano_usd is None else cost_nano_usd, window, result,
            encode_error(error), int(replayable), pause.encode() if pause else "", heard.encode() if heard else "",
        )  # fmt: skip
        return bool(reply == b"settled")

    async def put_back(
        self,
        job: ClaimedJob,
        *,
        after_ms: int,
        counts: bool,
        window: WindowEffect,
        cause: RetryCause = "",
        pause: PoolPause | None = None,
        heard: Heard | None = None,
    ) -> bool:
        """Let a running job wait for its next attempt. False: it is no longer ours."""
        reply = await self._run(
            _retry, job.id, job.token, after_ms, int(counts), window, cause, pause.encode() if pause else "",
            heard.encode() if heard else "",
        )  # fmt: skip
        return bool(reply != b"lost")

    async def forbidden_widely(self, job: ClaimedJob) -> bool:
        """A 403 came for this job: whether jobs of other users got one too, in whichever worker, and none got through
        in between.
        """
        return bool(await self._run(_forbidden, job.pool, job.user, job.token))

    async def goodbye(self) -> None:
        """This worker runs nothing any more and will not claim again."""
        await _goodbye(self._redis, self.worker)
