"""Counting texts: exact where texts are texts, bounded and without exceptions where they are not."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.tokens import text
from jobs.tokens.text import count_text
from jobs.tokens.vocabulary import ENCODING_NAMES, load

MILLION = 1_000_000
ENGLISH = "The river rises in spring, and by June (most years) it's back in its bed: about 1,250 mm lower. "
JAPANESE = "発電所の取水口は、川の流れが緩やかな場所に設けられる。水量は毎秒120立方米。"
CODE = (
    'def settle(job):\n    if job.actual_tokens > 12345:\n        raise ValueError("too many", job.id)\n\n\n'
)


@pytest.mark.parametrize("encoding", ENCODING_NAMES)
@pytest.mark.parametrize("sample", [ENGLISH, JAPANESE, CODE], ids=["English", "Japanese", "code"])
def test_long_ordinary_text_is_counted_exactly(sample: str, encoding: str) -> None:
    whole = sample * (150_000 // len(sample))

    assert count_text(whole, encoding) == len(load(encoding).encode_ordinary(whole))


@pytest.mark.parametrize("encoding", ENCODING_NAMES)
def test_special_tokens_in_a_text_count_as_the_text_they_are(encoding: str) -> None:
    assert count_text("<|endoftext|>", encoding) == 7


def test_nothing_counts_nothing() -> None:
    assert count_text("", "o200k_base") == 0


@pytest.mark.parametrize(
    ("hostile", "tokens"),
    [
        pytest.param(" " * MILLION, 7_813, id="spaces"),
        pytest.param(" " * MILLION + "x", 7_814, id="spaces before a letter"),
        pytest.param("\n" * MILLION, 62_500, id="newlines"),
        pytest.param("a" * MILLION, 125_000, id="one letter"),
        pytest.param("1" * MILLION, 333_334, id="one digit"),
        pytest.param("!" * MILLION, 62_500, id="one mark"),
        pytest.param("\0" * MILLION, 500_000, id="NULs"),
        pytest.param("\N{IDEOGRAPHIC SPACE}" * (MILLION // 3), 20_834, id="wide spaces"),
        pytest.param("\N{COMBINING ACUTE ACCENT}" * (MILLION // 2), 500_000, id="accents without letters"),
        pytest.param("😀" * (MILLION // 4), 250_000, id="emoji"),
        pytest.param("\ud800" * (MILLION // 3), 41_667, id="lone surrogates"),
        pytest.param("<|endoftext|>" * (MILLION // 13), 461_539, id="special tokens"),
    ],
)
def test_a_million_bytes_of_anything_take_well_under_a_second(hostile: str, tokens: int) -> None:
    started_s = time.thread_time()

    counted = count_text(hostile, "o200k_base")

    assert time.thread_time() - started_s < 1
    assert tokens <= counted <= tokens * 1.02


_PIECES = st.sampled_from(
    [*"abZt1٣²Ⅷ!/_'(\":。é漢😀\0\xa0\u3000\u0301\u200d \n\r\t", "  ", "\r\n", "'s", "the", "123"]
)


@given(pieces=st.lists(st.lists(_PIECES, min_size=1, max_size=5), max_size=30), times=st.integers(1, 20))
@settings(derandomize=True, deadline=None, max_examples=300)
def test_counting_in_chunks_is_never_below_counting_the_whole(pieces: list[list[str]], times: int) -> None:
    whole = "".join("".join(piece) * times for piece in pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_CHUNK_CHARS", 20)
        patch.setattr(text, "_LONGEST_CHUNK_CHARS", 40)
        for encoding in ENCODING_NAMES:
            assert count_text(whole, encoding) >= len(load(encoding).encode_ordinary(whole))


_SEPARATORS = st.sampled_from([" ", "\n", "\r\n", "\t", " \n", "/\n", "'s ", "'LL\n"])


@given(words=st.lists(st.tuples(st.text(max_size=8), _SEPARATORS), max_size=40))
@settings(derandomize=True, deadline=None, max_examples=200)
def test_a_text_with_spaces_is_counted_exactly_in_chunks(words: list[tuple[str, str]]) -> None:
    whole = "".join(f"{word}.{separator}it's on" for word, separator in words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_CHUNK_CHARS", 20)
        patch.setattr(text, "_LONGEST_CHUNK_CHARS", 60)
        for encoding in ENCODING_NAMES:
            assert count_text(whole, encoding) == len(load(encoding).encode_ordinary(whole))


@pytest.mark.parametrize("encoding", ENCODING_NAMES)
def test_a_cut_in_a_number_keeps_its_groups_of_three_digits(encoding: str) -> None:
    whole = "x" + "1²1" * 40_000

    assert count_text(whole, encoding) >= len(load(encoding).encode_ordinary(whole))


def test_counting_stops_soon_after_the_limit() -> None:
    whole = ENGLISH * (MILLION // len(ENGLISH))

    counted = count_text(whole, "o200k_base", stop_above_tokens=1_000)

    assert 1_000 < counted < 20_000


def test_a_text_below_the_limit_is_counted_whole() -> None:
    whole = ENGLISH * 1_000

    assert count_text(whole, "o200k_base", stop_above_tokens=MILLION) == count_text(whole, "o200k_base")
