"""A YAML text read into plain values, with the line on which each of them stands.

Built from PyYAML's node graph instead of its constructors: those lose the lines, keep the last of two equal
keys without a word, and read 010 as 8 and 1:30 as 90.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from jobs.config.crossing import Location

MAX_DEPTH = 16
MAX_NODES = 50_000
"""Counted after aliases are followed, so that a few lines of aliases of aliases do not fill the memory."""

_INTEGER = re.compile(r"[-+]?(0|[1-9](_?[0-9])*)")
_DECIMAL = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9]+([eE][-+]?[0-9]+)?")
# What an escape such as "\ud800" leaves behind: no text that could be stored or sent.
_HALF_CHARACTER = re.compile(r"[\ud800-\udfff]")
_HALF = r"half of a character (an escape from \ud800 to \udfff)"
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
_CORE = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a configuration. `line` counts from 1; None where the file as a whole is meant."""

    line: int | None
    location: Location
    reason: str


@dataclass(slots=True)
class Document:
    """The values of a text (an empty mapping when they could not be read), their lines, and what is wrong."""

    values: dict[str, object] = field(default_factory=dict)
    lines: dict[Location, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, location: Location) -> int:
        """The line of a setting, or of the nearest part around it that the text has."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


class _TooMuchError(Exception):
    """Reading has to stop: too deep, or too much."""


def read(source: bytes) -> Document:
    """The document in a file's bytes. Never raises: what is wrong is in its problems."""
    document = Document()
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        document.problems.append(Problem(line, (), "is not UTF-8; save the file in that encoding"))
        return document
    if not text.strip():
        reason = "is empty; write the settings, or remove the file to run with the built-in ones"
        document.problems.append(Problem(1, (), reason))
        return document
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _Reader(document).top(node)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        document.problems.append(
            Problem(line, (), f"has a character (#x{error.character:04x}) no YAML may have")
        )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        document.problems.append(Problem(line, (), f"is not YAML: {_explained(error)}"))
    except _TooMuchError as error:
        document.problems.append(Problem(1, (), str(error)))
    except RecursionError:
        document.problems.append(Problem(1, (), _too_deep()))
    return document


def _explained(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "it cannot be read"
    if error.context and error.context_mark:
        return f"{problem} ({error.context} that starts on line {error.context_mark.line + 1})"
    return problem


def _too_deep() -> str:
    return f"is nested deeper than {MAX_DEPTH} levels"


class _Reader:
    """Turns nodes into values, writing down lines and problems on the way."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0

    def top(self, node: yaml.Node | None) -> None:
        """Reads the whole; a text of nothing but comments is an empty mapping."""
        if node is None:
            return
        if not isinstance(node, yaml.MappingNode):
            self._complain(node, (), 'must be a mapping of settings, such as "tiers: …"')
            return
        self._document.values = self._mapping(node, ())

    def _value(self, node: yaml.Node, location: Location) -> object:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _TooMuchError(f"has more than {MAX_NODES} values, its aliases followed")
        if len(location) > MAX_DEPTH:
            raise _TooMuchError(_too_deep())
        if isinstance(node, yaml.MappingNode) and node.tag == _CORE + "map":
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode) and node.tag == _CORE + "seq":
            return [self._item(item, (*location, place)) for place, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, location)
        self._complain(node, location, f"has the tag {_short(node.tag)}, which has no meaning here")
        return None

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, object]:
        values: dict[str, object] = {}
        for key, value_node, line in self._entries(node, location):
            place = (*location, key)
            if key in values:
                first = self._document.lines[place]
                self._problem(
                    line, place, f"is set a second time (first on line {first}); keep one of the two"
                )
                continue
            self._document.lines[place] = (
                _line(value_node) if isinstance(value_node, yaml.ScalarNode) else line
            )
            values[key] = self._value(value_node, place)
        return values

    def _entries(self, node: yaml.MappingNode, location: Location) -> Iterator[tuple[str, yaml.Node, int]]:
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and _HALF_CHARACTER.search(key.value):
                self._complain(key, location, f"has a key with {_HALF}")
            elif isinstance(key, yaml.ScalarNode) and key.tag == _CORE + "str":
                yield key.value, value, _line(key)
            elif key.tag == _CORE + "merge":
                self._complain(
                    key, location, "merges with <<, which is not supported; write the settings out"
                )
            elif isinstance(key, yaml.ScalarNode):
                kind = _short(key.tag)
                self._complain(
                    key, location, f"has the key {key.value}, which YAML reads as {kind}; put it in quotes"
                )
            else:
                self._complain(key, location, "has a key that is no text")

    def _item(self, node: yaml.Node, location: Location) -> object:
        self._document.lines[location] = _line(node)
        return self._value(node, location)

    def _scalar(self, node: yaml.ScalarNode, location: Location) -> object:
        kind, text = _short(node.tag), node.value
        if _HALF_CHARACTER.search(text):
            self._complain(node, location, f"has {_HALF}")
            return None
        if kind == "str":
            return text
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in (*_TRUE, *_FALSE):
            return text.lower() in _TRUE
        if kind == "int" and len(text) <= 100 and _INTEGER.fullmatch(text):
            return int(text)
        if kind == "float" and len(text) <= 100 and _DECIMAL.fullmatch(text):
            return float(text)
        if kind in ("int", "float"):
            self._complain(node, location, f"must be written as a plain decimal number (found {text[:40]})")
        else:
            self._complain(node, location, f"is read by YAML as {kind}; put it in quotes")
        return None

    def _complain(self, node: yaml.Node, location: Location, reason: str) -> None:
        self._problem(_line(node), location, reason)

    def _problem(self, line: int, location: Location, reason: str) -> None:
        self._document.problems.append(Problem(line, location, reason))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _short(tag: str) -> str:
    return tag.removeprefix(_CORE)
