"""The demo's progress: a table that changes in place on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.text import Text

from cli.demo_jobs import DemoUser
from cli.output import number, table

_COLUMNS = ("user", "tier", "queued", "running", "succeeded", "failed", "tokens")
_LINE_EVERY_S = 1.0


@dataclass(slots=True)
class Progress:
    """Shows how far the users' jobs are, each time it is told that more is known."""

    out: Console
    users: Sequence[DemoUser]
    _live: Live | None = None
    _began_s: float = field(default_factory=time.monotonic)
    _line: str = ""
    _line_at_s: float = float("-inf")

    def show(self) -> None:
        """Shows the present state; off a terminal at most once a second, except for the end."""
        if self._live is not None:
            self._live.update(self._table())
            return
        line, now_s = "; ".join(map(_told, self.users)), time.monotonic()
        due = now_s - self._line_at_s >= _LINE_EVERY_S or all(user.finished for user in self.users)
        if due and line != self._line:
            self._line, self._line_at_s = line, now_s
            self.out.print(f"{now_s - self._began_s:5.1f} s  {line}")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While the jobs run."""
        if self.out.is_terminal:
            with Live(self._table(), console=self.out, refresh_per_second=8) as self._live:
                yield
            self._live = None
        else:
            yield

    def _table(self) -> Text:
        return table(_COLUMNS, (_row(user) for user in self.users), numbers=_COLUMNS[2:])


def _row(user: DemoUser) -> list[str]:
    states = user.states
    ended = sum(states.values()) - states["queued"] - states["running"] - states["succeeded"]
    counts = (states["queued"], states["running"], states["succeeded"], ended, user.spent_tokens)
    return [user.name, user.tier, *map(number, counts)]


def _told(user: DemoUser) -> str:
    states = ", ".join(f"{count} {state}" for state, count in sorted(user.states.items()))
    return f"{user.name}: {states or 'nothing yet'}, {user.spent_tokens:,} tokens"
