"""A batch over the service of service.py: its files, and runs of it that end, are stopped, or crash."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.batch.api import Api
from cli.batch.journal import Journal, Sums
from cli.batch.lines import Defaults, raw_lines, read_request
from cli.batch.output import Output
from cli.batch.run import Options, Run
from tests.cli.batch.service import FakeService

DEFAULTS = Defaults("m")


@dataclass
class Rig:
    """One batch in a folder."""

    folder: Path
    service: FakeService
    in_flight: int = 50

    @property
    def source(self) -> Path:
        """The input."""
        return self.folder / "in.jsonl"

    @property
    def target(self) -> Path:
        """The output."""
        return self.folder / "out.jsonl"

    @property
    def state(self) -> Path:
        """The journal."""
        return self.folder / "out.jsonl.state"

    def begin(self, *prompts: str) -> None:
        """Writes the input, and the journal that the command makes of it."""
        self.source.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
        with closing(Journal.open(self.state)) as journal, self.source.open("rb") as file:
            for line in raw_lines(file):
                journal.add(line.number, line.at, read_request(line, DEFAULTS).custom_id)
            journal.set_facts(input="begun")
            journal.commit()

    def retry(self) -> int:
        """As by --retry-failed."""
        with closing(Journal.open(self.state)) as journal:
            found = journal.again()
            journal.commit()
            return found

    async def run(
        self,
        *,
        until: Callable[[], bool] = lambda: False,
        journal_class: type[Journal] = Journal,
        show: Callable[[Api], None] = lambda api: None,
    ) -> Sums:
        """Goes on with the batch to its end, or until it is stopped."""
        with closing(journal_class.open(self.state)) as journal:
            async with self.service.http() as http:
                api = Api(http, self.service.time.clock)
                with closing(Output(self.target, journal)) as output, self.source.open("rb") as file:
                    options = Options(DEFAULTS, "batch", "wait", self.in_flight)
                    run = Run(file, journal, output, api, options, clock=self.service.time.clock)
                    work = asyncio.create_task(run.carry_out(lambda: show(api)))
                    going = asyncio.create_task(self.service.time.run())
                    try:
                        while not work.done():
                            await asyncio.sleep(0)
                            if until():
                                work.cancel()
                                with contextlib.suppress(asyncio.CancelledError):
                                    await work
                        if not work.cancelled():
                            work.result()
                    finally:
                        going.cancel()
                    return run.sums

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The output as whoever reads it gets it."""
        return [json.loads(line) for line in self.target.read_bytes().splitlines()]

    @property
    def echoes(self) -> list[str | None]:
        """What was answered, line by line; None for an error."""
        return [one["response"] and one["response"]["body"].get("echo") for one in self.lines]
