"""What an API process does besides answering: tasks that run as long as it does and outlive Redis's absences."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import structlog

from api.errors import Problem, problem_of

CANCEL_AGAIN_S = 0.2

log = structlog.get_logger(__name__)


class Background:
    """Keeps tasks from being forgotten, and ends them all."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[None, None, None], name: str) -> None:
        """Run this beside the requests; should it fail, that is logged."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background task ended", task=task.get_name(), exc_info=error)

    async def stop(self) -> None:
        """Cancel what runs, and wait until it has ended."""
        tasks = set(self._tasks)
        while tasks:
            for task in tasks:
                task.cancel()
            # Once is not enough: asyncio.wait_for of Python 3.11, which redis-py uses, loses a cancellation that comes
            # at the moment of its result.
            _, tasks = await asyncio.wait(tasks, timeout=CANCEL_AGAIN_S)


async def repeat(name: str, interval_s: float, action: Callable[[], Awaitable[None]]) -> None:
    """Do this again and again, whether or not it succeeds; a row of failures is logged once."""
    failing = False
    while True:
        failing = not await _attempt(name, action, silent=failing)
        await asyncio.sleep(interval_s)


async def until_done(name: str, interval_s: float, action: Callable[[], Awaitable[None]]) -> None:
    """Do this again and again until it succeeds; failures are logged once."""
    failing = False
    while not await _attempt(name, action, silent=failing):
        failing = True
        await asyncio.sleep(interval_s)


async def _attempt(name: str, action: Callable[[], Awaitable[None]], *, silent: bool) -> bool:
    try:
        await action()
    except Exception as error:
        if not silent:
            expected = problem_of(error) is not None
            reason = error.detail if isinstance(error, Problem) else type(error).__name__
            log.warning("background work fails", work=name, reason=reason, exc_info=not expected)
        return False
    return True
