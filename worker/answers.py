"""Reading a provider's finished HTTP answer: the Completion it is, or the Failure it stands for.

Pure functions between the call (provider.py), which has read the answer to its end, and the outcome. An
answer is judged by what is in it: gateways mislabel content types, and a chat completion has been paid for.
"""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple, TypeGuard
from urllib.parse import urlsplit

import jiter

from jobs.record import Usage
from worker.headers import parse_http_date_s, parse_rate_headers
from worker.outcome import MESSAGE_CHARS, Completion, Failure, FailureKind, RateHeaders

USAGE_MAX_TOKENS: Final = 1_000_000_000
"""No chat answer has as many: above it a figure is a mistake, and would drown every counter it joins."""

_HTML_CHARS = 200
_CODE_CHARS = 100
_QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_POLICY_CODES = frozenset({"content_policy_violation", "content_filter"})
_TITLE = re.compile(r"<title[^>]{0,200}>([^<]*)", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_LIMIT = re.compile(r"\blimit:?\s*([0-9][0-9,]{0,14})", re.IGNORECASE)
_REQUESTED = re.compile(r"\brequested:?\s*([0-9][0-9,]{0,14})", re.IGNORECASE)
_NOT_TOKENS_A_MINUTE = re.compile(r"per day|requests per|\b(?:TPD|RPD|RPM)\b", re.IGNORECASE)


class _Told(NamedTuple):
    """What the body of a refusal tells, whatever its shape."""

    message: str
    code: str | None = None
    codes: frozenset[str] = frozenset()
    usage: Usage | None = None


def read_answer(
    status: int, headers: Mapping[str, str], content: bytes, *, now_s: float, api_key: str | None
) -> Completion | Failure:
    """The outcome of an answer that was read to its end (`headers` looked up by lower-case name).

    `now_s`, our Unix time, serves for dates in the headers only where the answer has no date of its own, so
    that a wrong clock of ours makes no wrong wait. `api_key` is kept out of every message.
    """
    dated_s = parse_http_date_s(headers.get("date"))
    rates = parse_rate_headers(headers, now_s if dated_s is None else dated_s)
    if 200 <= status < 300:
        return _read_success(status, content, rates, api_key)
    if 300 <= status < 400:
        message = clean_message(_redirect_message(status, headers.get("location", "")), api_key)
        return Failure(FailureKind.REJECTED, message, sent=True, status=status, headers=rates)
    told = _read_refusal(content)
    kind, learned = _classify(status, told)
    return Failure(
        kind,
        clean_message(told.message or _status_message(status), api_key, hide_masked=status == 401),
        sent=True,
        status=status,
        provider_code=clean_message(told.code, api_key)[:_CODE_CHARS] if told.code else None,
        headers=rates,
        usage=told.usage,
        learned_limit_tokens=learned,
    )


def clean_message(text: str, api_key: str | None, *, hide_masked: bool = False) -> str:
    """`text` fit for a job's record: without `api_key` or a part of it, printable, and not too long.

    `hide_masked` also takes out words with `***`, as which providers repeat a wrong key.
    """
    if api_key:
        text = _without_key(text, api_key, hide_masked)
    text = text.strip()[:MESSAGE_CHARS]
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)


def _without_key(text: str, api_key: str, hide_masked: bool) -> str:
    if len(api_key) < 8:
        # What is that short is a placeholder of a local server, and may be part of any word.
        return re.sub(rf"(?<!\w){re.escape(api_key)}(?!\w)", "[key]", text)
    text = text.replace(api_key, "[key]")
    head = api_key[:8]

    def hide(word: re.Match[str]) -> str:
        return "[key]" if head in word[0] or (hide_masked and "***" in word[0]) else word[0]

    return re.sub(r"\S+", hide, text)


def _read_success(
    status: int, content: bytes, rates: RateHeaders, api_key: str | None
) -> Completion | Failure:
    body, answer = _read_json(content)
    fields = answer if isinstance(answer, dict) else {}
    usage = _read_usage(fields.get("usage"))
    choices = fields.get("choices")
    if _are_choices(choices):
        text = "" if usage else _text_of(choices)
        return Completion(body, usage, rates, text, status)
    if not isinstance(answer, dict):
        what = "HTML" if content.lstrip()[:1] == b"<" else "no JSON object, or one that was cut"
        message = f"The provider answered {status} with {what} ({len(content)} bytes)."
    else:
        told = _read_refusal(content).message or "it has no choices"
        message = f"The provider answered {status} with no chat completion: {told}"
    message = clean_message(message, api_key)
    return Failure(FailureKind.UNKNOWN, message, sent=True, status=status, headers=rates, usage=usage)


