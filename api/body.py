"""Reads a request's body, however hostile: bounded in bytes and time while it comes, then strict JSON.

What leaves here is a parsed JSON object of bounded depth without duplicate keys, NaN or lone surrogates.
"""

import asyncio
import codecs
import contextlib
import gc
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message as HeaderParser
from itertools import islice
from typing import TypeVar

import jiter
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from api.answers import dump
from api.errors import FieldError, Problem, invalid

SILENCE_S = 10.0
"""The longest silence while a body comes."""
TOTAL_S = 30.0
"""The longest time for all of it."""
MAX_DEPTH = 32
"""Levels of arrays and objects, the body itself being the first."""
BODY_IS_HERE = "penstock.body"
"""In the extensions of a request whose body has come: there is nothing to wait for, and no time to be limited."""
MAX_VALUES = 50_000
"""Values of a body: the parser holds the interpreter's lock, and so the loop, for about a microsecond each."""
INLINE_BYTES = 32_768
"""Larger bodies are parsed and encoded in a thread."""
_LONGEST_CONTENT_TYPE = 256

# One thread: parsers hold the interpreter's lock, and several would hand it to each other rather than to the loop.
_BESIDE = ThreadPoolExecutor(1, thread_name_prefix="bodies")

ArgumentT = TypeVar("ArgumentT")
ResultT = TypeVar("ResultT")

_HEADERS = "penstock.headers"
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")


async def read_json(scope: Scope, receive: Receive, *, limit_bytes: int) -> dict[str, object]:
    """The body as a JSON object. Raises Problem: 400, 408, 413, 415 or 422."""
    check_content_type(scope)
    raw = await read_bytes(scope, receive, limit_bytes=limit_bytes)
    return await beside(len(raw), parse, raw)


async def read_fields(scope: Scope, receive: Receive, *, limit_bytes: int) -> dict[str, object]:
    """The members of a body that may be left out, which is as good as `{}`. Raises Problem as `read_json`."""
    absent = header_values(scope, b"content-length") in ([], [b"0"])
    if absent and not header_values(scope, b"transfer-encoding"):
        return {}
    return await read_json(scope, receive, limit_bytes=limit_bytes)


async def beside(size_bytes: int, work: Callable[[ArgumentT], ResultT], argument: ArgumentT) -> ResultT:
    """What `work` makes of a body or a part of one: at once if the body is small, beside the loop if it is large."""
    if size_bytes <= INLINE_BYTES:
        return work(argument)
    return await asyncio.get_running_loop().run_in_executor(_BESIDE, work, argument)


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """All values of a header; `name` in lower case. The headers are gone through once a request."""
    by_name: dict[bytes, list[bytes]] | None = scope.get(_HEADERS)
    if by_name is None:
        by_name = scope[_HEADERS] = {}
        for key, value in scope["headers"]:
            by_name.setdefault(key, []).append(value)
    return by_name.get(name, [])


def check_content_type(scope: Scope) -> None:
    """415 for anything but one application/json in UTF-8 without an encoding."""
    types = header_values(scope, b"content-type")
    if types == [b"application/json"] and not header_values(scope, b"content-encoding"):
        return
    if header_values(scope, b"content-encoding") not in ([], [b"identity"]):
        raise Problem("unsupported_media_type", "Send the body without Content-Encoding.")
    header = HeaderParser()
    # Its parser takes seconds for a long one of semicolons.
    sane = len(types) == 1 and len(types[0]) <= _LONGEST_CONTENT_TYPE
    header["content-type"] = types[0].decode("latin-1") if sane else ""
    charset = header.get_content_charset("utf-8")
    if header.get_content_type() != "application/json" or charset not in ("utf-8", "utf8"):
        raise Problem("unsupported_media_type", "Send JSON with the header Content-Type: application/json.")


async def read_bytes(scope: Scope, receive: Receive, *, limit_bytes: int) -> bytes:
    """The body, whether its length was announced or it comes in chunks. Raises Problem: 408 or 413."""
    announced = header_values(scope, b"content-length")
    if any(length.isdigit() and (len(length) > 15 or int(length) > limit_bytes) for length in announced):
        raise _too_large(limit_bytes)
    if BODY_IS_HERE in scope.get("extensions", ()):
        return await _collected(receive, limit_bytes)
    try:
        async with asyncio.timeout(min(SILENCE_S, TOTAL_S)) as patience:
            return await _collected(receive, limit_bytes, patience)
    except TimeoutError:
        raise Problem(
            "slow_body",
            f"The body did not come in time: at most {SILENCE_S:g} s without a byte, {TOTAL_S:g} s in all.",
            extra={"silence_s": SILENCE_S, "total_s": TOTAL_S},
            headers=((b"connection", b"close"),),
        ) from None


