"""What one call of a provider can come to: a Completion or a Failure, as plain values.

They stand between the call (provider.py), which makes them, and the decision (retry.py) and the settle,
which read them.
"""

from dataclasses import dataclass
from enum import StrEnum

from jobs.record import Usage

MESSAGE_CHARS = 2_000
"""No message of a Failure is longer: it goes into the job's record."""


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """What the headers of one answer told of the provider's limits. None: nothing, or nothing believable.

    Resets are seconds from the answer on; `retry_after_s` lies within 1 s and 1 h.
    """

    limit_tokens: int | None = None
    remaining_tokens: int | None = None
    reset_tokens_s: float | None = None
    limit_requests: int | None = None
    remaining_requests: int | None = None
    reset_requests_s: float | None = None
    retry_after_s: float | None = None


NO_HEADERS = RateHeaders()


@dataclass(frozen=True, slots=True)
class Completion:
    """A complete chat completion.

    `body` is the provider's JSON to the byte, decompressed. (Only where a NaN, an Infinity, half a surrogate
    pair or a byte-order mark makes it unreadable for others, it is written anew without them.)
    `usage` is None if the provider told none; only then `text` holds what it wrote, to be counted here.
    """

    body: bytes
    usage: Usage | None
    headers: RateHeaders
    text: str = ""
    status: int = 200


class FailureKind(StrEnum):
    """Why a call brought no completion; each is a row of retry.py's table."""

    NOT_SENT_CONNECT = "not_sent_connect"
    """No connection (refused, DNS, TLS, too slow): the provider has seen nothing of the request."""
    TOO_LATE = "too_late"
    """The time within which the request had to be written passed on our side: nothing was sent."""
    THROTTLED = "throttled"
    """429: over a limit now, fit to be sent later."""
    REQUEST_TOO_LARGE = "request_too_large"
    """429 that says this one request is larger than the limit: waiting cannot help."""
    SERVER_ERROR = "server_error"
    """A complete 5xx (or 408): the provider says that it failed."""
    UNKNOWN = "unknown"
    """Sent, and no complete or readable answer: it may have been carried out, and billed."""
    REJECTED = "rejected"
    """A complete answer that the request, as it is, will always get: most 4xx, a redirect."""
    UNAUTHORIZED = "unauthorized"
    """401: the key is wrong, whoever's job it is."""
    QUOTA = "quota"
    """The account has no credit left (`insufficient_quota`, 402)."""
    FORBIDDEN = "forbidden"
    """403: one flagged prompt, or a key without rights; only several users' jobs can tell."""
    CANCELLED = "cancelled"
    """Cut off by us, because the job was cancelled, expired or the worker stops. Made by the worker."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A call without a completion.

    `message` is the provider's own where there is one, at most MESSAGE_CHARS characters, never with our key.
    `sent` is False only if the provider cannot have got the whole request. `usage` is set where a failure
    told what it cost, `learned_limit_tokens` (a minute) where a 429 told the limit that the request passes.
    """

    kind: FailureKind
    message: str
    sent: bool
    status: int | None = None
    provider_code: str | None = None
    headers: RateHeaders = NO_HEADERS
    usage: Usage | None = None
    learned_limit_tokens: int | None = None

    @property
    def retry_after_s(self) -> float | None:
        """What the provider asked to wait, within 1 s and 1 h; None if it asked nothing believable."""
        return self.headers.retry_after_s
