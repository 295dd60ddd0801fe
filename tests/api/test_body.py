"""A request's body: bounded while it comes, strict JSON when it has come."""

import asyncio
import json
import time
from collections.abc import Iterable

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from api import body
from api.body import INLINE_BYTES, beside, canonical, check_content_type, encode, parse, read_bytes, read_json
from api.errors import Problem


def scope(*headers: tuple[bytes, bytes]) -> Scope:
    return {"type": "http", "headers": list(headers)}


JSON_TYPE = (b"content-type", b"application/json")


def chunks(parts: Iterable[bytes], *, complete: bool = True) -> Receive:
    """A body in these parts; unless complete, it stops there without an end."""
    messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if complete:
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    rest = iter(messages)

    async def receive() -> Message:
        for message in rest:
            return message
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await never

    return receive


def refused(raw: bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        encode(parse(raw))
    return caught.value


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "invalid_json"),
        (b"   ", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"a":1,}', "invalid_json"),
        (b"{'a':1}", "invalid_json"),
        (b'{"a":1} x', "invalid_json"),
        (b'{"a":01}', "invalid_json"),
        (b'{"a":NaN}', "invalid_json"),
        (b'{"a":Infinity}', "invalid_json"),
        (b'{"a":-Infinity}', "invalid_json"),
        (b'{"a":1e999}', "invalid_json"),
        (b'{"a":-1e999}', "invalid_json"),
        (b'{"a":' + b"9" * 5_000 + b"}", "invalid_json"),
        (b'{"a":1,"a":1}', "invalid_json"),
        (b'{"a":{"b":1,"c":2,"b":3}}', "invalid_json"),
        (b'{"a":1,"\\u0061":2}', "invalid_json"),
        (b'\xef\xbb\xbf{"a":1}', "invalid_json"),
        ('{"a":1}'.encode("utf-16"), "invalid_json"),
        ('{"a":1}'.encode("utf-16-le"), "invalid_json"),
        (b'{"a":"\xff"}', "invalid_json"),
        (b'{"a":"\xed\xa0\x80"}', "invalid_json"),
        (b'{"a":"\x00"}', "invalid_json"),
        (b'{"a":1}\x00', "invalid_json"),
        (b"[" * 100_000, "invalid_request"),
        (b'{"a":' * 100_000, "invalid_request"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_request"),
        (b'{"a":"\\ud800"}', "invalid_request"),
        (b'{"a":"\\udc00x"}', "invalid_request"),
        (b'{"a":"\\ud800\\ud800"}', "invalid_request"),
        (b'{"\\ud800":1}', "invalid_request"),
        (b"[]", "invalid_request"),
        (b'"text"', "invalid_request"),
        (b"null", "invalid_request"),
        (b"5", "invalid_request"),
    ],
)
def test_what_is_no_strict_json_object_is_refused(raw: bytes, code: str) -> None:
    assert refused(raw).code == code


def nested(levels: int) -> bytes:
    """An object and, in it, arrays and objects in turn: so many levels in all."""
    inner = b"1"
    for level in range(levels, 1, -1):
        inner = b"[" + inner + b"]" if level % 2 else b'{"a":' + inner + b"}"
    return b'{"a":' + inner + b"}"


def test_thirty_two_levels_are_taken_and_thirty_three_are_not() -> None:
    parse(nested(32))
    assert refused(nested(33)).code == "invalid_request"


def test_many_brackets_are_no_depth() -> None:
    assert parse(b'{"a":[' + b"[],{}," * 1000 + b"1]}")
    assert parse(json.dumps({"a": "[{" * 1000}).encode())


def test_fifty_thousand_values_are_taken_and_no_more() -> None:
    # The body itself, the list in it, and what is in that.
    assert parse(b'{"a":[' + b"0," * 49_997 + b"0]}")
    assert "at most 50000 values" in refused(b'{"a":[' + b"0," * 49_999 + b"0]}").detail
    assert "at most 50000 values" in refused(b'{"a":[' + b"{}," * 30_000 + b"[]]}").detail


def test_marks_in_texts_are_no_values() -> None:
    assert parse(json.dumps({"a": ',[{\\"' * 100_000, ",[{": 1}).encode())


def test_each_mark_is_looked_at_once_whatever_is_missing() -> None:
    # Looked at anew from each quote, these would take hours.
    for endless in (b'\\"', b"\\", b'",', b'\\",'):
        assert refused(b'{"a":"' + endless * 300_000).code in ("invalid_json", "invalid_request")


async def test_large_bodies_are_worked_on_one_after_the_other() -> None:
    at_once: list[int] = []
    running = 0

    def work(number: int) -> int:
        nonlocal running
        running += 1
        at_once.append(running)
        time.sleep(0.001)
        running -= 1
        return number

    made = await asyncio.gather(*(beside(INLINE_BYTES + 1, work, number) for number in range(9)))
    assert made == list(range(9))
    assert at_once == [1] * 9


