"""The pages of the documentation, and what of them can be checked: fenced blocks, commands, links, names."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHELL = shutil.which("sh") or "sh"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `line` is that of its first line of content."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it is, for messages and for the names of tests."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True, slots=True)
class Command:
    """A command as a page shows it, and the output below it; None where the page shows none."""

    place: str
    text: str
    shown: str | None


def blocks(*languages: str) -> list[Block]:
    """All blocks in these languages (none: in any), page by page."""
    return [block for page in PAGES for block in blocks_of(page) if block.language in (languages or KINDS)]


KINDS = ("sh", "console", "yaml", "json", "text")
"""What a block may be: for each there is a test beside this file."""


def blocks_of(page: Path) -> list[Block]:
    """The blocks of one page in their order."""
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, match.start()) + 2, match[1], match[2])
        for match in _FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return _FENCE.sub("", page.read_text())


def commands_of(block: Block) -> list[Command]:
    """The commands of a block in `sh` (each line one) or `console` (behind `$ `, followed by their output)."""
    lines = block.text.splitlines()
    found: list[Command] = []
    at = 0
    while at < len(lines):
        first = at
        text = lines[at]
        at += 1
        if block.language == "console":
            assert text.startswith("$ "), f"{block.place}: output without a command: {text}"
            text = text[2:]
        elif not text.strip() or text.startswith("#"):
            continue
        while at < len(lines) and not _is_complete(text):
            text += "\n" + lines[at]
            at += 1
        output = at
        if block.language == "console":
            while at < len(lines) and not lines[at].startswith("$ "):
                at += 1
        shown = "\n".join(lines[output:at]) if at > output else None
        found.append(Command(f"{block.page.relative_to(ROOT)}:{block.line + first}", text, shown))
    return found


def _is_complete(text: str) -> bool:
    """Whether a shell would run this, rather than ask for the rest of it."""
    return (
        not text.endswith("\\")
        and subprocess.run([_SHELL, "-n"], input=text, text=True, capture_output=True, check=False).returncode
        == 0
    )
