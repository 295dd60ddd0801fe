"""How commands print: tables and text for people, JSON for scripts, both without a terminal too."""

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console
from rich.text import Text


def console() -> Console:
    """Standard output. Text is printed as it is: prompts and answers may hold what looks like markup."""
    return _console(stderr=False)


def notices() -> Console:
    """Standard error, for what is not the result."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    # Lines are left as long as they are: whatever is copied or piped must not be folded or cut.
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


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
) -> Text:
    """Columns below their names (empty names: no header), those in `numbers` aligned to the right."""
    cells = [[cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row] for row in rows]
    if any(columns):
        cells.insert(0, [Text(name, style="bold") for name in columns])
    widths = [max((cell.cell_len for cell in column), default=0) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        line = Text()
        for name, cell, width in zip(columns, row, widths, strict=True):
            gap = " " * (width - cell.cell_len)
            line += Text.assemble(gap, cell, "  ") if name in numbers else Text.assemble(cell, gap, "  ")
        line.rstrip()
        lines.append(line)
    return Text("\n").join(lines)


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