def _read_json(content: bytes) -> tuple[bytes, object]:
    """The body and its value, None if it has none.

    What only json reads (NaN, lone surrogates, other encodings) is written anew, so that every reader can.
    """
    try:
        return content, jiter.from_json(content, allow_inf_nan=False)
    except ValueError:
        pass
    try:
        lenient = json.loads(content, parse_constant=lambda _: None)
        mended = json.dumps(lenient, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        return mended, jiter.from_json(mended, allow_inf_nan=False)
    except (ValueError, RecursionError):
        return content, None


def _are_choices(choices: object) -> TypeGuard[list[dict[str, object]]]:
    return (
        isinstance(choices, list)
        and bool(choices)
        and all(isinstance(choice, dict) and isinstance(choice.get("message"), dict) for choice in choices)
    )


def _read_usage(told: object) -> Usage | None:
    if not isinstance(told, dict):
        return None
    prompt, completion = _tokens(told.get("prompt_tokens")), _tokens(told.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    # Some count thinking in the total alone; a total below its parts is no count.
    total = max(_tokens(told.get("total_tokens")) or 0, prompt + completion)
    details = told.get("prompt_tokens_details")
    cached = _tokens(details.get("cached_tokens")) if isinstance(details, dict) else None
    return Usage(prompt, completion, total, min(cached or 0, prompt), source="provider")


def _tokens(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= USAGE_MAX_TOKENS else None


def _text_of(choices: list[dict[str, object]]) -> str:
    """All that the model wrote, in any field that costs tokens."""
    return "\n".join(part for choice in choices for part in _strings(choice["message"]))


def _strings(message: object) -> list[str]:
    if isinstance(message, str):
        return [message]
    if isinstance(message, list):
        return [part for item in message for part in _strings(item)]
    if isinstance(message, dict):
        skipped = ("role", "id", "type")
        return [part for name, value in message.items() if name not in skipped for part in _strings(value)]
    return []


def _read_refusal(content: bytes) -> _Told:
    try:
        answer = jiter.from_json(content)
    except ValueError:
        return _Told(_plain_text(content))
    if isinstance(answer, list) and answer:
        answer = answer[0]
    if not isinstance(answer, dict):
        return _Told(_plain_text(content))
    error = answer.get("error")
    fields = error if isinstance(error, dict) else answer
    message = fields.get("message") or fields.get("detail") or error
    codes = [str(c) for c in (fields.get("code"), fields.get("type")) if isinstance(c, str | int) and c]
    return _Told(
        message=_message_text(message),
        code=codes[0] if codes else None,
        codes=frozenset(codes),
        usage=_read_usage(answer.get("usage")),
    )


def _message_text(message: object) -> str:
    if isinstance(message, str):
        return message
    if isinstance(message, list):
        # FastAPI's list of problems: each has the input beside its `msg`, which is the user's prompt.
        problems = [item.get("msg") for item in message if isinstance(item, dict)]
        return "; ".join(problem for problem in problems if isinstance(problem, str))
    return ""


def _plain_text(content: bytes) -> str:
    text = content.decode("utf-8", "replace").strip()
    if not text.startswith("<"):
        return text
    title = _TITLE.search(text)
    words = title[1] if title and title[1].strip() else _TAG.sub(" ", text)
    return " ".join(words.split())[:_HTML_CHARS]


def _classify(status: int, told: _Told) -> tuple[FailureKind, int | None]:
    kind = FailureKind.UNKNOWN
    if told.codes & _QUOTA_CODES and 400 <= status < 500:
        kind = FailureKind.QUOTA
    elif status in (413, 429) and (too_large := _too_large(status, told.message)):
        return FailureKind.REQUEST_TOO_LARGE, too_large.learned_limit_tokens
    elif status == 401 or "invalid_api_key" in told.codes:
        kind = FailureKind.UNAUTHORIZED
    elif status == 402:
        kind = FailureKind.QUOTA
    elif status == 403 and not told.codes & _POLICY_CODES:
        kind = FailureKind.FORBIDDEN
    elif status == 429:
        kind = FailureKind.THROTTLED
    elif status == 408 or 500 <= status < 600:
        kind = FailureKind.SERVER_ERROR
    elif 400 <= status < 500:
        kind = FailureKind.REJECTED
    return kind, None


class _TooLarge(NamedTuple):
    learned_limit_tokens: int | None


def _too_large(status: int, message: str) -> _TooLarge | None:
    """Whether a 429 (or 413: some send that) is about this one request and not about the moment."""
    limit, requested = _figure(_LIMIT, message), _figure(_REQUESTED, message)
    told_so = status == 429 and "request too large" in message.lower()
    if limit is None or requested is None or requested <= limit:
        return _TooLarge(None) if told_so else None
    return _TooLarge(None if _NOT_TOKENS_A_MINUTE.search(message) else limit)


def _figure(pattern: re.Pattern[str], message: str) -> int | None:
    found = pattern.search(message)
    return int(found[1].replace(",", "")) if found else None


def _redirect_message(status: int, location: str) -> str:
    # Only where to, not the rest of the address: it may hold anything.
    try:
        target = urlsplit(location)
        place = f"{target.scheme}://{target.hostname}" if target.hostname else "another path"
    except ValueError:
        place = "elsewhere"
    return (
        f"The provider answered {status}, a redirect to {place}, which is not followed: it would carry the "
        "provider's key there. Set base_url to the final address."
    )


def _status_message(status: int) -> str:
    try:
        phrase = f" {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    return f"The provider answered {status}{phrase} without a message."
