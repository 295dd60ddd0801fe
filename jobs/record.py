"""What a job is: its states, its record as the scripts keep it, and what a settled attempt says.

This is the bottom of the line: the API writes a `NewJob`, the scripts turn it into a record, a worker gets it back as
a `ClaimedJob`, and polls read it as a `JobView`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

Priority = Literal["interactive", "standard", "batch"]
RetryPolicy = Literal["safe", "never"]
OnBudget = Literal["reject", "wait"]
UsageSource = Literal["provider", "estimated"]

CHAT: Final = "/v1/chat/completions"
"""The endpoint of a job that names none."""

BlockedOn = Literal[
    "not_before",
    "user_budget",
    "provider_tokens",
    "provider_requests",
    "provider_paused",
    "concurrency",
    "backoff",
]


class State(StrEnum):
    """The states of a job; what moves it on, and what happens if nobody does."""

    QUEUED = "queued"
    """In its lane, or due later. A claim moves it to running; a cancel or its expiry ends it."""
    RUNNING = "running"
    """Leased by a worker, whose settle ends it. If the worker dies, the sweep puts it back or fails it."""
    SUCCEEDED = "succeeded"
    """A complete answer was settled. Final."""
    FAILED = "failed"
    """The provider refused it, or its attempts are used up. Final."""
    CANCELLED = "cancelled"
    """Its user cancelled it before its answer came. Final."""
    EXPIRED = "expired"
    """`expires_after` passed before its answer came. Final."""

    @property
    def final(self) -> bool:
        """Whether a job in this state never changes again."""
        return self not in (State.QUEUED, State.RUNNING)


ErrorCode = Literal[
    "provider_rejected",
    "provider_failed",
    "outcome_unknown",
    "worker_lost",
    "budget_exhausted",
    "content_invalid",
    "internal",
    "unknown_model",
    "job_too_large",
    "expired",
]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one attempt, as the provider reported them or, where it did not, as we counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int = 0
    source: UsageSource = "provider"


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed or expired; `provider_status` is the HTTP status of the provider's last answer."""

    code: ErrorCode
    message: str
    attempt: int | None = None
    provider_status: int | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A checked submission, as the API hands it to the submit script. Times in Unix milliseconds.

    `body` is the provider's request body as JSON, kept as it is; `info` is what only the API reads again.
    `prompt_tokens` and `output_tokens` (n times the cap) are the greatest over the pools of `name`.
    """

    id: str
    user: str
    name: str
    body: bytes
    prompt_tokens: int
    output_tokens: int
    endpoint: str = CHAT
    custom_id: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    priority: Priority = "standard"
    not_before_ms: int | None = None
    expires_after_ms: int = 86_400_000
    retry: RetryPolicy = "safe"
    on_budget: OnBudget = "reject"
    idempotency_key: str | None = None
    payload_digest: str = ""
    anonymous: bool = False
    replays: str | None = None
    webhook_url: str | None = None
    webhook_lane: str | None = None
    """The lane of `webhook_url` (jobs.webhooks.own_lane); both or none."""

    @property
    def estimated_tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class WebhookState:
    """How the webhooks of a job stand, all of them together. `attempts`: of all; `next_attempt_ms`: of the next one.

    `version` changes whenever any of it does.
    """

    status: Literal["none", "pending", "delivered", "failed"] = "none"
    attempts: int = 0
    last_status_code: int | None = None
    next_attempt_ms: int | None = None
    version: int = 0


NO_WEBHOOK: Final = WebhookState()


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its user sees it. Times in Unix milliseconds; `result` is the provider's response body, unchanged.

    `blocked_on`, `position` (jobs that will start before it) and `estimated_start_ms` only while queued.
    """

    id: str
    user: str
    name: str
    state: State
    endpoint: str
    priority: Priority
    custom_id: str | None
    metadata: dict[str, str]
    created_ms: int
    started_ms: int | None
    finished_ms: int | None
    expires_ms: int
    attempts: int
    estimated_tokens: int
    version: int
    blocked_on: BlockedOn | None = None
    position: int | None = None
    estimated_start_ms: int | None = None
    usage: Usage | None = None
    cost_usd: float | None = None
    result: bytes | None = None
    error: JobError | None = None
    webhook: WebhookState = NO_WEBHOOK


@dataclass(frozen=True, slots=True)
class LimitsView:
    """A user's limits and what is left of them. None is unlimited; times in Unix milliseconds.

    `requests_reset_ms` and `tokens_reset_ms` are durations in ms from now. `tokens_used` leaves out what is held.
    """

    user: str
    tier: str
    requests_limit: int | None
    requests_window_ms: int
    requests_remaining: int | None
    requests_reset_ms: int
    blocked_until_ms: int | None
    block_ms: int
    requests_per_day: int | None
    tokens_limit: int | None
    tokens_used: int
    tokens_reserved: int
    tokens_reset_ms: int
    day: str
    max_concurrent: int | None
    running: int
    queued_jobs: int
    queued_tokens: int
    max_queued_jobs: int | None
    max_queued_tokens: int | None
    now_ms: int

    @property
    def tokens_remaining(self) -> int | None:
        """Tokens of today still free, never below 0; None for an unlimited tier."""
        if self.tokens_limit is None:
            return None
        return max(0, self.tokens_limit - self.tokens_used - self.tokens_reserved)


SubmitRefusal = Literal[
    "rate_limited", "budget_exhausted", "queue_full", "job_too_large", "idempotency_key_reused"
]


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job is in: `replayed` if this Idempotency-Key had made it before (`job` is then that first one)."""

    job: JobView
    limits: LimitsView
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class SubmitRefused:
    """Nothing was accepted. `wait_ms`: after which the same submission may be served; None: never as it is."""

    reason: SubmitRefusal
    limits: LimitsView
    wait_ms: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """An admitted job: budget, concurrency and windows are reserved, the lease runs.

    `pool` is "provider/model"; `token` fences every later change; `attempt` counts from 1.
    The counts are of what earlier attempts came to: throttled or unconnected in a row, unknown outcomes in all.
    """

    id: str
    token: str
    user: str
    name: str
    pool: str
    body: bytes
    attempt: int
    prompt_tokens: int
    output_tokens: int
    retry: RetryPolicy
    expires_ms: int
    throttled_in_row: int
    unknown_attempts: int
    unconnected_in_row: int
    cancel_requested: bool
    endpoint: str = CHAT


@dataclass(frozen=True, slots=True)
class Claim:
    """`wait_ms`: how long until something can change by itself; other changes push a wake token."""

    jobs: tuple[ClaimedJob, ...]
    wait_ms: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What was charged in one group; fields that were not grouped by are None. Cost is an estimate in US dollars."""

    day: str | None
    model: str | None
    user: str | None
    jobs: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_usd: float

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens
