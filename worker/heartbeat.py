"""Keeps the leases of running jobs and deliveries: a thread with its own loop and connection, so that a briefly busy
event loop loses none; it falls silent when the main loop has not turned for a lease, so that a hung one does.
"""

import asyncio
import threading
import time
from collections.abc import Callable

import structlog
from redis.exceptions import RedisError

from jobs.claims import Claims, Renewal
from jobs.connection import connect
from jobs.runner import EpochChanged

log = structlog.get_logger(__name__)

Leases = Callable[[], list[tuple[str, str]]]
"""What is running and whose deadline has not passed, as (id, token); called from the thread."""


def pause_s(lease_s: float, *, renewed: bool) -> float:
    """Seconds until the next renewal: a third of a lease, or much less after one that failed.

    Leases end two thirds of a lease after an outage of Redis at the earliest (due.lua): whoever lives is heard by then.
    """
    return lease_s / 3 if renewed else lease_s / 12


class Heartbeat:
    """Renews every third of a lease, sooner where that failed.

    `on_renewal` is called in the thread with each answer of Redis.
    """

    def __init__(
        self,
        redis_url: str,
        worker: str,
        *,
        lease_s: float,
        slots: int,
        leases: Leases,
        deliveries: Leases,
        on_renewal: Callable[[Renewal], None],
    ) -> None:
        self._url = redis_url
        self._worker = worker
        self._lease_s = lease_s
        self._slots = slots
        self._leases = leases
        self._deliveries = deliveries
        self._on_renewal = on_renewal
        self._ticked = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def tick(self) -> None:
        """The main loop turns; to be called at least once a second."""
        self._ticked = time.monotonic()

    def stop(self) -> None:
        """End the thread and wait for it; at most for one answer of Redis."""
        self._stop.set()
        self._thread.join(timeout=self._lease_s)

    def _main(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        redis = connect(
            self._url, client_name="penstock-heartbeat", timeout_s=self._lease_s / 3, read_timeout_s=self._lease_s / 3,
            max_connections=1,
        )  # fmt: skip
        claims = Claims(redis, self._worker, lease_ms=round(self._lease_s * 1000))
        try:
            while not self._stop.is_set():
                turns = time.monotonic() - self._ticked < self._lease_s
                renewed = not turns or await self._renew(claims)
                await asyncio.to_thread(self._stop.wait, pause_s(self._lease_s, renewed=renewed))
        finally:
            await redis.aclose()

    async def _renew(self, claims: Claims) -> bool:
        """Whether the next one may wait its time."""
        try:
            renewal = await claims.renew(self._leases(), slots=self._slots, deliveries=self._deliveries())
        except (RedisError, EpochChanged) as error:
            log.warning("leases not renewed", error=type(error).__name__)
            return isinstance(error, EpochChanged)
        self._on_renewal(renewal)
        return True
