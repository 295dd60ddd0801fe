"""Complete answers that are no completion: which failure each one is, and what of it is kept."""

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.record import Usage
from tests.worker.raw_provider import API_KEY, USAGE, RawProvider, call, error, failed, http
from worker.answers import clean_message, read_answer
from worker.outcome import MESSAGE_CHARS, Failure, FailureKind
from worker.provider import ProviderClient
from worker.transport import REFUSAL_MAX_BYTES

NOW_S = 1_790_000_000.0
RATE_LIMITED = (
    "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): "
    "Limit 30000, Used 29000, Requested 3000. Please try again in 4s."
)
TOO_LARGE = (
    "Request too large for gpt-4o in organization org-x on tokens per min (TPM): "
    "Limit 30,000, Requested 45823. The input or output tokens must be reduced in order to run successfully."
)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", FailureKind.REJECTED),
        ("401 Unauthorized", FailureKind.UNAUTHORIZED),
        ("402 Payment Required", FailureKind.QUOTA),
        ("403 Forbidden", FailureKind.FORBIDDEN),
        ("404 Not Found", FailureKind.REJECTED),
        ("405 Method Not Allowed", FailureKind.REJECTED),
        ("408 Request Timeout", FailureKind.SERVER_ERROR),
        ("413 Payload Too Large", FailureKind.REJECTED),
        ("418 Teapot", FailureKind.REJECTED),
        ("422 Unprocessable Entity", FailureKind.REJECTED),
        ("429 Too Many Requests", FailureKind.THROTTLED),
        ("500 Internal Server Error", FailureKind.SERVER_ERROR),
        ("501 Not Implemented", FailureKind.SERVER_ERROR),
        ("502 Bad Gateway", FailureKind.SERVER_ERROR),
        ("503 Service Unavailable", FailureKind.SERVER_ERROR),
        ("504 Gateway Timeout", FailureKind.SERVER_ERROR),
        ("529 Overloaded", FailureKind.SERVER_ERROR),
        ("599 Whatever", FailureKind.SERVER_ERROR),
        ("600 Beyond", FailureKind.UNKNOWN),
        ("999 Beyond", FailureKind.UNKNOWN),
    ],
)
async def test_each_status_is_its_failure_and_is_sent_once(status: str, kind: FailureKind) -> None:
    answer = http(error("because", code="a_code"), status=status)
    async with RawProvider(answer) as provider, ProviderClient(provider.base_url, API_KEY) as client:
        outcome = await call(client)
    expected = Failure(kind, "because", sent=True, status=int(status[:3]), provider_code="a_code")
    assert outcome == expected
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        ("429 No", error("You exceeded your current quota", code="insufficient_quota"), FailureKind.QUOTA),
        ("429 No", error("You exceeded your current quota", kind="insufficient_quota"), FailureKind.QUOTA),
        ("403 No", error("pay", code="insufficient_quota"), FailureKind.QUOTA),
        ("400 No", error("hard limit", code="billing_hard_limit_reached"), FailureKind.QUOTA),
        ("400 No", error("wrong key", code="invalid_api_key"), FailureKind.UNAUTHORIZED),
        ("400 No", error("flagged", code="content_policy_violation"), FailureKind.REJECTED),
        ("403 No", error("flagged", code="content_filter"), FailureKind.REJECTED),
        ("429 No", error(RATE_LIMITED, code="rate_limit_exceeded", kind="tokens"), FailureKind.THROTTLED),
        (
            "429 No",
            error(TOO_LARGE, code="rate_limit_exceeded", kind="tokens"),
            FailureKind.REQUEST_TOO_LARGE,
        ),
        (
            "413 No",
            error(TOO_LARGE, code="rate_limit_exceeded", kind="tokens"),
            FailureKind.REQUEST_TOO_LARGE,
        ),
        ("413 No", error("Request too large"), FailureKind.REJECTED),
        ("500 No", error("quota service down", code="insufficient_quota"), FailureKind.SERVER_ERROR),
    ],
)
async def test_what_an_error_says_of_itself_counts(
    status: str, body: dict[str, object], kind: FailureKind
) -> None:
    assert (await failed(http(body, status=status))).kind is kind


