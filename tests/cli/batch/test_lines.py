"""What a line of the input may be, and what is said of one that is something else."""

import io
import json
from typing import Any

import pytest

from cli.batch import lines
from cli.batch.lines import Defaults, LineError, RawLine, raw_lines, read_raw, read_request

DEFAULTS = Defaults("m1", max_tokens=50)


def read(value: object, number: int = 3) -> lines.Request:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return read_request(RawLine(number, 0, text), DEFAULTS)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("value", "custom_id", "body"),
    [
        ("Hello", "line-3", {"messages": [user("Hello")], "model": "m1", "max_tokens": 50}),
        ({"prompt": "Hello"}, "line-3", {"messages": [user("Hello")], "model": "m1", "max_tokens": 50}),
        (
            {"prompt": "Hi", "system": "Be brief.", "custom_id": "a", "model": "m2", "temperature": 0.5},
            "a",
            {
                "messages": [{"role": "system", "content": "Be brief."}, user("Hi")],
                "model": "m2",
                "max_tokens": 50,
                "temperature": 0.5,
            },
        ),
        (
            {"messages": [user("x")], "max_completion_tokens": 9, "model": None},
            "line-3",
            {"messages": [user("x")], "max_completion_tokens": 9, "model": "m1"},
        ),
        (
            {"custom_id": "r-1", "method": "POST", "url": "/v1/chat/completions",
             "body": {"model": "m2", "messages": [user("x")], "max_tokens": 7}},
            "r-1",
            {"model": "m2", "messages": [user("x")], "max_tokens": 7},
        ),
        ({"body": {"messages": [user("x")]}}, "line-3", {"messages": [user("x")], "model": "m1", "max_tokens": 50}),
    ],
    ids=["text", "prompt", "prompt with all", "chat body", "OpenAI batch line", "bare envelope"],
)  # fmt: skip
def test_prompts_chat_bodies_and_batch_lines_become_chat_bodies(
    value: object, custom_id: str, body: dict[str, Any]
) -> None:
    request = read(value)
    assert (request.custom_id, request.body) == (custom_id, body)


def test_metadata_of_an_envelope_is_the_jobs_and_of_a_chat_body_the_providers() -> None:
    enveloped = read({"body": {"messages": [user("x")]}, "metadata": {"team": "a"}})
    assert (enveloped.metadata, "metadata" in enveloped.body) == ({"team": "a"}, False)
    plain = read({"messages": [user("x")], "metadata": {"team": "a"}})
    assert (plain.metadata, plain.body["metadata"]) == (None, {"team": "a"})


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (b"Say hello", "is not JSON: expected value"),
        (b'{"prompt": "a", "prompt": "b"}', "is not JSON: Detected duplicate key"),
        (b'{"prompt": "a", "temperature": NaN}', "is not JSON"),
        (b'"\\ud800"', "is not JSON"),
        (b'"\xff"', "is not JSON"),
        (b"[" * 1000, "is not JSON"),
        (b'"torn', "is not JSON"),
        (7, "must be a text in quotes or an object"),
        (["a"], "must be a text in quotes or an object"),
        ("  ", "has a prompt that is empty"),
        ({"prompt": 7}, "has a prompt that is empty or no text"),
        ({"prompt": "x", "system": 1}, 'has a "system" that is no text'),
        ({}, 'must have one of "prompt", "messages" and "body"'),
        ({"prompt": "x", "messages": []}, "not several"),
        ({"messages": []}, 'must have "messages": a list of at least one'),
        ({"messages": [user("x")], "stream": True}, "asks for a stream"),
        ({"body": "x"}, "has a body that is no object"),
        ({"body": {}, "metohd": "POST"}, "has beside its body what is not known there: metohd"),
        ({"body": {}, "method": "GET"}, 'has another "method" than POST'),
        ({"body": {}, "url": "/v1/embeddings"}, 'has another "url" than /v1/chat/completions'),
        ({"prompt": "x", "custom_id": 7}, "has a custom_id that is no text of 1 to 256 characters"),
        ({"prompt": "x", "custom_id": "x" * 257}, "has a custom_id that is no text of 1 to 256 characters"),
    ],
)
def test_what_is_none_of_them_is_told(value: object, complaint: str) -> None:
    with pytest.raises(LineError, match=complaint.replace("(", r"\(")):
        read(value)


def test_a_complaint_knows_the_custom_id_of_its_line() -> None:
    with pytest.raises(LineError) as raised:
        read({"custom_id": "r-9", "body": {}})
    assert raised.value.custom_id == "r-9"


def test_lines_are_counted_as_an_editor_counts_them_and_found_again() -> None:
    file = io.BytesIO(b'\xef\xbb\xbf"one"\n\n  \n"four"\r\n"five"')
    found = [*raw_lines(file)]
    assert [(line.number, read_request(line, DEFAULTS).body["messages"]) for line in found] == [
        (1, [user("one")]),
        (4, [user("four")]),
        (5, [user("five")]),
    ]
    assert [read_raw(file, line.number, line.at) for line in reversed(found)] == [*reversed(found)]


def test_a_line_without_an_end_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 1000)
    file = io.BytesIO(b'"' + b"x" * 5000 + b'"\n"next"\n')
    long, after = raw_lines(file)
    assert (long.number, len(long.text), after.number, after.text) == (1, 1001, 2, b'"next"\n')
    with pytest.raises(LineError, match="is longer than"):
        read_request(long, DEFAULTS)
    assert read_raw(file, 2, after.at).text == after.text


def test_the_idempotency_key_tells_lines_places_tries_and_runs_apart() -> None:
    one = read("same text")
    keys = [
        one.idempotency_key(3, 0, "run"),
        one.idempotency_key(4, 0, "run"),
        one.idempotency_key(3, 1, "run"),
        one.idempotency_key(3, 0, "other run"),
        read("other text").idempotency_key(3, 0, "run"),
        read({"prompt": "same text", "custom_id": "x"}).idempotency_key(3, 0, "run"),
    ]
    assert len({*keys}) == len(keys)
    assert read({"prompt": "same text"}).idempotency_key(3, 0, "run") == keys[0]
    assert all(len(key) <= 255 and key.isascii() for key in keys)
