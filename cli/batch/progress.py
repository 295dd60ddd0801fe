"""A batch's progress: a bar on a terminal, plain lines elsewhere; jobs done, tokens, time to go, and why it waits."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.batch.journal import Sums
from cli.output import duration, printable

LINE_EVERY_S = 10.0
_SAMPLES = 120
"""With two a second, the time to go is that of the last minute's pace."""


class Pace:
    """How fast lines come to their end."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)

    def time_left_s(self, now_s: float, sums: Sums) -> float | None:
        """Seconds until all have; None while nothing tells."""
        self._samples.append((now_s, sums.ended))
        began_s, ended = self._samples[0]
        if sums.ended <= ended or now_s <= began_s:
            return None
        return (sums.lines - sums.ended) * (now_s - began_s) / (sums.ended - ended)


class Display:
    """Shows what `sums` says each time it is told that it has changed; `waits`: seconds it waits, and why."""

    def __init__(self, out: Console, name: str, sums: Sums, waits: Callable[[], tuple[float, str]]) -> None:
        self._out, self._name, self._sums, self._waits = out, printable(name), sums, waits
        self._pace = Pace()
        self._bar: Progress | None = None
        self._began_s = time.monotonic()
        self._line_at_s = float("-inf")
        self._line = self._line_why = ""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While the batch is under way."""
        if not self._out.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}", markup=False),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._out) as self._bar:
            self._bar.add_task(self._name, total=self._sums.lines, completed=self._sums.ended, told="")
            yield
        self._bar = None

    def show(self) -> None:
        """Shows the present state; off a terminal now and then, and when it begins to wait for another reason."""
        now_s = time.monotonic()
        told = self._told(now_s)
        wait_s, why = self._waits()
        if self._bar is not None:
            waits = f"; waits {duration(wait_s)}: {printable(why)}" if wait_s else ""
            self._bar.update(self._bar.task_ids[0], completed=self._sums.ended, told=told + waits)
            return
        news = (wait_s > 0 and why != self._line_why) or self._sums.ended == self._sums.lines
        done = f"{self._sums.ended:,} of {self._sums.lines:,} done"
        waits = f"; waits {duration(wait_s)}: {printable(why)}" if wait_s else ""
        line = f"{done}, {told}{waits}"
        if line != self._line and (news or now_s - self._line_at_s >= LINE_EVERY_S):
            self._line, self._line_at_s, self._line_why = line, now_s, why if wait_s else self._line_why
            self._out.print(f"{now_s - self._began_s:6.1f} s  {line}")

    def _told(self, now_s: float) -> str:
        sums = self._sums
        left_s = self._pace.time_left_s(now_s, sums)
        parts = [f"{sums.failed:,} failed"] if sums.failed else []
        parts.append(f"{sums.tokens:,} tokens")
        if left_s is not None and sums.ended < sums.lines:
            parts.append(f"about {duration(left_s)} to go")
        return ", ".join(parts)