@pytest.mark.parametrize(
    ("message", "kind", "learned"),
    [
        (TOO_LARGE, FailureKind.REQUEST_TOO_LARGE, 30_000),
        ("Limit: 6000, requested: 9000 tokens", FailureKind.REQUEST_TOO_LARGE, 6_000),
        ("Request too large.", FailureKind.REQUEST_TOO_LARGE, None),
        ("on tokens per day (TPD): Limit 100, Requested 200", FailureKind.REQUEST_TOO_LARGE, None),
        ("Limit 6000, Used 1, Requested 6000", FailureKind.THROTTLED, None),
        (RATE_LIMITED, FailureKind.THROTTLED, None),
        ("Limit 99999999999999999999999999, Requested 5", FailureKind.THROTTLED, None),
        ("slow down", FailureKind.THROTTLED, None),
        ("", FailureKind.THROTTLED, None),
    ],
)
async def test_a_429_about_the_request_itself_teaches_the_limit(
    message: str, kind: FailureKind, learned: int | None
) -> None:
    outcome = await failed(http(error(message), status="429 Too Many Requests"))
    assert (outcome.kind, outcome.learned_limit_tokens) == (kind, learned)


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (error("said", code="c", kind="t"), "said", "c"),
        (error("said", kind="t"), "said", "t"),
        (error("said", code=400, kind="t"), "said", "400"),
        ({"error": "said"}, "said", None),
        ({"message": "said", "type": "BadRequestError", "code": 400}, "said", "400"),
        ({"detail": "said"}, "said", None),
        ({"detail": [{"msg": "one", "input": "the prompt"}, {"msg": "two"}]}, "one; two", None),
        (b'[{"error": {"message": "said", "code": 7}}]', "said", "7"),
        (b"plain words\n", "plain words", None),
        (
            b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>",
            "502 Bad Gateway",
            None,
        ),
        (b"<h1>Oh</h1>\n<p>no &amp; " + b"x" * 5_000 + b"</p>", "Oh no &amp; " + "x" * 188, None),
        (b"", "The provider answered 400 Bad Request without a message.", None),
        (b"{}", "The provider answered 400 Bad Request without a message.", None),
        (
            b'{"error": {"message": {"no": "text"}}}',
            "The provider answered 400 Bad Request without a message.",
            None,
        ),
        (error("x" * 9_000), "x" * MESSAGE_CHARS, None),
        (b'{"error": "nul \\u0000 and esc \\u001b"}', "nul ? and esc ?", None),
        (b"\xff\xfe", "\ufffd\ufffd", None),
    ],
)
async def test_the_providers_message_is_kept_in_whatever_shape_it_comes(
    body: bytes | dict[str, object], message: str, code: str | None
) -> None:
    outcome = await failed(http(body, status="400 Bad Request", content_type="text/whatever"))
    assert (outcome.message, outcome.provider_code) == (message, code)


