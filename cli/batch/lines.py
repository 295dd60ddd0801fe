"""The lines of a batch's input: prompts, chat bodies and OpenAI batch lines, each turned into what is submitted.

A line is known by its number in the file, counted from 1; blank lines count, and are no requests.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import jiter
from pydantic import JsonValue

MAX_LINE_BYTES = 32 * 2**20
MAX_CUSTOM_ID_CHARS = 256
ENDPOINT = "/v1/chat/completions"
_ENVELOPE = frozenset({"custom_id", "method", "url", "body", "metadata"})
_BOM = b"\xef\xbb\xbf"

Object = dict[str, JsonValue]


class LineError(ValueError):
    """Why a line cannot be submitted; as text, what is to be changed. `custom_id`: its own, where it has one."""

    def __init__(self, message: str, custom_id: str | None = None) -> None:
        super().__init__(message)
        self.custom_id = custom_id


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a line gets that does not say it itself."""

    model: str
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A line as it is submitted. `model_is_default`: the line itself names none."""

    custom_id: str
    body: Object
    metadata: JsonValue = None
    model_is_default: bool = False

    def idempotency_key(self, number: int, tries: int, run: str) -> str:
        """The same for the same line at the same place of the same run, and another one for each new try."""
        told = [self.custom_id, self.body, self.metadata, number, tries, run]
        text = json.dumps(told, sort_keys=True, separators=(",", ":"))
        return f"batch-{hashlib.sha256(text.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class RawLine:
    """A line that is not blank; `at` is where it begins in the file, in bytes."""

    number: int
    at: int
    text: bytes


def raw_lines(file: BinaryIO) -> Iterator[RawLine]:
    """The lines of a file that is read from its beginning; of one that is too long only the first bytes."""
    at = number = 0
    while text := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        length = len(text)
        rest = text
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES + 1)
            length += len(rest)
        content = text.removeprefix(_BOM) if number == 1 else text
        if content.strip():
            yield RawLine(number, at, content)
        at += length


def read_raw(file: BinaryIO, number: int, at: int) -> RawLine:
    """One line, where `raw_lines` has found it."""
    file.seek(at)
    text = file.readline(MAX_LINE_BYTES + 1)
    return RawLine(number, at, text.removeprefix(_BOM) if number == 1 else text)


def digest_of(path: Path) -> str:
    """What tells this file from another one, or from itself after a change."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def own_id(number: int) -> str:
    """The custom_id of a line that has none."""
    return f"line-{number}"


def read_request(line: RawLine, defaults: Defaults) -> Request:
    """What the line asks for. Raises LineError."""
    if len(line.text) > MAX_LINE_BYTES:
        raise LineError(f"is longer than {MAX_LINE_BYTES // 2**20} MiB")
    try:
        value: JsonValue = jiter.from_json(
            line.text.strip(), allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys"
        )
    except ValueError as error:
        raise LineError(f"is not JSON: {error}") from None
    if isinstance(value, str):
        return _request(own_id(line.number), {"messages": _messages(value, None)}, None, defaults)
    if not isinstance(value, dict):
        raise LineError("must be a text in quotes or an object")
    custom_id = _custom_id(value, line.number)
    try:
        body, metadata = _body(value)
        return _request(custom_id, body, metadata, defaults)
    except LineError as error:
        raise LineError(str(error), custom_id) from None


def _custom_id(value: Object, number: int) -> str:
    given = value.get("custom_id")
    if given is None:
        return own_id(number)
    if not isinstance(given, str) or not 1 <= len(given) <= MAX_CUSTOM_ID_CHARS:
        raise LineError(f"has a custom_id that is no text of 1 to {MAX_CUSTOM_ID_CHARS} characters")
    return given


def _body(value: Object) -> tuple[Object, JsonValue]:
    """The chat body in any of the three kinds of objects, and the metadata of the envelope."""
    shapes = [name for name in ("body", "messages", "prompt") if name in value]
    if len(shapes) != 1:
        raise LineError('must have one of "prompt", "messages" and "body"' + (", not several" * bool(shapes)))
    rest = {name: one for name, one in value.items() if name != "custom_id"}
    if shapes == ["body"]:
        return _enveloped(value), value.get("metadata")
    if shapes == ["prompt"]:
        prompt, system = rest.pop("prompt"), rest.pop("system", None)
        return {**rest, "messages": _messages(prompt, system)}, None
    return rest, None


def _enveloped(value: Object) -> Object:
    if unknown := sorted(value.keys() - _ENVELOPE):
        raise LineError(f"has beside its body what is not known there: {', '.join(unknown)}")
    if value.get("method", "POST") != "POST":
        raise LineError('has another "method" than POST')
    if value.get("url", ENDPOINT) != ENDPOINT:
        raise LineError(f'has another "url" than {ENDPOINT}')
    body = value["body"]
    if not isinstance(body, dict):
        raise LineError("has a body that is no object")
    return body


def _messages(prompt: JsonValue, system: JsonValue) -> JsonValue:
    if not isinstance(prompt, str) or not prompt.strip():
        raise LineError("has a prompt that is empty or no text")
    if system is not None and not isinstance(system, str):
        raise LineError('has a "system" that is no text')
    asked: list[JsonValue] = [{"role": "user", "content": prompt}]
    return [{"role": "system", "content": system}, *asked] if system else asked


def _request(custom_id: str, body: Object, metadata: JsonValue, defaults: Defaults) -> Request:
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise LineError('must have "messages": a list of at least one')
    if body.get("stream"):
        raise LineError("asks for a stream: a batch gets whole answers; remove it")
    whole = dict(body)
    model_is_default = whole.get("model") is None
    if model_is_default:
        whole["model"] = defaults.model
    capped = any(whole.get(name) is not None for name in ("max_tokens", "max_completion_tokens"))
    if defaults.max_tokens is not None and not capped:
        whole["max_tokens"] = defaults.max_tokens
    return Request(custom_id, whole, metadata, model_is_default)
