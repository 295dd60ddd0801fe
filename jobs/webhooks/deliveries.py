"""Deliveries as their user sees them: listed, read with their attempts, sent again."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from jobs.runner import Runner, job_script
from jobs.webhooks.record import Attempt, Delivery, DeliveryStatus, decode_delivery

if TYPE_CHECKING:
    from redis.asyncio import Redis

_list = job_script("deliveries_list")
_read = job_script("deliveries_read")
_redeliver = job_script("deliveries_redeliver")
_recover = job_script("deliveries_recover")

LIST_SCAN = 200
"""Deliveries looked at in one call of the list script: what bounds the time Redis is held."""
RECOVERED_AT_ONCE = 50


class Deliveries:
    """All methods raise EpochChanged, and redis.exceptions.RedisError when Redis cannot serve."""

    def __init__(self, redis: "Redis", *, clock: Callable[[], int] | None = None) -> None:
        self._run = Runner(redis, clock)

    async def start(self) -> None:
        """Remember the epoch of the data; call once per process, before anything else."""
        await self._run.start()

    async def list(
        self,
        user: str,
        *,
        limit: int,
        after: str | None = None,
        job_id: str | None = None,
        status: DeliveryStatus | None = None,
    ) -> tuple[list[Delivery], bool]:
        """The user's deliveries, those of the newest jobs first, from behind `after`; whether there are more."""
        prefix = "" if job_id is None else f"dlv_{job_id.removeprefix('job_')}_"
        found: list[Delivery] = []
        cursor = after or ""
        while True:
            reply = await self._run(_list, user, cursor, prefix, status or "", LIST_SCAN)
            for row in reply[2:]:
                if len(found) == limit:
                    return found, True
                found.append(decode_delivery(row[0].decode(), row[1]))
            if not reply[1]:
                return found, False
            cursor = reply[0].decode()

    async def get(self, user: str, delivery_id: str) -> tuple[Delivery, tuple[Attempt, ...]] | None:
        """One of the user's deliveries with its last attempts, the oldest first. None: another's, or there is none."""
        reply = await self._run(_read, user, delivery_id)
        if not reply:
            return None
        return decode_delivery(delivery_id, reply[0]), tuple(Attempt.decode(one) for one in reply[1:])

    async def redeliver(self, user: str, delivery_id: str) -> Delivery | Literal["deleted", "not_found"]:
        """Send one again by a whole new schedule, or at once if it waits. `deleted`: its endpoint is."""
        reply = await self._run(_redeliver, user, delivery_id)
        match reply[0]:
            case b"deleted":
                return "deleted"
            case b"not_found":
                return "not_found"
            case _:
                return decode_delivery(delivery_id, reply[1])

    async def recover(self, user: str, endpoint_id: str, *, since_ms: int) -> int | None:
        """Send again whatever of an endpoint has failed and was made since then. How many; None: no such endpoint."""
        count = 0
        while True:
            reply = await self._run(_recover, user, endpoint_id, since_ms, RECOVERED_AT_ONCE)
            if reply[0] == b"not_found":
                return None
            count += int(reply[1])
            if not reply[2]:
                return count