async def test_usage_told_with_a_rejection_is_kept() -> None:
    outcome = await failed(http(error("flagged", usage=USAGE), status="400 Bad Request"))
    assert outcome.usage == Usage(9, 4, 13, 0, "provider")


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "12"}, 12.0),
        ({"Retry-After-Ms": "2500", "Retry-After": "9"}, 2.5),
        ({"Retry-After": "0"}, 1.0),
        ({"Retry-After": "86400"}, 3600.0),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "soon"}, None),
        ({}, None),
        ({"Retry-After": formatdate(NOW_S + 40, usegmt=True)}, 40.0),
        (
            {
                "Retry-After": formatdate(NOW_S + 3640, usegmt=True),
                "Date": formatdate(NOW_S + 3600, usegmt=True),
            },
            40.0,
        ),
    ],
)
async def test_the_wait_asked_for_is_read_by_the_providers_own_clock_where_it_tells_it(
    headers: dict[str, str], wait_s: float | None
) -> None:
    answer = http(error("slow down"), status="429 Too Many Requests", headers=headers)
    assert (await failed(answer, wall_clock=lambda: NOW_S)).retry_after_s == wait_s


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent", "304 Same"]
)
async def test_a_redirect_is_not_followed(status: str) -> None:
    async with RawProvider(http()) as elsewhere:
        target = elsewhere.base_url.replace("http://", "http://user:pass@") + "/x?secret=1"
        outcome = await failed(http(status=status, headers={"Location": target}))
    assert elsewhere.connections == 0
    assert outcome.kind is FailureKind.REJECTED
    assert outcome.status == int(status[:3])
    assert "http://127.0.0.1" in outcome.message
    assert "base_url" in outcome.message
    assert "secret" not in outcome.message
    assert "pass" not in outcome.message


@pytest.mark.parametrize(
    ("location", "place"),
    [("", "another path"), ("/v2/chat", "another path"), ("http://[::1", "elsewhere"), ("//\x7f", "://?")],
)
def test_a_redirect_to_nowhere_is_rejected_too(location: str, place: str) -> None:
    outcome = read_answer(302, {"location": location}, b"", now_s=NOW_S, api_key=None)
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.REJECTED
    assert f"a redirect to {place}, which" in outcome.message


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "429 Slow", "500 Oh", "200 OK"])
@pytest.mark.parametrize(
    "leak",
    [API_KEY, f"({API_KEY})", API_KEY[:12] + "...", API_KEY[:8] + "*****cdef", f"a{API_KEY}b{API_KEY}"],
)
async def test_no_message_and_no_code_holds_the_key(status: str, leak: str) -> None:
    outcome = await failed(
        http(error(f"Incorrect key {leak} given", code=f"c-{leak}", kind=leak), status=status)
    )
    assert "Incorrect key" in outcome.message
    for text in (outcome.message, outcome.provider_code or ""):
        assert API_KEY[:8] not in text
        assert "cdef" not in text


async def test_a_masked_key_is_kept_out_of_a_401() -> None:
    outcome = await failed(
        http(error("Incorrect API key provided: sk-t****cdef."), status="401 Unauthorized")
    )
    assert outcome.message == "Incorrect API key provided: [key]"


def test_a_placeholder_for_a_key_does_not_garble_messages() -> None:
    assert clean_message("none of nonesuch: none", "none") == "[key] of nonesuch: [key]"


@given(
    status=st.integers(100, 999),
    content=st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")),
    head=st.sampled_from(
        [b"", b"{", b'{"error":', b'{"choices":[', b'{"choices":[{"message":{"content":"', b"<"]
    ),
    value=st.text(max_size=40),
)
def test_no_answer_breaks_the_reading(status: int, content: bytes, head: bytes, value: str) -> None:
    names = ("date", "location", "retry-after", "x-ratelimit-limit-tokens", "x-ratelimit-reset-tokens")
    outcome = read_answer(status, dict.fromkeys(names, value), head + content, now_s=NOW_S, api_key=API_KEY)
    if isinstance(outcome, Failure):
        assert 0 < len(outcome.message) <= MESSAGE_CHARS
        outcome.message.encode("utf-8")


@pytest.mark.parametrize("content", [b"[", b"<", b"<title", b"limit", b"a*", b"<title>", b"<a", b"limit 1 "])
def test_a_hostile_message_is_read_in_linear_time(content: bytes) -> None:
    content *= REFUSAL_MAX_BYTES // len(content)
    started = time.process_time()
    assert isinstance(read_answer(401, {}, content, now_s=NOW_S, api_key=API_KEY), Failure)
    assert time.process_time() - started < 0.1
