"""`penstock up --workers auto`: keeps as many workers as `/v1/scaling` recommends, within bounds, on this machine."""

import asyncio
from collections.abc import Callable

import httpx2
from pydantic import ValidationError

from cli.supervisor import Program, Supervisor
from cli.wire import Scaling

POLL_S = 2.0


class Autoscaler:
    """Starts workers, newest last, and lets the newest go first. `program` makes the nth worker's program.

    Between `least` and `most` of them run; one that is let go has `drain_s` to finish its jobs.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        program: Callable[[int], Program],
        *,
        least: int,
        most: int,
        drain_s: float,
        report: Callable[[str], None],
    ) -> None:
        self._supervisor = supervisor
        self._program = program
        self._least = least
        self._most = most
        self._drain_s = drain_s
        self._report = report
        self._names: list[str] = []
        self._made = 0

    async def have(self, wanted: int) -> None:
        """Start or let go as many workers as are missing or too many; those let go drain by themselves."""
        wanted = min(max(wanted, self._least), self._most)
        if wanted != len(self._names) and self._made:
            self._report(f"workers: {len(self._names)} -> {wanted}")
        while len(self._names) < wanted:
            self._made += 1
            program = self._program(self._made)
            await self._supervisor.start(program)
            self._names.append(program.name)
        while len(self._names) > wanted:
            self._supervisor.retire(self._names.pop(), self._drain_s)

    async def follow(self, url: str, key: str) -> None:
        """Ask the API at `url` again and again, for ever. While it does not answer, the workers stay."""
        headers = {"authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(timeout=5, trust_env=False, headers=headers) as http:
            while True:
                wanted = await _recommended(http, url)
                if wanted is not None:
                    await self.have(wanted)
                await asyncio.sleep(POLL_S)


async def _recommended(http: httpx2.AsyncClient, url: str) -> int | None:
    try:
        answer = await http.get(f"{url}/v1/scaling")
        return Scaling.model_validate_json(answer.content).workers.recommended if answer.is_success else None
    except (httpx2.HTTPError, ValidationError):
        return None
