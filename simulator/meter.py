"""How the provider counts: which tokens are charged against the minute, and when; whom it refuses with a 429.

Admission and charges per accounting, with a bucket of `tpm` refilled continuously:

- `openai`: a request needs, and is charged on arrival, prompt + n x cap. Without a cap the provider takes its
  own estimate of the output instead: as long as the prompt, but at least 16.
- `actual`: a request needs its prompt; usage is charged when the answer is complete, or when the client goes
  away.
- `anthropic`: a request needs, and is charged on arrival, its prompt; output is charged as it is made.

Charges that come later can take the bucket below zero. Every request that carries a valid key counts against
`rpm`, refused ones too: one that finds no place takes what part of a place there is, so hammering never gets
through.
"""

from simulator.bucket import Bucket
from simulator.errors import ApiError
from simulator.log import LogEntry
from simulator.ratelimits import BucketState, rate_limit_headers, retry_headers
from simulator.request import ChatRequest
from simulator.settings import Accounting, SimulatorSettings
from simulator.window import ChargeWindow

_LEAST_ESTIMATE_TOKENS = 16


class Meter:
    """The limits of one provider account, its charges, and the count of its refusals."""

    def __init__(self, settings: SimulatorSettings, now_s: float) -> None:
        self.accounting = settings.accounting
        self.tokens = Bucket(settings.tpm, now_s) if settings.tpm is not None else None
        self.requests = Bucket(settings.rpm, now_s) if settings.rpm is not None else None
        self.window = ChargeWindow()
        self.refused_tokens = 0
        self.refused_requests = 0
        self.refused_too_large = 0

    def count_request(self, model: str, now_s: float) -> None:
        """Count an arrival; an `ApiError` with status 429 if the minute has no place for it."""
        self.window.add(now_s, model, requests=1)
        bucket = self.requests
        if bucket is None:
            return
        if bucket.holds(1, now_s):
            bucket.charge(1, now_s)
            return
        used = bucket.limit
        bucket.charge(max(0.0, bucket.level(now_s)), now_s)
        self.refused_requests += 1
        raise _rate_limited("requests", "requests per min (RPM)", model, bucket, used, 1, now_s)

    def check_tokens(self, request: ChatRequest, now_s: float) -> None:
        """An `ApiError` with status 429 if the bucket does not hold what `request` needs, or never could."""
        bucket = self.tokens
        if bucket is None:
            return
        needed = self._needed_tokens(request)
        if needed > bucket.limit:
            self.refused_too_large += 1
            raise ApiError(
                429,
                f"Request too large for {request.model} in organization org-simulator on tokens per min "
                f"(TPM): Limit {bucket.limit}, Requested {needed}. The input or output tokens must be "
                "reduced in order to run successfully.",
                kind="tokens",
                code="rate_limit_exceeded",
            )
        if not bucket.holds(needed, now_s):
            self.refused_tokens += 1
            used = bucket.limit - int(bucket.level(now_s))
            raise _rate_limited("tokens", "tokens per min (TPM)", request.model, bucket, used, needed, now_s)

    def arrive(self, entry: LogEntry, request: ChatRequest, now_s: float) -> None:
        """Charge what is charged on arrival."""
        if self.accounting is not Accounting.ACTUAL:
            self._charge(entry, self._needed_tokens(request), now_s)

    def produce(self, entry: LogEntry, tokens: int, now_s: float) -> None:
        """Charge `tokens` of output that have just been made."""
        if self.accounting is Accounting.ANTHROPIC:
            self._charge(entry, tokens, now_s)

    def complete(self, entry: LogEntry, now_s: float) -> None:
        """Charge what is charged at the end of the call `entry`, once."""
        if self.accounting is Accounting.ACTUAL and not entry.charges and entry.completion_tokens is not None:
            self._charge(entry, (entry.prompt_tokens or 0) + entry.completion_tokens, now_s)

    def headers(self, now_s: float) -> list[tuple[bytes, bytes]]:
        """The rate-limit headers in the provider's own style; none for what is unlimited."""
        return rate_limit_headers(
            _state(self.tokens, now_s),
            _state(self.requests, now_s),
            anthropic=self.accounting is Accounting.ANTHROPIC,
            now_s=now_s,
        )

    def restart(self, now_s: float) -> None:
        """Begin new totals and maxima; the buckets go on."""
        self.window.restart(now_s)
        self.refused_tokens = self.refused_requests = self.refused_too_large = 0

    def _needed_tokens(self, request: ChatRequest) -> int:
        if self.accounting is not Accounting.OPENAI:
            return request.prompt_tokens
        output = request.max_tokens or max(_LEAST_ESTIMATE_TOKENS, request.prompt_tokens)
        return request.prompt_tokens + request.n * output

    def _charge(self, entry: LogEntry, tokens: int, now_s: float) -> None:
        if self.tokens is not None:
            self.tokens.charge(tokens, now_s)
        entry.charges.append((now_s, tokens))
        entry.charged_tokens += tokens
        self.window.add(now_s, entry.model or "", tokens=tokens)


def _state(bucket: Bucket | None, now_s: float) -> BucketState | None:
    if bucket is None:
        return None
    return BucketState(bucket.limit, max(0, int(bucket.level(now_s))), bucket.full_in_s(now_s))


def _rate_limited(
    kind: str, unit: str, model: str, bucket: Bucket, used: int, needed: int, now_s: float
) -> ApiError:
    wait_s = bucket.wait_s(needed, now_s)
    return ApiError(
        429,
        f"Rate limit reached for {model} in organization org-simulator on {unit}: Limit {bucket.limit}, "
        f"Used {used}, Requested {needed}. Please try again in {wait_s:.3f}s.",
        kind=kind,
        code="rate_limit_exceeded",
        headers=retry_headers(wait_s),
    )
