"""The deliveries as a worker sees them: claimed under a lease, prepared, settled; each is one script."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from jobs.codec import decode_view
from jobs.runner import Runner, job_script
from jobs.webhooks.record import Attempt, ClaimedDelivery, DeliveryClaim, decode_delivery

if TYPE_CHECKING:
    from redis.asyncio import Redis

_claim = job_script("deliveries_claim")
_prepare = job_script("deliveries_prepare")
_settle = job_script("deliveries_settle")

CLAIM_BYTES = 8 * 1024 * 1024
"""No claim's answer carries much more than this."""

Outcome = Literal["delivered", "failed", "gone", "ours"]


class Outbox:
    """One worker's side. All methods raise EpochChanged, and redis.exceptions.RedisError when Redis cannot serve;
    every one may then be repeated with the same arguments.
    """

    def __init__(
        self, redis: "Redis", worker: str, *, lease_ms: int, clock: Callable[[], int] | None = None
    ) -> None:
        self._run = Runner(redis, clock)
        self.worker = worker
        self._lease_ms = lease_ms

    async def start(self) -> None:
        """Remember the epoch of the data; call once per process, before anything else."""
        await self._run.start()

    async def claim(self, sequence: int, slots: int) -> DeliveryClaim:
        """Take up to `slots` deliveries; the same sequence number again gives the same ones."""
        reply = await self._run(_claim, self.worker, sequence, slots, self._lease_ms, CLAIM_BYTES)
        return DeliveryClaim(tuple(_claimed(row) for row in reply[2:]), reply[0], reply[1])

    async def prepare(
        self, claimed: ClaimedDelivery, body: bytes, *, secret: str = "", secret_hint: str = ""
    ) -> ClaimedDelivery | None:
        """Keep what is sent on every attempt, and the encrypted default secret of a user who has none yet.

        Answers the delivery with what was kept first. None: it is no longer ours.
        """
        reply = await self._run(_prepare, claimed.delivery.id, claimed.token, body, secret, secret_hint)
        if reply[0] != b"ready":
            return None
        return ClaimedDelivery(
            claimed.delivery, claimed.token, claimed.url, reply[1], reply[2].decode(), reply[3].decode(), None
        )

    async def settle(
        self,
        claimed: ClaimedDelivery,
        outcome: Outcome,
        attempt: Attempt,
        *,
        spread: float,
        retry_after_ms: int | None = None,
    ) -> bool:
        """Note what an attempt came to; a wait that follows is multiplied by `spread`. False: it is no longer ours."""
        reply = await self._run(
            _settle, claimed.delivery.id, claimed.token, outcome,
            "" if attempt.status_code is None else attempt.status_code, attempt.encode(),
            "" if retry_after_ms is None else retry_after_ms, spread,
        )  # fmt: skip
        return bool(reply == b"settled")


def _claimed(row: Sequence[bytes]) -> ClaimedDelivery:
    delivery_id, token, head, body, url, secret, old, *job = row
    delivery = decode_delivery(delivery_id.decode(), head)
    view = None
    if job and delivery.job is not None:
        view = decode_view(delivery.job, job[0], job[1], job[2] or None, job[3] or None)
    return ClaimedDelivery(delivery, token.decode(), url.decode(), body, secret.decode(), old.decode(), view)
