"""Answers that are chat completions: what is kept of them, and what their usage counts for."""

import gzip
import json
import zlib
from collections.abc import Mapping
from typing import Any

import openai
import pytest

from jobs.record import Usage
from tests.worker.raw_provider import (
    API_KEY,
    BODY,
    USAGE,
    RawProvider,
    call,
    completed,
    completion,
    http,
    then_close,
)
from worker.outcome import Completion, RateHeaders
from worker.provider import ProviderClient


async def test_a_completion_comes_back_to_the_byte_with_its_usage() -> None:
    usage = b'{"prompt_tokens":9,"completion_tokens":4}'
    body = b'{ "choices":[{"message":{"content":"h\\u00e9\xc3\xa9"}}],\n"usage":%b }' % usage
    assert await completed(http(body)) == Completion(body, Usage(9, 4, 13, 0, "provider"), RateHeaders())


async def test_the_request_is_the_body_with_our_key_and_little_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/of-the-environment")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-environment")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-the-environment")
    monkeypatch.setenv(
        "OPENAI_CUSTOM_HEADERS", "Authorization: of-the-environment\nX-More: of-the-environment"
    )
    for proxy in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    async with (
        RawProvider(http(completion())) as provider,
        ProviderClient(provider.base_url, API_KEY) as client,
    ):
        assert isinstance(await call(client), Completion)
        assert isinstance(await call(client, body=b'{"as":"it is"}'), Completion)
    first, second = provider.requests
    assert first.line == "POST /v1/chat/completions HTTP/1.1"
    assert first.headers["authorization"] == f"Bearer {API_KEY}"
    assert first.headers["content-type"] == "application/json"
    assert first.headers["accept-encoding"] == "gzip"
    assert set(first.headers) == {
        *("host", "accept", "accept-encoding", "authorization"),
        *("content-length", "content-type", "user-agent"),
    }
    assert json.loads(first.body) == BODY
    assert second.body == b'{"as":"it is"}'
    assert second.line == first.line
    assert {**second.headers, "content-length": ""} == {**first.headers, "content-length": ""}


async def test_the_sdk_puts_a_request_together_once_for_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    build, built = openai.AsyncOpenAI._build_request, list[str]()

    def counted(sdk: openai.AsyncOpenAI, options: Any, **rest: Any) -> Any:
        built.append(options.url)
        return build(sdk, options, **rest)

    monkeypatch.setattr(openai.AsyncOpenAI, "_build_request", counted)
    async with (
        RawProvider(http(completion())) as provider,
        ProviderClient(provider.base_url, API_KEY) as client,
    ):
        for _ in range(3):
            assert isinstance(await call(client), Completion)
    assert built == ["/chat/completions"]


async def test_without_a_key_no_authorization_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    async with RawProvider(http(completion())) as provider, ProviderClient(provider.base_url, None) as client:
        assert isinstance(await call(client), Completion)
    assert "authorization" not in provider.requests[0].headers


async def test_connections_are_kept_and_cookies_are_not() -> None:
    answer = http(completion(), headers={"Set-Cookie": "who=me; Path=/"})
    named = "localhost"  # for an address alone no cookie would be kept anyway
    async with (
        RawProvider(answer) as provider,
        ProviderClient(provider.base_url.replace("127.0.0.1", named), API_KEY) as client,
    ):
        for _ in range(3):
            assert isinstance(await call(client), Completion)
    assert provider.connections == 1
    assert all("cookie" not in request.headers for request in provider.requests)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "deflate"])
async def test_a_compressed_answer_is_read(encoding: str) -> None:
    plain = json.dumps(completion()).encode()
    packed = zlib.compress(plain) if encoding == "deflate" else gzip.compress(plain)
    assert (await completed(http(packed, headers={"Content-Encoding": encoding}))).body == plain


async def test_a_chunked_answer_and_one_that_ends_with_the_connection_are_read() -> None:
    plain = json.dumps(completion()).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (plain[:7], plain[7:]))
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    assert (await completed(chunked)).body == plain
    assert (await completed(then_close(b"HTTP/1.0 200 OK\r\n\r\n" + plain))).body == plain


