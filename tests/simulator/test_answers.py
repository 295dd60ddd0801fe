"""Answers: deterministic, told apart by their prompt, never above the cap, and well-formed on the wire."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.answers import completion_body, stream_events, usage_of, write_answers
from tests.simulator.builders import request


def test_an_answer_echoes_the_first_line_of_the_prompt() -> None:
    (answer,) = write_answers(
        request("\n Job 17 of Ada \nsecond line", max_tokens=50), seed=0, mean_tokens=20, most_tokens=99
    )
    assert answer.text.startswith("echo: Job 17 of Ada")
    assert "second line" not in answer.text


def test_the_same_seed_and_prompt_give_the_same_answer_and_others_another() -> None:
    def text(seed: int, prompt: str) -> str:
        return write_answers(request(prompt), seed=seed, mean_tokens=200, most_tokens=4096)[0].text

    assert text(1, "hi") == text(1, "hi")
    assert len({text(1, "hi"), text(2, "hi"), text(1, "hi ")}) == 3


def test_the_answers_to_one_request_differ() -> None:
    answers = write_answers(request(n=5), seed=0, mean_tokens=200, most_tokens=4096)
    assert len({answer.text for answer in answers}) == 5


@given(prompt=st.text(max_size=80), cap=st.integers(1, 60), n=st.integers(1, 4), mean=st.integers(1, 100))
def test_no_answer_is_above_its_cap_and_a_word_is_a_token(prompt: str, cap: int, n: int, mean: int) -> None:
    asked = request(prompt, max_tokens=cap, n=n)
    answers = write_answers(asked, seed=7, mean_tokens=mean, most_tokens=4096)
    assert len(answers) == n
    for answer in answers:
        assert 1 <= answer.tokens <= cap
        assert answer.finish_reason in ("stop", "length")
        assert answer.finish_reason == "stop" or answer.tokens == cap
        assert len(answer.text.split()) == answer.tokens


def test_lengths_have_about_the_mean_that_was_set() -> None:
    tokens = [
        write_answers(request(f"p{index}"), seed=0, mean_tokens=150, most_tokens=100_000)[0].tokens
        for index in range(2000)
    ]
    assert sum(tokens) / len(tokens) == pytest.approx(150, rel=0.1)


def test_without_a_cap_the_models_own_cap_holds() -> None:
    (answer,) = write_answers(request("hi"), seed=0, mean_tokens=10_000_000, most_tokens=30)
    assert (answer.tokens, answer.finish_reason) == (30, "length")


def test_usage_adds_up() -> None:
    usage = usage_of(12, 30)
    assert usage.body == {
        "prompt_tokens": 12,
        "completion_tokens": 30,
        "total_tokens": 42,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert usage.total_tokens == 42


@pytest.mark.parametrize(
    ("override", "output", "total"),
    [("-5", -5, 7), ("999999", 999999, 1000011), ("inf", math.inf, None), ("lots", "lots", None)],
)
def test_usage_can_be_made_wrong(override: str, output: object, total: int | None) -> None:
    usage = usage_of(12, 30, override)
    assert usage.body["completion_tokens"] == output
    assert usage.total_tokens == total


def test_a_usage_of_nan_is_written_as_nan() -> None:
    asked = request("hi")
    answers = write_answers(asked, seed=0, mean_tokens=5, most_tokens=9)
    assert b'"completion_tokens": NaN' in completion_body(asked, answers, usage_of(12, 5, "nan"), "req_1", 0)


def test_the_pieces_of_a_stream_add_up_to_the_answers() -> None:
    asked = request("hi there", max_tokens=40, n=2, stream=True, stream_options={"include_usage": True})
    answers = write_answers(asked, seed=3, mean_tokens=30, most_tokens=99)
    sent = b"".join(stream_events(asked, answers, usage_of(9, 50), "req_abc", 1.5)).decode().split("\n\n")
    assert sent[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in sent[:-2]]
    texts = ["", ""]
    reasons: dict[int, str] = {}
    for chunk in chunks:
        assert (chunk["id"], chunk["object"], chunk["created"]) == (
            "chatcmpl-abc",
            "chat.completion.chunk",
            1,
        )
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
            if choice["finish_reason"]:
                reasons[choice["index"]] = choice["finish_reason"]
    assert texts == [answer.text for answer in answers]
    assert reasons == {index: answer.finish_reason for index, answer in enumerate(answers)}
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 59
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
