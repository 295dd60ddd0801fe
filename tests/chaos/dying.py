"""Runs a worker that kills itself, as by kill -9, at one point of a webhook's way.

    python -m tests.chaos.dying <point> worker ...

Each point is the first return of a call with which something has become known: to Redis, or to the receiver.
"""

import importlib
import os
import signal
import sys
from typing import Any, Final

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


def plant(point: str) -> None:
    """Lets the process die there."""
    module, kind, name = POINTS[point]
    owner = getattr(importlib.import_module(module), kind)
    call = getattr(owner, name)

    async def last(self: Any, *given: Any, **options: Any) -> Any:
        outcome = await call(self, *given, **options)
        if getattr(outcome, "deliveries", True):
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome

    setattr(owner, name, last)


if __name__ == "__main__":
    plant(sys.argv[1])
    from cli.main import main

    main(sys.argv[2:])