async def _collected(receive: Receive, limit_bytes: int, patience: asyncio.Timeout | None = None) -> bytes:
    loop = asyncio.get_running_loop()
    last_moment = loop.time() + TOTAL_S
    chunks: list[bytes] = []
    size_bytes = 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        if chunk:
            chunks.append(chunk)
            size_bytes += len(chunk)
            if size_bytes > limit_bytes:
                raise _too_large(limit_bytes)
        if not message.get("more_body", False):
            return b"".join(chunks)
        if chunk and patience is not None:
            patience.reschedule(min(last_moment, loop.time() + SILENCE_S))


def _too_large(limit_bytes: int) -> Problem:
    return Problem(
        "too_large",
        f"The body may have at most {limit_bytes} bytes.",
        extra={"limit_bytes": limit_bytes},
    )


def parse(raw: bytes) -> dict[str, object]:
    """Strict JSON: an object, UTF-8, no duplicate keys, no NaN. Raises Problem: 400 or 422."""
    try:
        if len(raw) <= INLINE_BYTES:
            value = _from_json(raw)
        else:
            _check_values(raw)
            with _uncollected():
                value = _from_json(raw)
    except ValueError as error:
        raise _why_not(raw, str(error)) from None
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise _too_deep()
    if not isinstance(value, dict):
        raise invalid(FieldError("", "the body must be a JSON object"))
    return value


def _from_json(raw: bytes) -> object:
    return jiter.from_json(
        raw, catch_duplicate_keys=True, allow_inf_nan=False, cache_mode="keys", float_mode="float"
    )


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage is looked for while a large body is parsed: with many small arrays that takes longer than the parsing,
    and all of it holds the interpreter's lock, and so the loop.
    """
    pause = gc.isenabled()
    if pause:
        gc.disable()
    try:
        yield
    finally:
        if pause:
            gc.enable()


def encode(value: object) -> bytes:
    """The JSON of a parsed value, compact and without loss. Raises Problem 400 for a number beyond a double."""
    try:
        return dump(value)
    except ValueError:
        raise Problem("invalid_json", "A number is too large to be one: it would become Infinity.") from None


def canonical(value: object) -> bytes:
    """The same bytes for the same value, however its keys were ordered and its white space was put."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode()


def _deeper_than(value: object, levels: int) -> bool:
    row = [value]
    for _ in range(levels):
        row = [child for parent in row for child in _children(parent)]
        if not row:
            return False
    return any(isinstance(one, dict | list) for one in row)


def _children(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        return iter(value.values())
    if isinstance(value, list):
        return iter(value)
    return iter(())


def _too_deep() -> Problem:
    return invalid(FieldError("", f"arrays and objects may be at most {MAX_DEPTH} levels deep"))


def _why_not(raw: bytes, reason: str) -> Problem:
    """Why the parser refused it: what is JSON but still not wanted (422), or what is none (400)."""
    if raw.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Problem("invalid_json", "Send JSON in UTF-8 without a byte-order mark.")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return Problem("invalid_json", f"The body is not UTF-8 (at byte {error.start}).")
    if _nested_beyond(text, MAX_DEPTH):
        return _too_deep()
    if "\\u" in text and _has_lone_surrogate(text):
        return invalid(FieldError("", "a text has half a surrogate pair, which is no character"))
    return Problem("invalid_json", f"The body is not valid JSON: {reason[:200]}.")


# Texts, whose marks mean nothing, and marks. Possessive, and a text may be without its end: so nothing is looked at
# twice, whatever is missing.
_TEXT = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_BRACKETS = re.compile(_TEXT + r"|[\[\]{}]", re.DOTALL)
_BEGINNINGS = re.compile((_TEXT + r"|[,\[{]").encode(), re.DOTALL)


def _check_values(raw: bytes) -> None:
    """Raises Problem 422 for too many. Each but the first begins after a comma or an opening bracket."""
    if sum(map(raw.count, (b",", b"[", b"{"))) <= MAX_VALUES:
        return
    marks = (match for match in _BEGINNINGS.finditer(raw) if match[0][0] != ord('"'))
    if next(islice(marks, MAX_VALUES, None), None) is not None:
        raise invalid(FieldError("", f"the body may have at most {MAX_VALUES} values"))


def _nested_beyond(text: str, levels: int) -> bool:
    depth = 0
    for match in _BRACKETS.finditer(text):
        mark = match[0]
        if mark in "[{":
            depth += 1
            if depth > levels:
                return True
        elif mark in "]}":
            depth -= 1
    return False


def _has_lone_surrogate(text: str) -> bool:
    """Python's own parser lets them through, so it tells whether they are all that was wrong."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return _LONE_SURROGATE.search(json.dumps(value, ensure_ascii=False)) is not None
