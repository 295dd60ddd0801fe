"""Runs the commands of a page in one shell, and compares what they print with what the page shows."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import Command

_DEADLINE_S = 180
_MARK = "\x1e"

_VOLATILE = (
    (re.compile(r"\b(job|pk|req|admin|chatcmpl)[_-][\w-]+"), r"\1_0"),
    (re.compile(r"(?:\b\d+ (?:h|min|s)\b ?)+"), "0 s"),
    (re.compile(r"[+-]?\d+(?:[,.:-]\d+)*"), "0"),
    (re.compile(r"\s+"), " "),
)
# What a client decides by; of everything else in a JSON answer only the keys are compared.
_TELLING = frozenset({"object", "status", "code", "title", "type", "source"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one command did; its output is that of a terminal, errors included."""

    command: Command
    status: int
    output: str


def run(commands: Sequence[Command], directory: Path, environment: Mapping[str, str]) -> list[Outcome]:
    """Runs them one after the other in one shell, so that what one exports the next one has."""
    script = "".join(f"{command.text}\nprintf '{_MARK}%d{_MARK}' $?\n" for command in commands)
    shell = shutil.which("sh")
    assert shell
    done = subprocess.run(
        [shell, "-c", script],
        cwd=directory,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_DEADLINE_S,
        check=False,
    )
    printed = done.stdout.decode().replace("\r\n", "\n").split(_MARK)
    assert len(printed) == 2 * len(commands) + 1, f"the shell gave up: {done.stdout.decode()}"
    return [
        Outcome(command, int(printed[2 * at + 1]), printed[2 * at].strip("\n"))
        for at, command in enumerate(commands)
    ]


def difference(shown: str, actual: str) -> str | None:
    """How an output differs from the one that is shown, in what is not different each time; None if it does not."""
    if shown.startswith("HTTP/"):
        (shown_head, shown_body), (head, body) = _split(shown), _split(actual)
        return _head_difference(shown_head, head) or difference(shown_body, body)
    if shown.startswith("{"):
        try:
            return _json_difference(json.loads(shown), json.loads(actual), "$")
        except ValueError as error:
            return f"not JSON: {error}"
    return _line_difference(shown.splitlines(), actual.splitlines())


def _split(answer: str) -> tuple[list[str], str]:
    head, _, body = answer.partition("\n\n")
    return head.splitlines(), body.strip()


def _head_difference(shown: list[str], actual: list[str]) -> str | None:
    if shown[:1] != actual[:1]:
        return f"shows {shown[:1]}, but it is {actual[:1]}"
    names, those = ({line.partition(":")[0] for line in lines[1:]} for lines in (shown, actual))
    return None if names == those else f"headers differ: {sorted(names ^ those)}"


def _json_difference(shown: object, actual: object, place: str) -> str | None:
    if isinstance(shown, dict) and isinstance(actual, dict):
        if shown.keys() != actual.keys():
            return f"{place}: keys differ: {sorted(shown.keys() ^ actual.keys())}"
        for name, value in shown.items():
            if name in _TELLING and isinstance(value, str) and value != actual[name]:
                return f"{place}.{name}: shows {value!r}, but it is {actual[name]!r}"
            if found := _json_difference(value, actual[name], f"{place}.{name}"):
                return found
        return None
    if isinstance(shown, list) and isinstance(actual, list):
        return _json_difference(shown[0], actual[0], f"{place}[0]") if shown and actual else None
    if shown is None or actual is None or type(shown) is type(actual):
        return None
    return f"{place}: shows {shown!r}, but it is {actual!r}"


def _line_difference(shown: list[str], actual: list[str]) -> str | None:
    if len(shown) != len(actual):
        return f"shows {len(shown)} lines, but there are {len(actual)}"
    for line, other in zip(shown, actual, strict=True):
        # A shown line may be the beginning of the real one, and `…` in it stands for anything.
        pattern = ".*".join(re.escape(_plain(part)) for part in line.split("…"))
        if not re.match(pattern, _plain(other)):
            return f"shows {line!r}, but it is {other!r}"
    return None


def _plain(text: str) -> str:
    for pattern, instead in _VOLATILE:
        text = pattern.sub(instead, text)
    return text.rstrip()
