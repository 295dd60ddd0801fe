"""Reading requests: what is taken from a valid one, and the 400 of every wrong one."""

import json

import pytest

from simulator.errors import ApiError
from simulator.request import parse_request
from tests.simulator.builders import chat, request


def test_the_prompt_is_the_last_user_message() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "open"}}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "second"}, {"type": "image_url", "image_url": {}}],
        },
        {"role": "tool", "content": "third", "tool_call_id": "c1"},
    ]
    asked = request(messages=messages)
    assert asked.prompt == "second"
    assert asked.prompt_tokens > request(messages=messages[:3]).prompt_tokens + 3


def test_the_first_line_skips_empty_ones_and_is_cut() -> None:
    assert request("\n\n  Hello \r\nworld").first_line == "Hello"
    assert request("x" * 1000).first_line == "x" * 200
    assert request(" \n").first_line == ""


def test_both_names_of_the_cap_are_understood() -> None:
    assert request(max_tokens=7).max_tokens == 7
    assert request(max_completion_tokens=8).max_tokens == 8
    assert request().max_tokens is None


def test_tools_count_into_the_prompt() -> None:
    tools = [{"type": "function", "function": {"name": "gate", "description": "opens or closes the gate"}}]
    assert request(tools=tools).prompt_tokens > request().prompt_tokens


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (chat(model=None), "model"),
        (chat(model=""), "model"),
        (chat(messages=[]), "messages"),
        (chat(messages="hi"), "messages"),
        (chat(messages=["hi"]), "messages[0]"),
        (chat(messages=[{"role": "king", "content": "hi"}]), "messages[0].role"),
        (chat(messages=[{"role": "user"}]), "messages[0].content"),
        (chat(messages=[{"role": "user", "content": ["hi"]}]), "messages[0].content"),
        (chat(messages=[{"role": "user", "content": [{"type": "text"}]}]), "messages[0].content"),
        (chat(max_tokens=0), "max_tokens"),
        (chat(max_tokens=True), "max_tokens"),
        (chat(max_tokens=1.5), "max_tokens"),
        (chat(max_completion_tokens=-1), "max_completion_tokens"),
        (chat(max_tokens=5, max_completion_tokens=5), "max_tokens"),
        (chat(n=0), "n"),
        (chat(n=129), "n"),
        (chat(stream="yes"), "stream"),
        (chat(stream_options={}), "stream_options"),
        (chat(stream=True, stream_options=1), "stream_options"),
        (chat(user=5), "user"),
    ],
)
def test_a_wrong_request_is_a_400_that_names_the_parameter(body: dict[str, object], param: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse_request(json.dumps(body).encode())
    assert (refused.value.status, refused.value.param) == (400, param)
    assert json.loads(refused.value.body())["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"n": NaN}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_a_400(raw: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        parse_request(raw)
    assert refused.value.status == 400
