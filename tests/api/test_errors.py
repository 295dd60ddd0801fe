"""From what was raised to what is answered."""

import json

import pytest
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from starlette.exceptions import HTTPException

from api.errors import KINDS, MOST_ERRORS, FieldError, Problem, answer, invalid, problem_of
from jobs.store import EpochChanged


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Connection closed by server."),
        TimeoutError("Timeout reading from socket"),
        BusyLoadingError("Redis is loading the dataset in memory"),
        ReadOnlyError("You can't write against a read only replica."),
        OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        AuthenticationError("invalid password"),
        ResponseError("MISCONF Redis is configured to save RDB snapshots"),
        ResponseError("OOM command not allowed when used memory > 'maxmemory'."),
        ResponseError("BUSY Redis is busy running a script."),
        ResponseError("MASTERDOWN Link with MASTER is down"),
        ResponseError("NOREPLICAS Not enough good replicas to write."),
        RedisError("anything"),
        EpochChanged("lost"),
    ],
)
def test_a_redis_that_cannot_serve_is_503(error: Exception) -> None:
    problem = problem_of(error)
    assert problem is not None
    assert problem.code == "unavailable"
    assert problem.extra == {"retry_after": 2}
    assert (b"retry-after", b"2") in problem.headers


@pytest.mark.parametrize(
    "error", [ResponseError("user_script:12: bad argument"), ValueError("x"), KeyError("x")]
)
def test_a_mistake_of_ours_is_nobodys_problem(error: Exception) -> None:
    assert problem_of(error) is None


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "not_found"), (405, "method_not_allowed"), (400, "bad_request"), (418, "bad_request")],
)
def test_what_the_framework_raises_has_our_shape(status: int, code: str) -> None:
    problem = problem_of(HTTPException(status))
    assert problem is not None
    response = answer(problem, None)
    assert (response.status_code, json.loads(response.body)["code"]) == (status, code)


@pytest.mark.parametrize("code", KINDS)
def test_every_code_has_an_answer_that_both_kinds_of_client_read(code: str) -> None:
    response = answer(Problem(code, "What to do next."), {"type": "http", "raw_path": b"/v1/jobs"})
    body = json.loads(response.body)
    assert response.status_code == body["status"] == KINDS[code].status
    assert body["type"] == f"urn:penstock:error:{code}"
    assert body["title"]
    assert body["detail"] == body["error"]["message"] == "What to do next."
    assert body["error"]["type"] == KINDS[code].type


@pytest.mark.parametrize(
    ("pointer", "param"),
    [
        ("/body/messages/0/role", "body.messages[0].role"),
        ("/body/a~1b~0c", "body.a/b~c"),
        ("?wait", "wait"),
        ("Idempotency-Key", "Idempotency-Key"),
        ("", ""),
    ],
)
def test_the_first_wrong_place_is_named_as_openai_does(pointer: str, param: str) -> None:
    body = json.loads(answer(invalid(FieldError(pointer, "is wrong")), None).body)
    assert body["error"]["param"] == param
    assert body["errors"] == [{"pointer": pointer, "message": "is wrong"}]


def test_an_answer_stays_small_whatever_was_wrong() -> None:
    problem = invalid(*(FieldError("/" + "x" * 100_000, "is wrong") for _ in range(1_000)))
    body = answer(problem, {"type": "http", "raw_path": b"/" + b"x" * 100_000}).body
    assert len(body) < 10_000
    assert len(json.loads(body)["errors"]) == MOST_ERRORS
