"""What may be submitted: the fields of POST /v1/jobs, and the rules for the provider's body inside.

Wrong fields are collected with their JSON pointers; whatever passes can be stored and sent as it is.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Annotated, Final, Literal

from pydantic import Field

from api.errors import MOST_ERRORS, FieldError, Problem, invalid
from api.fields import StrictModel, escape, read_model
from jobs.record import OnBudget, Priority, RetryPolicy

MAX_EXPIRES_AFTER_S = 604_800
MAX_ANSWERS = 128
MAX_CAP_TOKENS = 1_000_000_000
"""Far above any model; what is multiplied and told of it stays a number that can be printed."""
_LONGEST_MODEL = 128

Text256 = Annotated[str, Field(max_length=256)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]


class Submission(StrictModel):
    """The body of POST /v1/jobs. Times in Unix seconds, `expires_after` in seconds from now."""

    body: dict[str, object]
    endpoint: Literal["/v1/chat/completions"] = "/v1/chat/completions"
    custom_id: Text256 | None = None
    metadata: Metadata | None = None
    priority: Priority = "standard"
    webhook_url: str | None = None
    not_before: Annotated[int, Field(ge=0)] | None = None
    expires_after: Annotated[int, Field(ge=1, le=MAX_EXPIRES_AFTER_S)] = 86_400
    retry: RetryPolicy = "safe"
    on_budget: OnBudget = "reject"

    @property
    def model(self) -> str:
        """The served name the body asks for (checked by `read_submission`)."""
        return str(self.body["model"])


def read_submission(value: Mapping[str, object], *, now_s: float) -> Submission:
    """The submission in a parsed body. Raises Problem 422 with every wrong place."""
    if oversized := [*_oversized(value)]:
        raise invalid(*oversized)
    submission = read_model(Submission, value)
    wrong = [*islice(chain(_body_errors(submission.body), _rule_errors(submission, now_s)), MOST_ERRORS)]
    if wrong:
        raise invalid(*wrong)
    return submission


def _oversized(value: Mapping[str, object]) -> Iterator[FieldError]:
    """Looked at before all else, so that nobody gets a hundred thousand wrong fields told one by one."""
    for pointer, place, most in (
        ("", value, 64),
        ("/metadata", value.get("metadata"), 16),
        ("/body", value.get("body"), 256),
    ):
        if isinstance(place, dict) and len(place) > most:
            yield FieldError(pointer, f"may have at most {most} fields")


def _rule_errors(submission: Submission, now_s: float) -> Iterator[FieldError]:
    if submission.not_before is not None and submission.not_before >= now_s + submission.expires_after:
        yield FieldError("/not_before", "must be before the job expires; give a greater expires_after")


_STEERING: Final = frozenset(
    {
        "api_base", "api_key", "api_type", "api_version", "auth", "authorization", "azure_ad_token",
        "azure_endpoint", "base_url", "client", "cookies", "custom_llm_provider", "default_headers",
        "default_query", "deployment_id", "endpoint", "extra_body", "extra_headers", "extra_query", "headers",
        "host", "http_client", "max_retries", "num_retries", "organization", "project", "proxies", "proxy",
        "region_name", "timeout", "url", "webhook_secret", "websocket_base_url",
    }
)  # fmt: skip
_USUAL: Final = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "n", "temperature", "tools"}
)
_STEERING_PREFIX = re.compile(r"(aws|azure|vertex)_")


def _body_errors(body: Mapping[str, object]) -> Iterator[FieldError]:
    model = body.get("model")
    if not isinstance(model, str) or not 1 <= len(model) <= _LONGEST_MODEL:
        yield FieldError("/body/model", f"must be the name of a model: 1 to {_LONGEST_MODEL} characters")
    yield from _message_errors(body.get("messages"))
    stream = body.get("stream")
    if stream is not None and stream is not False:
        yield FieldError("/body/stream", "must be false: a job's answer is fetched when it is complete")
    for field in ("max_tokens", "max_completion_tokens"):
        if not _absent_or_integer(body.get(field), MAX_CAP_TOKENS):
            yield FieldError(f"/body/{field}", f"must be an integer from 1 to {MAX_CAP_TOKENS}")
    if not _absent_or_integer(body.get("n"), MAX_ANSWERS):
        yield FieldError("/body/n", f"must be an integer from 1 to {MAX_ANSWERS}")
    for field in body:
        if field in _USUAL:
            continue
        plain = field.lower().replace("-", "_")
        if plain in _STEERING or _STEERING_PREFIX.match(plain):
            yield FieldError(f"/body/{escape(field)}", "would steer the provider's connection; remove it")


def _message_errors(messages: object) -> Iterator[FieldError]:
    if not isinstance(messages, list) or not messages:
        yield FieldError("/body/messages", "must be a list of at least one message")
        return
    for place, message in enumerate(messages):
        if not isinstance(message, dict):
            yield FieldError(f"/body/messages/{place}", "must be an object")
        elif not isinstance(message.get("role"), str) or not message["role"]:
            yield FieldError(f"/body/messages/{place}/role", "must be a text such as user or system")


def _absent_or_integer(value: object, most: int) -> bool:
    return value is None or (type(value) is int and 1 <= value <= most)


def unknown_model(name: str, served: tuple[str, ...]) -> Problem:
    """422: no provider serves this name."""
    names = ", ".join(served)
    return Problem(
        "unknown_model",
        f"The model {name[:_LONGEST_MODEL]!r} is not served here; there are: {names}.",
        extra={"models": list(served)},
        errors=(FieldError("/body/model", f"must be one of: {names}"),),
    )
