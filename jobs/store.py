"""The jobs as the API sees them: submitted, read, listed, cancelled, erased; each is one script, one round trip."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from jobs import keys
from jobs.codec import decode_limits, decode_view, encode_head, encode_info
from jobs.config import Config
from jobs.publication import publication
from jobs.record import JobView, LimitsView, NewJob, State, SubmitRefusal, SubmitRefused, Submitted
from jobs.runner import EpochChanged, Runner, job_script

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["CancelOutcome", "EpochChanged", "EraseOutcome", "JobStore"]

_submit = job_script("submit")
_read = job_script("read")
_list = job_script("list")
_cancel = job_script("cancel")
_erase = job_script("erase")
_sweep = job_script("sweep")
_publish = job_script("publish")

WRITABLE_MS = 60_000
"""How long the mark of a successful write stays."""

LIST_SCAN = 200
"""Jobs looked at in one call of the list script: what bounds the time Redis is held."""


@dataclass(frozen=True, slots=True)
class CancelOutcome:
    """`requested`: it runs, and its worker stops it within a second; `job` is None only where not found."""

    outcome: Literal["cancelled", "requested", "finished", "not_found"]
    job: JobView | None
    limits: LimitsView


@dataclass(frozen=True, slots=True)
class EraseOutcome:
    """What became of the wish to erase a job."""

    outcome: Literal["erased", "unfinished", "not_found"]
    limits: LimitsView


class JobStore:
    """All methods raise EpochChanged, and redis.exceptions.RedisError when Redis cannot serve.

    What raised may have been done all the same (the answer was lost): every method may be repeated.
    """

    def __init__(
        self, redis: "Redis", *, lease_ms: int = 6000, clock: Callable[[], int] | None = None
    ) -> None:
        self._redis = redis
        self._run = Runner(redis, clock, on_new_data=self._publish_again)
        self._lease_ms = lease_ms
        self._in_force: Config | None = None

    async def start(self) -> None:
        """Remember the epoch of the data; call once per process, before anything else."""
        await self._run.start()

    async def accept_loss(self) -> None:
        """Go on with a Redis that lost its data: processes that remember another epoch take up the present one."""
        await self._run.accept_loss()

    async def publish(self, config: Config) -> None:
        """Put the configuration's limits, names and pools in force for all scripts.

        It is put there again, by itself, when an operator has accepted that Redis lost its data.
        """
        self._in_force = config
        await _publish(self._redis, self._run.now, publication(config), config.digest())

    async def _publish_again(self) -> None:
        if self._in_force is not None:
            await self.publish(self._in_force)

    async def submit(self, job: NewJob) -> Submitted | SubmitRefused:
        """Count the request, check the user's limits, and queue the job, all or nothing.

        Repeating it for the same id answers as the first did and counts nothing.
        """
        digest = hashlib.sha256(job.idempotency_key.encode()).hexdigest()[:32] if job.idempotency_key else ""
        reply = await self._run(
            _submit, job.id, encode_head(job), encode_info(job), job.body, digest, job.payload_digest
        )
        outcome = reply[0].decode()
        limits = decode_limits(job.user, reply[1])
        if outcome in ("accepted", "replayed"):
            return Submitted(decode_view(reply[2].decode(), *reply[3:9]), limits, outcome == "replayed")
        wait_ms = int(reply[2])
        return SubmitRefused(
            cast(SubmitRefusal, outcome), limits, None if wait_ms < 0 else wait_ms, reply[3].decode()
        )

    async def read(self, user: str, job_id: str) -> tuple[JobView | None, LimitsView]:
        """A job of the user's, and his limits. None: another's, never issued, or gone; there is no telling which."""
        reply = await self._run(_read, user, job_id)
        limits = decode_limits(user, reply[0])
        return (_view(reply[1:]) if len(reply) > 1 else None), limits

    async def limits(self, user: str) -> LimitsView:
        """The user's limits and what is left of them."""
        return decode_limits(user, (await self._run(_read, user, ""))[0])

    async def list(
        self, user: str, *, limit: int, after: str | None, status: State | None, custom_id: str | None
    ) -> tuple[list[JobView], bool, LimitsView]:
        """The user's jobs, newest first, from behind the job `after`; whether there are more; and his limits."""
        found: list[JobView] = []
        cursor = after or ""
        while True:
            kept = "" if custom_id is None else f"={custom_id}"
            reply = await self._run(_list, user, cursor, status or "", kept, LIST_SCAN, limit - len(found))
            limits = decode_limits(user, reply[0])
            found += map(_view, reply[3:])
            if reply[2] != 1:
                return found, reply[2] == 2, limits
            cursor = reply[1].decode()

    async def cancel(self, user: str, job_id: str) -> CancelOutcome:
        """End a queued job at once, ask the worker of a running one to stop it."""
        reply = await self._run(_cancel, user, job_id)
        job = _view(reply[2:]) if len(reply) > 2 else None
        return CancelOutcome(reply[0].decode(), job, decode_limits(user, reply[1]))

    async def erase(self, user: str, job_id: str) -> EraseOutcome:
        """Forget a finished job's record, prompt and result now."""
        reply = await self._run(_erase, user, job_id)
        return EraseOutcome(reply[0].decode(), decode_limits(user, reply[1]))

    async def sweep(self) -> None:
        """Work off what is due by time; every process calls it once a second."""
        await self._run(_sweep, self._lease_ms)

    async def confirm(self) -> None:
        """Prove that Redis holds the data this process knows."""
        await self._run.confirm()

    async def ping(self) -> None:
        """Prove that Redis is there, writable, and holds the data this process knows."""
        await self._run.confirm()
        await self._redis.set(keys.WRITABLE, b"1", px=WRITABLE_MS)


def _view(row: list[Any]) -> JobView:
    return decode_view(row[0].decode(), *row[1:])
