"""Jobs that failed for good: listed for operators, and replayed as new jobs."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from jobs.codec import decode_replay, decode_view
from jobs.record import JobView, NewJob
from jobs.runner import Runner, job_script

if TYPE_CHECKING:
    from redis.asyncio import Redis

_dead = job_script("dead")


class DeadJobs:
    """Methods raise EpochChanged, and redis.exceptions.RedisError when Redis cannot serve."""

    def __init__(self, redis: "Redis", *, clock: Callable[[], int] | None = None) -> None:
        self._run = Runner(redis, clock)

    async def start(self) -> None:
        """Remember the epoch of the data; call once per process, before anything else."""
        await self._run.start()

    async def list(self, *, limit: int, after: str | None) -> tuple[list[JobView], bool]:
        """The dead jobs of all users, the last to fail first, from behind `after`; whether there are more."""
        reply = await self._run(_dead, after or "", limit)
        return [decode_view(row[0].decode(), *row[1:]) for row in reply[1:]], bool(reply[0])

    async def replay(self, job_id: str, new_id: str) -> NewJob | None:
        """The submission that replays a dead job under `new_id`; None if that job is none of them.

        Submitting it takes the dead job off the list. It counts against its user's budget, not his request rate.
        """
        reply = await self._run(_dead, job_id, "")
        return decode_replay(job_id, new_id, *reply) if reply else None
