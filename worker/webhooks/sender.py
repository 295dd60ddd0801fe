"""Sends webhooks beside the jobs: claim, prepare, post, settle. A slow receiver never takes a job's slot."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import structlog
from redis.exceptions import RedisError

from jobs.runner import EpochChanged
from jobs.webhooks.event import job_event
from jobs.webhooks.outbox import Outbox, Outcome
from jobs.webhooks.record import Attempt, ClaimedDelivery, DeliveryClaim
from jobs.webhooks.signing import SecretBox, SecretLostError, hint, new_secret, signed_headers
from worker.seam import RECONNECT_S, WakeSleep
from worker.webhooks.guarded import Delivered, Failed, GuardedClient

AT_ONCE: Final = 200
"""Deliveries under way in one worker."""

ResultT = TypeVar("ResultT")

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Sending:
    claimed: ClaimedDelivery
    task: "asyncio.Task[None]"
    lost: bool = field(default=False)


class Sender:
    """One worker's. `sleep` waits for a wake token; `spread` draws what waits are multiplied by, within ±20 %.

    `now_s`: Unix time, for the timestamps that are signed.
    """

    def __init__(
        self,
        outbox: Outbox,
        client: GuardedClient,
        box: SecretBox,
        *,
        sleep: WakeSleep,
        at_once: int = AT_ONCE,
        spread: Callable[[], float] = lambda: random.uniform(0.8, 1.2),
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.client = client
        self._outbox = outbox
        self._box = box
        self._sleep = sleep
        self._at_once = at_once
        self._spread = spread
        self._now_s = now_s
        self._sending: dict[str, _Sending] = {}
        self._one_ended = asyncio.Event()
        self._stopping = asyncio.Event()
        self._cut = asyncio.Event()
        self._stopped_at = 0.0
        self._sequence = 0
        self._failures = 0

    def leases(self) -> list[tuple[str, str]]:
        """The deliveries under way as (id, token); may be called from another thread."""
        return [(one.claimed.delivery.id, token) for token, one in list(self._sending.items())]

    def lease_lost(self, token: str) -> None:
        """Stop what was sent under a lease that is lost: another worker has it now."""
        one = self._sending.get(token)
        if one is not None:
            one.lost = True
            one.task.cancel()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Claim nothing more; what is under way may end. A second call ends it at once."""
        if self._stopping.is_set():
            self._cut.set()
        else:
            self._stopped_at = asyncio.get_running_loop().time()
        self._stopping.set()

    async def run(self) -> None:
        """Claim and send until stopped."""
        while not self._stopping.is_set():
            free = self._at_once - len(self._sending)
            if free <= 0:
                await self._until_one_ends(1.0)
                continue
            claim = await self._claim(free)
            if claim is None:
                continue
            self._start(claim)
            if len(claim.deliveries) < free:
                await self._idle(claim.wait_ms / 1000)
        await self._start_unheard()

    async def drain(self, within_s: float) -> None:
        """Wait for what is under way, once `run` has ended, until so long after the first `stop`.

        What then remains goes back, to be sent again.
        """
        cut = asyncio.create_task(self._cut.wait())
        deadline = self._stopped_at + within_s
        while self._sending and not self._cut.is_set():
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0:
                break
            tasks = {one.task for one in self._sending.values()}
            await asyncio.wait({*tasks, cut}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        left = [one.task for one in self._sending.values()]
        for task in left:
            task.cancel()
        await asyncio.gather(cut, *left, return_exceptions=True)

    async def _claim(self, free: int) -> DeliveryClaim | None:
        try:
            claim = await self._outbox.claim(self._sequence, free)
        except (RedisError, EpochChanged) as error:
            # Asked again under the same number: deliveries of an answer that was lost are not.
            wait_s = RECONNECT_S[min(self._failures, len(RECONNECT_S) - 1)]
            self._failures += 1
            log.warning("no claim of webhooks", error=str(error) or type(error).__name__, again_in_s=wait_s)
            await self._until_one_ends(wait_s)
            return None
        self._failures = 0
        self._sequence += 1
        return claim

    def _start(self, claim: DeliveryClaim) -> None:
        for claimed in claim.deliveries:
            task = asyncio.create_task(self._run(claimed))
            self._sending[claimed.token] = _Sending(claimed, task)

    async def _start_unheard(self) -> None:
        """What a last claim took whose answer was lost: asked for none, its number only tells that. It need not wait
        for the end of its lease.
        """
        for _ in RECONNECT_S:
            if not self._failures or self._cut.is_set():
                return
            claim = await self._claim(0)
            if claim is not None:
                self._start(claim)

    async def _idle(self, seconds: float) -> None:
        """Until woken, or stopped."""
        sleeping = asyncio.ensure_future(self._sleep(seconds))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            stopping.cancel()
            await asyncio.gather(sleeping, stopping, return_exceptions=True)

    async def _until_one_ends(self, at_most_s: float) -> None:
        self._one_ended.clear()
        try:
            async with asyncio.timeout(at_most_s):
                await self._one_ended.wait()
        except TimeoutError:
            return

    async def _run(self, claimed: ClaimedDelivery) -> None:
        try:
            await self._send(claimed)
        except asyncio.CancelledError:
            if not self._sending[claimed.token].lost:
                await self._hand_back(claimed)
        except EpochChanged:
            log.error("delivery dropped: Redis lost its data", delivery=claimed.delivery.id)
        except Exception:
            # Its lease ends, and it is tried again: by a worker that can, it may be hoped.
            log.exception("delivery failed for a reason of our own", delivery=claimed.delivery.id)
        finally:
            del self._sending[claimed.token]
            self._one_ended.set()

    async def _send(self, claimed: ClaimedDelivery) -> None:
        started_ms = round(self._now_s() * 1000)
        ready = await self._prepared(claimed)
        if ready is None:
            return
        try:
            secrets = [
                self._box.open(sealed, ready.delivery.user)
                for sealed in (ready.secret, ready.old_secret)
                if sealed
            ]
        except SecretLostError as error:
            log.error("delivery cannot be signed", delivery=ready.delivery.id, error=str(error))
            await self._settle(ready, "ours", Attempt(started_ms, error=str(error), ours=True))
            return
        headers = {"content-type": "application/json"} | signed_headers(
            secrets, ready.delivery.event_id, int(self._now_s()), ready.body
        )
        outcome = await self.client.post(ready.url, ready.body, headers)
        await self._conclude(ready, started_ms, outcome)

    async def _prepared(self, claimed: ClaimedDelivery) -> ClaimedDelivery | None:
        """The delivery with its body and its secret, which the first attempt makes; None: it is no longer ours."""
        if claimed.body and claimed.secret:
            return claimed
        delivery, body = claimed.delivery, claimed.body
        if not body:
            assert claimed.job is not None, "a delivery without a body comes with its job"
            body = job_event(delivery.event_id, delivery.event_type, claimed.job)
        secret = "" if claimed.secret else new_secret()
        sealed = self._box.seal(secret, delivery.user) if secret else ""
        return await self._keep_trying(
            lambda: self._outbox.prepare(
                claimed, body, secret=sealed, secret_hint=hint(secret) if secret else ""
            )
        )

    async def _conclude(self, claimed: ClaimedDelivery, started_ms: int, outcome: Delivered | Failed) -> None:
        duration_ms = round(outcome.duration_s * 1000)
        if isinstance(outcome, Failed):
            attempt = Attempt(started_ms, duration_ms, error=outcome.reason, ours=outcome.our_fault)
            await self._settle(claimed, "ours" if outcome.our_fault else "failed", attempt)
            return
        status = outcome.status
        attempt = Attempt(started_ms, duration_ms, status, _wrong(status), outcome.snippet)
        what: Outcome = "delivered" if 200 <= status < 300 else "gone" if status == 410 else "failed"
        retry_after_s = outcome.retry_after_s if status in (429, 503) else None
        await self._settle(
            claimed, what, attempt, None if retry_after_s is None else round(retry_after_s * 1000)
        )

    async def _settle(
        self, claimed: ClaimedDelivery, what: Outcome, attempt: Attempt, retry_after_ms: int | None = None
    ) -> None:
        spread = self._spread()
        await self._keep_trying(
            lambda: self._outbox.settle(claimed, what, attempt, spread=spread, retry_after_ms=retry_after_ms)
        )

    async def _hand_back(self, claimed: ClaimedDelivery) -> None:
        """A delivery that was cut off goes back; where Redis cannot be told so, its lease ends."""
        attempt = Attempt(round(self._now_s() * 1000), error="the worker that sent it was stopped", ours=True)
        try:
            await self._outbox.settle(claimed, "ours", attempt, spread=self._spread())
        except (RedisError, EpochChanged) as error:
            log.warning("delivery not handed back", delivery=claimed.delivery.id, error=type(error).__name__)

    async def _keep_trying(self, step: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """An outcome is kept while Redis is away: it was paid for with an attempt."""
        failures = 0
        while True:
            try:
                return await step()
            except RedisError as error:
                wait_s = RECONNECT_S[min(failures, len(RECONNECT_S) - 1)]
                failures += 1
                log.warning("webhook not settled yet", error=type(error).__name__, again_in_s=wait_s)
                await asyncio.sleep(wait_s)


def _wrong(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"the receiver answered {status}: redirects are not followed"
    return f"the receiver answered {status}"
