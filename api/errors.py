"""Everything that can go wrong as an answer: one table from code to status, one shape for all of them.

The shape is read by RFC 9457 clients (`type`, `title`, `status`, `detail`, `instance`) and by OpenAI clients
(`error`). Routes raise `Problem`; what the framework and Redis raise is turned into one by `problem_of`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from redis.exceptions import (
    RedisError,
)
from starlette.exceptions import HTTPException
from starlette.types import Scope

from api.answers import PROBLEM_JSON, Answer, Header, dump
from jobs.outage import outage
from jobs.store import EpochChanged

RETRY_AFTER_UNAVAILABLE_S = 2
"""Redis is usually back within seconds, and a refused submission costs the caller nothing."""

MOST_ERRORS = 20
"""Wrong places told in one answer."""

_LONGEST_INSTANCE = 200
_LONGEST_POINTER = 200


@dataclass(frozen=True, slots=True)
class Kind:
    """What all answers with one code have in common; `type` is how OpenAI clients group errors."""

    status: int
    title: str
    type: str


_CALLER = "invalid_request_error"
_LIMIT = "rate_limit_error"

KINDS: Final[Mapping[str, Kind]] = {
    "bad_request": Kind(400, "The request is not proper HTTP", _CALLER),
    "invalid_json": Kind(400, "The body is not valid JSON", _CALLER),
    "invalid_key": Kind(401, "A valid API key is required", "authentication_error"),
    "forbidden": Kind(403, "The API key may not do this", "permission_error"),
    "not_found": Kind(404, "Not found", _CALLER),
    "method_not_allowed": Kind(405, "The method is not allowed here", _CALLER),
    "slow_body": Kind(408, "The request came too slowly", _CALLER),
    "already_exists": Kind(409, "It exists already", _CALLER),
    "job_finished": Kind(409, "The job has already ended", _CALLER),
    "job_unfinished": Kind(409, "The job has not ended yet", _CALLER),
    "endpoint_unusable": Kind(409, "The webhook endpoint cannot be used so", _CALLER),
    "too_large": Kind(413, "The body is too large", _CALLER),
    "unsupported_media_type": Kind(415, "The body must be application/json", _CALLER),
    "invalid_request": Kind(422, "The request is not valid", _CALLER),
    "unknown_model": Kind(422, "The model is not served here", _CALLER),
    "job_too_large": Kind(422, "The job can never fit", _CALLER),
    "idempotency_key_reused": Kind(422, "The Idempotency-Key belongs to another payload", _CALLER),
    "webhook_url_forbidden": Kind(422, "Webhooks may not go to this address", _CALLER),
    "rate_limited": Kind(429, "Too many requests", _LIMIT),
    "budget_exhausted": Kind(429, "Today's tokens are used up", _LIMIT),
    "queue_full": Kind(429, "Too much is waiting already", _LIMIT),
    "headers_too_large": Kind(431, "The request's header is too large", _CALLER),
    "internal": Kind(500, "Something went wrong on our side", "server_error"),
    "unavailable": Kind(503, "Not available at the moment", "server_error"),
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong place: a JSON pointer into the body, `?name` for a query parameter, or a header's name."""

    pointer: str
    message: str


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818  (an answer that RFC 9457 calls so)
    """An answer other than success. `detail` is for the caller's eyes: what is wrong, and what to do next.

    `extra` are further members of the body; `status` is the code's own unless given.
    """

    code: str
    detail: str
    extra: Mapping[str, object] = field(default_factory=dict)
    headers: Sequence[Header] = ()
    errors: Sequence[FieldError] = ()
    status: int | None = None


def invalid(*errors: FieldError) -> Problem:
    """422 `invalid_request`: these places are wrong."""
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    place = f"{_short(first.pointer)}: " if first.pointer else ""
    return Problem("invalid_request", f"{place}{first.message}{more}", errors=errors)


def retry_after(seconds: int) -> Header:
    """The header of that name: whole seconds, at least 1."""
    return (b"retry-after", str(max(1, seconds)).encode())


DO_NOT_RETRY: Final[Header] = (b"x-should-retry", b"false")
"""openai's clients would otherwise retry a 409."""


def unavailable(detail: str) -> Problem:
    """503: Redis cannot be used now; nothing was accepted."""
    seconds = RETRY_AFTER_UNAVAILABLE_S
    return Problem("unavailable", detail, extra={"retry_after": seconds}, headers=(retry_after(seconds),))


def job_not_found() -> Problem:
    """The one answer for ids of others, ids never issued, and what could not be an id."""
    return Problem(
        "not_found", "There is no such job: check its id and the key you use, or it is past its retention."
    )


def problem_of(error: Exception) -> Problem | None:
    """The answer to an exception that is expected to happen; None for a mistake of ours."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, EpochChanged):
        return unavailable("The job store lost its data; an operator has to decide how to go on.")
    if isinstance(error, RedisError):
        return _redis_problem(error)
    if isinstance(error, HTTPException):
        return _http_problem(error)
    return None


def _redis_problem(error: RedisError) -> Problem | None:
    """503 for what passes or an operator must mend; None for a script that fails: that is a mistake of ours."""
    told = outage(error)
    return None if told is None else unavailable(told)


_HTTP_CODES: Final = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 503: "unavailable"}


def _http_problem(error: HTTPException) -> Problem:
    headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    if error.status_code == 404:
        return Problem(
            "not_found", "There is nothing at this address: see /docs for what there is.", headers=headers
        )
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return Problem("method_not_allowed", f"Here is allowed: {allowed}.", headers=headers)
    code = _HTTP_CODES.get(error.status_code, "bad_request" if error.status_code < 500 else "internal")
    return Problem(code, HTTPStatus(error.status_code).phrase, headers=headers, status=error.status_code)


def answer(problem: Problem, scope: Scope | None) -> Answer:
    """The problem as it goes out; `scope` is of the request, None where there is none yet."""
    kind = KINDS[problem.code]
    status = problem.status or kind.status
    errors = [
        {"pointer": _short(one.pointer), "message": one.message} for one in problem.errors[:MOST_ERRORS]
    ]
    body: dict[str, object] = {
        "type": f"urn:penstock:error:{problem.code}",
        "title": kind.title,
        "status": status,
        "detail": problem.detail,
        "instance": _instance(problem, scope),
        "code": problem.code,
        "error": {
            "message": problem.detail,
            "type": kind.type,
            "code": problem.code,
            "param": _param(errors[0]["pointer"]) if errors else None,
        },
        **problem.extra,
    }
    if errors:
        body["errors"] = errors
    return Answer(dump(body), status, problem.headers, PROBLEM_JSON)


def _instance(problem: Problem, scope: Scope | None) -> str:
    """The path that was asked for; none of it for a 404, so that all of them are alike to the byte."""
    if scope is None or problem.code == "not_found":
        return "/"
    raw: bytes = scope.get("raw_path") or b""
    return raw.partition(b"?")[0].decode("ascii", "replace")[:_LONGEST_INSTANCE] or "/"


def _param(pointer: str) -> str:
    """The pointer as OpenAI writes places: `body.messages[0].role`."""
    if not pointer.startswith("/"):
        return pointer.removeprefix("?")
    path = ""
    for part in pointer[1:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        path += f"[{name}]" if name.isdecimal() else f".{name}" if path else name
    return path


def _short(pointer: str) -> str:
    return pointer if len(pointer) <= _LONGEST_POINTER else pointer[:_LONGEST_POINTER] + "…"
