"""Runs a worker that kills itself, as by kill -9, at one point of a webhook's way.

    python -m tests.chaos.dying <point> worker ...

Each point is the first return of a call with which something has become known: to Redis, or to the receiver. It dies
once it runs no other job, and claims none until then: its death costs no job an attempt.
"""

import asyncio
import importlib
import os
import signal
import sys
from typing import Any, Final

from jobs.claims import Claims, Renewal
from jobs.record import Claim, ClaimedJob
from tests.chaos.waiting import eventually

POINTS: Final = {
    # The job has ended, and nobody has looked at its delivery.
    "settled": ("jobs.claims", "Claims", "settle"),
    # A lease is taken; nothing is built.
    "claimed": ("jobs.webhooks.outbox", "Outbox", "claim"),
    # What is sent is fixed; nothing is sent.
    "prepared": ("jobs.webhooks.outbox", "Outbox", "prepare"),
    # The receiver has answered 2xx; nobody but this process knows.
    "posted": ("worker.webhooks.guarded", "GuardedClient", "post"),
    # The answer is noted.
    "noted": ("jobs.webhooks.outbox", "Outbox", "settle"),
}


class Work:
    """The jobs that this process has claimed and not yet given up, by the tokens of their leases."""

    def __init__(self) -> None:
        self._tokens: set[str] = set()
        self._asking = 0
        self._over = False

    async def over(self) -> None:
        """Returns once there is none, and will be none. Raises TimeoutError."""
        self._over = True
        await eventually(lambda: not self._asking and not self._tokens)

    def watch(self) -> None:
        """Note what is claimed, and what ends, from now on."""
        claim, renew = Claims.claim, Claims.renew

        async def noted_claim(claims: Claims, *given: Any, **options: Any) -> Claim:
            if self._over:
                await asyncio.Event().wait()
            self._asking += 1
            try:
                taken = await claim(claims, *given, **options)
                self._tokens |= {job.token for job in taken.jobs}
            finally:
                self._asking -= 1
            return taken

        async def noted_renew(claims: Claims, *given: Any, **options: Any) -> Renewal:
            renewal = await renew(claims, *given, **options)
            self._tokens -= {*renewal.lost}
            return renewal

        for name, call in (("claim", noted_claim), ("renew", noted_renew)):
            setattr(Claims, name, call)
        for name in ("settle", "put_back"):
            setattr(Claims, name, self._ending(getattr(Claims, name)))

    def _ending(self, call: Any) -> Any:
        async def noted(claims: Claims, job: ClaimedJob, *given: Any, **options: Any) -> bool:
            ours: bool = await call(claims, job, *given, **options)
            self._tokens.discard(job.token)
            return ours

        return noted


def plant(point: str) -> None:
    """Lets the process die there."""
    work = Work()
    work.watch()
    module, kind, name = POINTS[point]
    owner = getattr(importlib.import_module(module), kind)
    call = getattr(owner, name)

    async def last(self: Any, *given: Any, **options: Any) -> Any:
        outcome = await call(self, *given, **options)
        if getattr(outcome, "deliveries", True):
            await work.over()
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome

    setattr(owner, name, last)


if __name__ == "__main__":
    plant(sys.argv[1])
    from cli.main import main

    main(sys.argv[2:])
