"""The keys that docs/redis.md describes, and those that the code makes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.docs.pages import ROOT

_ROW = re.compile(r"^\| `([^`]+)` +\|.*\| ([^|]+) \|$", re.MULTILINE)
_MAKER = re.compile(r"^function [\w.]+\(([^)]*)\) return ('[^\n]*) end$", re.MULTILINE)
_PIECE = re.compile(r"'([^']*)'|(\w+)|\((\w+) and ' ' \.\. \w+ or ''\)")
_CALLED = re.compile(r"redis\.call\('[A-Z]+', '([a-z][\w:]*)'")
_NAMED = re.compile(
    r"^key\.[A-Z_]+ = '([^']+)'$|^local RECEIPTS, RECEIPTS_DUE = '(\w+)', '([\w:]+)'$", re.MULTILINE
)
_PYTHON = re.compile(r'^[A-Z_]+ = "([^"]+)"$', re.MULTILINE)
# Short names in the code for what the page calls otherwise.
_CALLS = {"who": "user"}


@dataclass(frozen=True, slots=True)
class Key:
    """A row of the page; `expiry` is what it says of that."""

    pattern: str
    expiry: str

    @property
    def regex(self) -> re.Pattern[str]:
        """Matches the names of such keys."""
        return re.compile(re.sub(r"<\w+>", ".+", self.pattern.replace(".", r"\.")))

    @property
    def literal_chars(self) -> int:
        """How special it is: of several patterns that match a name, the most special one is meant."""
        return len(re.sub(r"<\w+>", "", self.pattern))


def documented() -> list[Key]:
    """The page's tables."""
    keys: list[Key] = []
    for pattern, expiry in _ROW.findall((ROOT / "docs" / "redis.md").read_text()):
        told = expiry.strip()
        keys.append(Key(pattern, keys[-1].expiry if told.startswith("as above") else told))
    return keys


def channels() -> set[str]:
    """The page's channels."""
    text = (ROOT / "docs" / "redis.md").read_text().partition("## Channels")[2]
    return set(re.findall(r"`([^`]+)`", text))


def made() -> set[str]:
    """The patterns of all keys and channels in the code, with its names for what varies."""
    found: set[str] = set()
    for room in ("jobs", "limiter"):
        for path in (ROOT / room / "lua").glob("*.lua"):
            text = path.read_text()
            for expression in (match[2] for match in _MAKER.finditer(text)):
                found |= _patterns(expression)
            found |= set(_CALLED.findall(text))
            found |= {name for names in _NAMED.findall(text) for name in names if name}
    return found | set(_PYTHON.findall((ROOT / "jobs" / "keys.py").read_text()))


def _patterns(expression: str) -> set[str]:
    """What an expression such as `'lane:' .. name .. ' ' .. user` makes, with and without its optional part."""
    short = long = ""
    for literal, name, optional in _PIECE.findall(expression):
        piece = literal or (f"<{_CALLS.get(name, name)}>" if name else "")
        short += piece
        long += piece or f" <{_CALLS.get(optional, optional)}>"
    return {short, long}


def wrong_expiries(left_ms: Mapping[str, int], keys: Iterable[Key]) -> list[str]:
    """What is wrong with the keys of a server on which no job runs; `left_ms` as PTTL tells it."""
    wrong = []
    for name, left in left_ms.items():
        if left == -2:
            # Gone since it was listed: processes that idle come and go in some.
            continue
        matching = [key for key in keys if key.regex.fullmatch(name)]
        if not matching:
            wrong.append(f"{name} is not in docs/redis.md")
            continue
        meant = max(matching, key=lambda key: key.literal_chars)
        if (left == -1) != meant.expiry.startswith("none"):
            wrong.append(f"{name} has {left} ms left, but docs/redis.md says: {meant.expiry}")
    return wrong
