"""What may be submitted: each field's rule, and where a wrong one is pointed at."""

from typing import Any

import pytest

from api.errors import Problem
from api.submission import Submission, read_submission
from tests.api.harness import chat

NOW_S = 1_790_000_000


def read(**fields: Any) -> Submission:
    return read_submission({"body": chat(), **fields}, now_s=NOW_S)


def pointers(value: dict[str, Any]) -> list[str]:
    with pytest.raises(Problem) as caught:
        read_submission(value, now_s=NOW_S)
    assert caught.value.code == "invalid_request"
    return [one.pointer for one in caught.value.errors]


def test_a_body_alone_is_enough() -> None:
    submission = read()
    assert submission.model == "m"
    assert (submission.priority, submission.retry, submission.on_budget) == ("standard", "safe", "reject")
    assert (submission.expires_after, submission.not_before) == (86_400, None)


def test_all_fields_at_their_limits_are_taken() -> None:
    submission = read(
        endpoint="/v1/chat/completions",
        custom_id="x" * 256,
        metadata={f"{'k' * 62}{n:02}": "v" * 512 for n in range(16)},
        priority="batch",
        webhook_url="https://example.com/hook",
        not_before=NOW_S + 604_799,
        expires_after=604_800,
        retry="never",
        on_budget="wait",
    )
    assert submission.custom_id == "x" * 256
    assert len(submission.metadata or {}) == 16


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"bdoy": {}}, "/bdoy"),
        ({"a/b~c": 1}, "/a~1b~0c"),
        ({"body": None}, "/body"),
        ({"body": []}, "/body"),
        ({"endpoint": "/v1/embeddings"}, "/endpoint"),
        ({"endpoint": None}, "/endpoint"),
        ({"custom_id": "x" * 257}, "/custom_id"),
        ({"custom_id": 5}, "/custom_id"),
        ({"metadata": {f"{n}": "" for n in range(17)}}, "/metadata"),
        ({"metadata": {"k" * 65: ""}}, f"/metadata/{'k' * 65}"),
        ({"metadata": {"k": "v" * 513}}, "/metadata/k"),
        ({"metadata": {"k": 1}}, "/metadata/k"),
        ({"metadata": {"k": None}}, "/metadata/k"),
        ({"metadata": []}, "/metadata"),
        ({"priority": "urgent"}, "/priority"),
        ({"priority": 1}, "/priority"),
        ({"expires_after": 0}, "/expires_after"),
        ({"expires_after": -1}, "/expires_after"),
        ({"expires_after": 604_801}, "/expires_after"),
        ({"expires_after": "5"}, "/expires_after"),
        ({"expires_after": 5.0}, "/expires_after"),
        ({"expires_after": True}, "/expires_after"),
        ({"expires_after": 10**4000}, "/expires_after"),
        ({"not_before": "5"}, "/not_before"),
        ({"not_before": 5.0}, "/not_before"),
        ({"not_before": True}, "/not_before"),
        ({"not_before": -1}, "/not_before"),
        ({"not_before": 10**4000}, "/not_before"),
        ({"not_before": NOW_S + 86_400}, "/not_before"),
        ({"not_before": NOW_S + 10, "expires_after": 10}, "/not_before"),
        ({"retry": "always"}, "/retry"),
        ({"on_budget": "ask"}, "/on_budget"),
        ({"webhook_url": 1}, "/webhook_url"),
    ],
)
def test_a_wrong_field_is_pointed_at(fields: dict[str, Any], pointer: str) -> None:
    assert pointers({"body": chat(), **fields}) == [pointer]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"model": None}, "/body/model"),
        ({"model": ""}, "/body/model"),
        ({"model": 5}, "/body/model"),
        ({"model": "x" * 129}, "/body/model"),
        ({"messages": None}, "/body/messages"),
        ({"messages": []}, "/body/messages"),
        ({"messages": "hello"}, "/body/messages"),
        ({"messages": {"role": "user"}}, "/body/messages"),
        ({"messages": ["hello"]}, "/body/messages/0"),
        ({"messages": [{"role": "user"}, {"content": "x"}]}, "/body/messages/1/role"),
        ({"messages": [{"role": None}]}, "/body/messages/0/role"),
        ({"messages": [{"role": ""}]}, "/body/messages/0/role"),
        ({"stream": True}, "/body/stream"),
        ({"stream": 0}, "/body/stream"),
        ({"stream": "false"}, "/body/stream"),
        ({"max_tokens": 0}, "/body/max_tokens"),
        ({"max_tokens": -1}, "/body/max_tokens"),
        ({"max_tokens": "5"}, "/body/max_tokens"),
        ({"max_tokens": 5.0}, "/body/max_tokens"),
        ({"max_tokens": True}, "/body/max_tokens"),
        ({"max_completion_tokens": 0}, "/body/max_completion_tokens"),
        ({"n": 0}, "/body/n"),
        ({"n": 129}, "/body/n"),
        ({"n": 1.0}, "/body/n"),
        ({"n": True}, "/body/n"),
        ({"n": "1"}, "/body/n"),
        ({"api_base": "http://127.0.0.1"}, "/body/api_base"),
        ({"api_key": "x"}, "/body/api_key"),
        ({"API_KEY": "x"}, "/body/API_KEY"),
        ({"base_url": "http://127.0.0.1"}, "/body/base_url"),
        ({"base-url": "http://127.0.0.1"}, "/body/base-url"),
        ({"extra_headers": {}}, "/body/extra_headers"),
        ({"extra_query": {}}, "/body/extra_query"),
        ({"extra_body": {}}, "/body/extra_body"),
        ({"timeout": 1}, "/body/timeout"),
        ({"max_retries": 9}, "/body/max_retries"),
        ({"http_client": None}, "/body/http_client"),
        ({"default_headers": {}}, "/body/default_headers"),
        ({"organization": "x"}, "/body/organization"),
        ({"project": "x"}, "/body/project"),
        ({"aws_session_token": "x"}, "/body/aws_session_token"),
        ({"custom_llm_provider": "x"}, "/body/custom_llm_provider"),
    ],
)
def test_a_wrong_field_of_the_body_is_pointed_at(fields: dict[str, Any], pointer: str) -> None:
    assert pointers({"body": chat(**fields)}) == [pointer]


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": False},
        {"stream": None},
        {"n": None, "max_tokens": None, "max_completion_tokens": None},
        {"n": 128},
        {"temperature": 0.7, "top_p": 1, "seed": 7, "user": "u", "response_format": {"type": "json_object"}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]},
        {"a_field_of_next_year": {"a": [1]}},
    ],
)
def test_the_fields_of_the_chat_api_pass_through_untouched(fields: dict[str, Any]) -> None:
    assert read(body=chat(**fields)).body == chat(**fields)


def test_all_wrong_fields_are_told_together() -> None:
    value = {"body": chat(stream=True, n=0), "not_before": NOW_S + 86_400}
    assert pointers(value) == ["/body/stream", "/body/n", "/not_before"]


def test_a_missing_body_is_told() -> None:
    assert pointers({}) == ["/body"]


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({f"field_{n}": 1 for n in range(100_000)}, ""),
        ({"body": {f"field_{n}": 1 for n in range(100_000)}}, "/body"),
        ({"body": chat(), "metadata": {f"{n}": 1 for n in range(100_000)}}, "/metadata"),
    ],
)
def test_a_hundred_thousand_fields_are_refused_as_one(value: dict[str, Any], pointer: str) -> None:
    assert pointers(value) == [pointer]


def test_of_a_hundred_thousand_wrong_messages_a_few_are_told() -> None:
    assert len(pointers({"body": chat(messages=["x"] * 100_000)})) == 20
