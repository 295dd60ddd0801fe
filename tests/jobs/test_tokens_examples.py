"""The example prompts are whole, told apart, and fit a free user's day twice over."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.config import Config
from jobs.tokens.estimate import estimate

PROMPTS = Path(__file__).parents[2] / "examples" / "prompts.jsonl"


@pytest.fixture(scope="module")
def lines() -> list[dict[str, object]]:
    return [json.loads(line) for line in PROMPTS.read_text("utf-8").splitlines()]


def _body(line: dict[str, object]) -> dict[str, Any]:
    body = line["body"]
    assert isinstance(body, dict)
    return body


def test_there_are_forty_each_with_its_own_id_and_text(lines: list[dict[str, object]]) -> None:
    assert [line["custom_id"] for line in lines] == [f"p{number:02d}" for number in range(1, 41)]
    assert len({json.dumps(_body(line)["messages"]) for line in lines}) == 40


def test_each_is_a_complete_chat_with_a_modest_cap(lines: list[dict[str, object]]) -> None:
    for line in lines:
        body = _body(line)
        messages, cap = body["messages"], body["max_tokens"]
        assert line.keys() == {"custom_id", "body"}
        assert body["model"] == "gpt-4o-mini"
        assert isinstance(messages, list)
        assert messages[-1]["role"] == "user"
        assert all(message.keys() == {"role", "content"} and message["content"] for message in messages)
        assert isinstance(cap, int)
        assert 32 <= cap <= 400


def test_they_vary(lines: list[dict[str, object]]) -> None:
    bodies = [_body(line) for line in lines]
    roles = [[message["role"] for message in body["messages"]] for body in bodies]

    assert sum("tools" in body for body in bodies) == 1
    assert ["system", "user"] in roles
    assert ["system", "user", "assistant", "user"] in roles
    assert len({body["max_tokens"] for body in bodies}) > 20
    assert sum(body["max_tokens"] <= 130 for body in bodies) >= 26


def test_either_half_leaves_most_of_a_free_user_s_day(lines: list[dict[str, object]]) -> None:
    pools = Config().pools("gpt-4o-mini")
    totals = [estimate(_body(line), pools).total_tokens for line in lines]
    day_tokens = Config().tier("free").tokens_per_day
    assert day_tokens is not None

    for half in (totals[:20], totals[20:], totals[::2], totals[1::2]):
        assert sum(half) < 20_000 < day_tokens
