"""What `up` and `demo` have in common: signals that stop them, an API to wait for, the environment of the children."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2
from pydantic import ValidationError

from cli.errors import CommandError
from cli.secrets import Secrets
from cli.supervisor import Supervisor
from cli.wire import Problem

# A large append-only file takes a while to be read back.
READY_WITHIN_S = 120.0
_POLL_S = 0.1

Result = TypeVar("Result")


class StoppedError(Exception):
    """Somebody asked for the end while something else was being waited for."""


@dataclass(slots=True)
class StopRequest:
    """Ctrl-C, SIGTERM or a closed terminal: the first sets `asked`, the second `hurry`."""

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)

    def listen(self) -> None:
        """Takes over the signals of this process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Under nohup a closed terminal is to be ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._ask)

    def _ask(self) -> None:
        (self.hurry if self.asked.is_set() else self.asked).set()

    async def unless(self, work: Coroutine[Any, Any, Result], supervisor: Supervisor) -> Result:
        """What `work` returns. Raises StoppedError if the end is asked for first, CommandError if a child is lost."""
        task = asyncio.ensure_future(work)
        lost = asyncio.ensure_future(supervisor.until_lost())
        asked = asyncio.ensure_future(self.asked.wait())
        try:
            await asyncio.wait({task, lost, asked}, return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                lost.result()
            if task.done():
                return task.result()
            raise StoppedError
        finally:
            for other in (task, lost, asked):
                other.cancel()
            await asyncio.gather(task, lost, asked, return_exceptions=True)


async def until_ready(url: str, *, within_s: float = READY_WITHIN_S) -> None:
    """Returns once GET `url` answers 200. Raises CommandError with its last answer if it does not in time."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + within_s
    last = "it does not answer"
    async with httpx2.AsyncClient(timeout=5, trust_env=False) as http:
        while loop.time() < deadline_s:
            try:
                answer = await http.get(url)
                if answer.is_success:
                    return
                last = _told(answer)
            except httpx2.HTTPError:
                last = "it does not answer"
            await asyncio.sleep(_POLL_S)
    raise CommandError(f"{url} was not ready within {within_s:g} s: {last}")


def _told(answer: httpx2.Response) -> str:
    try:
        return Problem.model_validate_json(answer.content).detail
    except ValidationError:
        return f"it answers {answer.status_code}"


def child_environment(redis_url: str, secrets: Secrets, **more: str) -> dict[str, str]:
    """The environment of the API and the workers."""
    return {
        **os.environ,
        "REDIS_URL": redis_url,
        "PENSTOCK_ADMIN_KEY": secrets.admin_key,
        "PENSTOCK_SECRET": secrets.secret,
        **more,
    }