def test_a_deep_body_costs_no_time() -> None:
    begun_s = time.thread_time()
    refused(b'{"a":' + b"[" * 1_000_000)
    assert time.thread_time() - begun_s < 0.1


@pytest.mark.parametrize(
    "text",
    [
        '{"a":0.1,"b":-0.0,"c":1e-7,"d":123456789012345678901234567890,"e":1.7976931348623157e+308,"f":5.0}',
        '{"a":"\\u0000","b":"héllo 😀","c":"<|endoftext|>","d":"\\\\","e":[],"f":{},"g":[null,true],"h":"NaN"}',
    ],
)
def test_a_value_leaves_as_it_came(text: str) -> None:
    assert json.loads(encode(parse(text.encode()))) == json.loads(text)
    assert str(json.loads(encode(parse(text.encode())))) == str(json.loads(text))


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert parse(b'{"a":"\\ud83d\\ude00"}') == {"a": "😀"}


def test_canonical_json_knows_no_order_and_no_white_space() -> None:
    assert canonical(parse(b'{"b":1, "a":{"d":2,"c":3}}')) == canonical(parse(b'{"a":{"c":3,"d":2},"b":1}'))
    assert canonical(parse(b'{"a":1}')) != canonical(parse(b'{"a":1.0}'))
    assert canonical(parse(b'{"a":[1,2]}')) != canonical(parse(b'{"a":[2,1]}'))


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b'application/json;charset="UTF-8"',
        b"application/json ; profile=x",
    ],
)
def test_json_in_utf_8_is_taken(content_type: bytes) -> None:
    check_content_type(scope((b"content-type", content_type)))


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"content-type", b""),),
        ((b"content-type", b"text/plain"),),
        ((b"content-type", b"multipart/form-data; boundary=x"),),
        ((b"content-type", b"application/x-www-form-urlencoded"),),
        ((b"content-type", b"application/json; charset=utf-16"),),
        ((b"content-type", b"application/jsonp"),),
        ((b"content-type", b"application/json, text/plain"),),
        ((b"content-type", b"\xff\xfe"),),
        ((b"content-type", b"application/json"), (b"content-type", b"text/plain")),
        ((b"content-type", b"application/json"), (b"content-encoding", b"gzip")),
    ],
)
def test_another_content_type_is_refused(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    with pytest.raises(Problem) as caught:
        check_content_type(scope(*headers))
    assert caught.value.code == "unsupported_media_type"


async def test_a_body_in_pieces_is_put_together() -> None:
    read = await read_json(scope(JSON_TYPE), chunks([b'{"a"', b"", b":1}"]), limit_bytes=7)
    assert read == {"a": 1}


@pytest.mark.parametrize("length", [b"8", b"30000000", b"9" * 5_000])
async def test_an_announced_length_above_the_limit_is_refused_unread(length: bytes) -> None:
    with pytest.raises(Problem) as caught:
        await read_bytes(scope((b"content-length", length)), chunks([], complete=False), limit_bytes=7)
    assert caught.value.code == "too_large"
    assert caught.value.extra == {"limit_bytes": 7}


async def test_a_body_in_pieces_is_refused_as_soon_as_it_is_too_large() -> None:
    with pytest.raises(Problem) as caught:
        await read_bytes(scope(), chunks([b"1234", b"5678"], complete=False), limit_bytes=7)
    assert caught.value.code == "too_large"


async def test_a_body_that_stops_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "SILENCE_S", 0.01)
    with pytest.raises(Problem) as caught:
        await read_bytes(scope(), chunks([b"12"], complete=False), limit_bytes=7)
    assert caught.value.code == "slow_body"


async def test_a_body_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "TOTAL_S", 0.02)

    async def drip() -> Message:
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b"1", "more_body": True}

    with pytest.raises(Problem) as caught:
        await read_bytes(scope(), drip, limit_bytes=1_000_000)
    assert caught.value.code == "slow_body"


async def test_a_client_that_hangs_up_is_no_mistake() -> None:
    async def gone() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect):
        await read_bytes(scope(), gone, limit_bytes=7)


async def test_a_large_body_leaves_the_loop_free() -> None:
    raw = b'{"a":[' + b'"xxxxxxxxxxxxxxx",' * 49_000 + b"1]}"
    longest, last = 0.0, time.perf_counter()

    async def watch() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    watcher = asyncio.create_task(watch())
    await read_json(scope(JSON_TYPE), chunks([raw]), limit_bytes=len(raw))
    watcher.cancel()
    assert longest < 0.1
