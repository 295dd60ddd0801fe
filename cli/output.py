"""How commands print: tables and text for people, JSON for scripts, both without a terminal too."""

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Wide enough that a line in a pipe or a log file is never folded or cut.
_PIPE_WIDTH = 1000


def console() -> Console:
    """Standard output. Text is printed as it is: prompts and answers may hold what looks like markup."""
    return _console(stderr=False)


def notices() -> Console:
    """Standard error, for what is not the result."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH
    return made


def printable(text: str) -> str:
    """The text with control characters written out: no answer may steer the terminal it is shown on."""
    return "".join(char if char.isprintable() or char in "\n\t" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii") if ord(char) < 0xA0 else char


def print_text(text: str) -> None:
    """A result that is text: to a terminal without what could steer it, to a pipe or a file as it is."""
    sys.stdout.write((printable(text) if sys.stdout.isatty() else text) + "\n")


def print_json(value: JsonValue) -> None:
    """A result for scripts, as one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, numbers: Sequence[str] = ()
) -> Table:
    """A table without frames; the columns in `numbers` are aligned to the right."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        made.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
    for row in rows:
        made.add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in row))
    return made


def number(value: int | None) -> str:
    """An amount for people, with thousands separated; a dash for none."""
    return "-" if value is None else f"{value:,}"


def limit(value: int | None) -> str:
    """A limit for people."""
    return "unlimited" if value is None else f"{value:,}"


def dollars(value: float | None) -> str:
    """An estimated cost in US dollars; a dash where it is not known."""
    if value is None:
        return "-"
    return f"${value:.2f}" if value >= 1 else f"${value:.6f}"


def this_command() -> str:
    """How this program was called, for lines that are to be copied."""
    called = Path(sys.argv[0])
    if called.name != "penstock":
        return "python -m cli.main"
    return "penstock" if shutil.which("penstock") == str(called.absolute()) else str(called)


def moment(unix_s: int | None) -> str:
    """A time for people, in UTC; a dash for none."""
    return "-" if unix_s is None else f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S}"


def duration(seconds: float) -> str:
    """A span of time for people, rounded up to whole seconds."""
    whole = max(0, -int(-seconds // 1))
    minutes, left_s = divmod(whole, 60)
    hours, left_min = divmod(minutes, 60)
    if hours:
        return f"{hours} h {left_min} min"
    return f"{minutes} min {left_s} s" if minutes else f"{left_s} s"
