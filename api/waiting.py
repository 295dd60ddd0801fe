"""Requests that wait for a job's end: woken by the one subscription of this process, never by polling.

Whoever waits registers first and reads then, so that no end falls between; whenever the subscription comes (back),
all are woken to read again.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from starlette.types import Receive


class Wake:
    """One request's ear. `gone`: the client has hung up; `asleep`: it waits at this moment."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.gone = False
        self.asleep = False

    def call(self) -> None:
        """Wake whoever waits."""
        self._event.set()

    async def wait(self, timeout_s: float) -> None:
        """Returns when called since the last wait, or after `timeout_s`."""
        self.asleep = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            pass
        finally:
            self.asleep = False
        self._event.clear()


class Waiters:
    """All requests of this process that wait for a job."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[Wake]] = {}
        self.draining = False

    @contextlib.contextmanager
    def listen(self, job_id: str) -> Iterator[Wake]:
        """An ear for this job's end for as long as the block lasts."""
        wake = Wake()
        self._waiting.setdefault(job_id, set()).add(wake)
        try:
            yield wake
        finally:
            waiting = self._waiting[job_id]
            waiting.discard(wake)
            if not waiting:
                del self._waiting[job_id]

    @property
    def count(self) -> int:
        """How many requests wait at this moment."""
        return sum(wake.asleep for waiting in self._waiting.values() for wake in waiting)

    def ended(self, job_id: str) -> None:
        """A job has ended."""
        for wake in self._waiting.get(job_id, ()):
            wake.call()

    def hearing(self, ends_are_heard: bool) -> None:
        """Ends may have been missed until now: all look again."""
        if ends_are_heard:
            self._call_all()

    def drain(self) -> None:
        """This process is about to stop: nobody waits any longer."""
        self.draining = True
        self._call_all()

    def _call_all(self) -> None:
        for waiting in self._waiting.values():
            for wake in waiting:
                wake.call()


@contextlib.asynccontextmanager
async def until_gone(receive: Receive, wake: Wake) -> AsyncIterator[None]:
    """Wakes the request when its client hangs up, for as long as the block lasts; its body must have been read."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        wake.gone = True
        wake.call()

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        # Unlike awaiting the task, this lets a cancellation of our own through.
        await asyncio.wait((task,))
