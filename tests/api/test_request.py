"""What headers and query ask for."""

import pytest
from starlette.types import Scope

from api.errors import Problem
from api.request import Query, idempotency_key, is_job_id, preferred_wait_s


def headed(name: bytes, *values: bytes) -> Scope:
    return {"headers": [(name, value) for value in values]}


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (b"abc", "abc"),
        (b'"abc"', "abc"),
        (b"  abc  ", "abc"),
        (b"8e03978e-40d5-43e8-bc93-6894a57f9324", "8e03978e-40d5-43e8-bc93-6894a57f9324"),
        (b"a b:{}*", "a b:{}*"),
        (rb'"a\"b\\c"', r"a\b\c".replace("\\b", '"b')),
        (b"x" * 255, "x" * 255),
        (b'"' + b"x" * 255 + b'"', "x" * 255),
    ],
)
def test_an_idempotency_key_is_bare_or_quoted(header: bytes, key: str) -> None:
    assert idempotency_key(headed(b"idempotency-key", header)) == key


@pytest.mark.parametrize(
    "values",
    [
        (b"",),
        (b'""',),
        (b"x" * 256,),
        (b'"' + b"x" * 256 + b'"',),
        (b'"abc',),
        (b'"a"b"',),
        (b'"abc";p=1',),
        (b"\xc3\xa4",),
        (b"a\tb",),
        (b"a", b"a"),
    ],
)
def test_a_wrong_idempotency_key_is_refused(values: tuple[bytes, ...]) -> None:
    with pytest.raises(Problem) as caught:
        idempotency_key(headed(b"idempotency-key", *values))
    assert caught.value.code == "invalid_request"


def test_no_idempotency_key_is_none() -> None:
    assert idempotency_key({"headers": []}) is None


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ((b"wait=10",), 10),
        ((b"wait=60",), 60),
        ((b"wait=61",), 60),
        ((b"wait=999999999",), 60),
        ((b"wait=0",), 0),
        ((b"Wait = 5",), 5),
        ((b'wait="5"',), 5),
        ((b"wait=5; foo=bar",), 5),
        ((b"respond-async, wait=7",), 7),
        ((b"respond-async", b"wait=7"), 7),
        ((b"wait=ten",), 0),
        ((b"wait=-1",), 0),
        ((b"wait=1.5",), 0),
        ((b"wait=" + b"9" * 5_000,), 0),
        ((b"await=5",), 0),
        ((b"",), 0),
        ((), 0),
    ],
)
def test_a_preferred_wait_is_at_most_a_minute(values: tuple[bytes, ...], seconds: int) -> None:
    assert preferred_wait_s(headed(b"prefer", *values)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("wait=10", 10), ("wait=61", 60), ("wait=0", 0), ("", 0), ("wait=5&wait=6", 5)]
)
def test_a_wait_in_the_query_is_at_most_a_minute(text: str, seconds: int) -> None:
    assert Query({"query_string": text.encode()}).wait_s() == seconds


@pytest.mark.parametrize(
    "text", ["wait=", "wait=ten", "wait=-1", "wait=1.5", "wait=%00", "wait=1e1", "wait=" + "9" * 99]
)
def test_a_wait_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(Problem) as caught:
        Query({"query_string": text.encode()}).wait_s()
    assert [one.pointer for one in caught.value.errors] == ["?wait"]


def test_a_long_query_is_refused_before_it_is_taken_apart() -> None:
    Query({"query_string": b"a&" * 4_096})
    with pytest.raises(Problem) as raised:
        Query({"query_string": b"a&" * 4_096 + b"a"})
    assert raised.value.code == "invalid_request"


def test_what_the_query_may_hold_is_bounded() -> None:
    query = Query({"query_string": b"limit=101&status=done&custom_id=" + b"x" * 257 + b"&after=job_x"})
    for ask in (
        lambda: query.count("limit", default=20, least=1, most=100),
        lambda: query.choice("status", ("queued",)),
        lambda: query.text("custom_id"),
        lambda: query.job_id("after"),
    ):
        with pytest.raises(Problem):
            ask()


@pytest.mark.parametrize(
    "text",
    [
        "job_",
        "job_01M83K5MCCW2YQ3MVT6HYZ8AP",
        "job_01M83K5MCCW2YQ3MVT6HYZ8AP88",
        "job_01m83k5mccw2yq3mvt6hyz8ap8",
        "job_81M83K5MCCW2YQ3MVT6HYZ8AP8",
        "job_01M83K5MCCW2YQ3MVT6HYZ8APU",
        "job_01M83K5MCCW2YQ3MVT6HYZ8AP8\n",
        "xob_01M83K5MCCW2YQ3MVT6HYZ8AP8",
        "*",
        "../job_01M83K5MCCW2YQ3MVT6HYZ8AP8",
    ],
)
def test_what_is_no_job_id_is_known_by_its_looks(text: str) -> None:
    assert not is_job_id(text)


def test_a_job_id_is_a_ulid() -> None:
    assert is_job_id("job_01M83K5MCCW2YQ3MVT6HYZ8AP8")
