"""Token counts: plausible for prose, never above what a tokenizer could say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.counting import MessageSize, count_prompt, count_text

PROSE = "Water flows from the reservoir through a long steel pipe, called a penstock, down to the turbine."


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("hi", 1),
        (PROSE, 17),
        ("a b c d e f g h", 4),
        (" " * 1_000_000, 1),
        ("a" * 100_000, 1),
        ("\ud800", 1),
    ],
)
def test_count_of_a_text(text: str, tokens: int) -> None:
    assert count_text(text) == tokens


@given(st.text())
def test_a_text_never_counts_more_than_a_token_for_four_bytes_or_for_a_word(text: str) -> None:
    tokens = count_text(text)
    assert tokens <= -(-len(text.encode()) // 4)
    assert tokens <= max(1, len(text.split()))
    assert (tokens == 0) == (text == "")


def test_a_prompt_counts_three_tokens_besides_and_three_for_each_message() -> None:
    assert count_prompt([MessageSize((PROSE,)), MessageSize((PROSE, "name"))], "") == 3 + 3 + 17 + 3 + 17 + 1


def test_parts_that_are_no_text_and_tools_count() -> None:
    plain = count_prompt([MessageSize(("look",))], "")
    assert count_prompt([MessageSize(("look",), other_parts=2)], "") == plain + 2
    assert count_prompt([MessageSize(("look",))], '{"description":"opens the gate"}') == plain + 3