async def test_a_completion_under_a_wrong_content_type_is_still_one() -> None:
    assert (await completed(http(completion(), content_type="text/html"))).usage is not None


async def test_what_the_headers_tell_comes_with_the_completion() -> None:
    headers = {"x-ratelimit-limit-tokens": "200000", "x-ratelimit-remaining-tokens": "199000"}
    answer = await completed(http(completion(), headers={**headers, "x-ratelimit-reset-tokens": "300ms"}))
    assert answer.headers == RateHeaders(200000, 199000, 0.3)


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (USAGE, Usage(9, 4, 13, 0, "provider")),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": 8}}, Usage(9, 4, 13, 8, "provider")),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": 800}}, Usage(9, 4, 13, 9, "provider")),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": "8"}}, Usage(9, 4, 13, 0, "provider")),
        ({**USAGE, "prompt_tokens_details": None}, Usage(9, 4, 13, 0, "provider")),
        ({**USAGE, "total_tokens": 50}, Usage(9, 4, 50, 0, "provider")),
        ({**USAGE, "total_tokens": 0}, Usage(9, 4, 13, 0, "provider")),
        ({**USAGE, "total_tokens": -7}, Usage(9, 4, 13, 0, "provider")),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, 0, 0, 0, "provider")),
        ({"prompt_tokens": 9, "completion_tokens": 90_000}, Usage(9, 90_000, 90_009, 0, "provider")),
    ],
)
async def test_usage_is_taken_as_the_provider_counts_it(told: Mapping[str, object], usage: Usage) -> None:
    assert (await completed(http(completion(usage=told)))).usage == usage


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        [],
        "13",
        {"prompt_tokens": 9},
        {"prompt_tokens": -9, "completion_tokens": 4},
        {"prompt_tokens": 9, "completion_tokens": 4.0},
        {"prompt_tokens": 9, "completion_tokens": "4"},
        {"prompt_tokens": 9, "completion_tokens": True},
        {"prompt_tokens": 9, "completion_tokens": None},
        {"prompt_tokens": 9, "completion_tokens": 10**10},
        {"prompt_tokens": 9, "completion_tokens": 10**400},
    ],
)
async def test_usage_that_is_none_is_left_to_be_counted_from_the_text(told: object) -> None:
    answer = await completed(http(completion(usage=told, content="forty-two")))
    assert (answer.usage, answer.text) == (None, "forty-two")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
async def test_usage_that_is_no_number_is_none_and_the_body_is_made_readable(number: str) -> None:
    body = json.dumps(completion()).replace('"completion_tokens": 4', f'"completion_tokens": {number}')
    answer = await completed(http(body.encode()))
    assert (answer.usage, answer.text) == (None, "hi there")
    assert json.loads(answer.body)["usage"] == {**USAGE, "completion_tokens": None}


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b'{"choices":[{"message":{"content":"cut \\ud83d"}}]}', "cut ?"),
        (b'\xef\xbb\xbf{"choices":[{"message":{"content":"marked"}}]}', "marked"),
        ('{"choices":[{"message":{"content":"wide"}}]}'.encode("utf-16"), "wide"),
    ],
)
async def test_text_that_others_could_not_read_is_mended(sent: bytes, text: str) -> None:
    answer = await completed(http(sent))
    assert answer.text == text
    assert json.loads(answer.body.decode("utf-8"))["choices"][0]["message"]["content"] == text


async def test_the_text_to_count_is_all_that_the_model_wrote() -> None:
    call_of_a_tool = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}}
    choices = [
        {"message": {"role": "assistant", "content": None, "refusal": "no", "tool_calls": [call_of_a_tool]}},
        {"message": {"role": "assistant", "content": [{"type": "text", "text": "two"}]}},
    ]
    answer = await completed(http(completion(usage=None, choices=choices)))
    assert answer.text.split("\n") == ["no", "look", '{"at":1}', "two"]
