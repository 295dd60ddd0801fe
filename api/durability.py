"""Whether Redis keeps what it is given and has room for more.

Looked at before the first job is accepted, and for /readyz now and then.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from jobs.connection import durability_problems, server_facts

if TYPE_CHECKING:
    from redis.asyncio import Redis

LOOK_INTERVAL_S = 2.0
"""A load balancer asks for readiness often; the server's own description of itself is long."""


class Durability:
    """What is wrong with this Redis. With `required` False, nothing ever is."""

    def __init__(
        self, redis: "Redis", *, required: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._redis = redis
        self._required = required
        self._clock = clock
        self._looked_at = float("-inf")
        self._reasons: tuple[str, ...] = ()

    async def reasons(self) -> tuple[str, ...]:
        """Why jobs may not be entrusted to it, none if they may. Raises RedisError if it cannot be asked."""
        if self._required and self._clock() - self._looked_at >= LOOK_INTERVAL_S:
            facts = await server_facts(self._redis)
            reasons = [one.message for one in durability_problems(facts) if one.severity == "error"]
            if facts.maxmemory_bytes and (facts.used_memory_bytes or 0) >= facts.maxmemory_bytes:
                reasons.append("its memory is full: raise maxmemory, or shorten retention.jobs_s")
            self._reasons = tuple(reasons)
            self._looked_at = self._clock()
        return self._reasons
