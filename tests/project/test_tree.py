"""The repository's text names no file of one developer's machine."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tests.project.files import ROOT

HIDDEN_BUT_OURS = {".ci", ".github"}
MADE_BY_TOOLS = {"__pycache__", "dist"}
HOME_DIRECTORY = re.compile(rb"(?<![\w.~$})-])/(?:home/\w|Users/\w|root/|work/)")


def text_files() -> Iterator[tuple[Path, bytes]]:
    """Every file that a commit could hold and a person could read."""
    for directory, children, names in os.walk(ROOT):
        children[:] = [
            name
            for name in children
            if name in HIDDEN_BUT_OURS or not (name in MADE_BY_TOOLS or name.startswith("."))
        ]
        for name in names:
            path = Path(directory, name)
            content = path.read_bytes()
            if name not in {".env", ".git", "uv.lock"} and b"\0" not in content[:8192]:
                yield path, content


def test_no_file_names_a_place_on_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {content[match.start() : match.start() + 40]!r}"
        for path, content in text_files()
        if (match := HOME_DIRECTORY.search(content))
    ]
    assert found == []


def test_such_a_place_would_be_found() -> None:
    separator = b"/"
    for directory in (b"home", b"Users", b"root", b"work"):
        assert HOME_DIRECTORY.search(
            b"see " + separator + directory + separator + b"me" + separator + b"notes"
        )
    assert not HOME_DIRECTORY.search(
        b"https:" + separator * 2 + b"example.com" + separator + b"work" + separator
    )
