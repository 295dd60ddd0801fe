"""What the client commands read of the API's answers; members that are not here are ignored.

Amounts of text are tokens, times Unix seconds.
"""

from pydantic import BaseModel, ConfigDict, JsonValue

FINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Usage(_Wire):
    """The tokens of a finished job."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class JobError(_Wire):
    """Why a job did not succeed."""

    code: str
    message: str


class Job(_Wire):
    """The job object."""

    id: str
    status: str
    model: str
    created_at: int
    finished_at: int | None = None
    blocked_on: str | None = None
    position: int | None = None
    estimated_start_at: int | None = None
    estimated_tokens: int
    attempts: int
    usage: Usage | None = None
    cost_usd: float | None = None
    result: JsonValue = None
    error: JobError | None = None

    @property
    def finished(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.status in FINAL

    @property
    def answer(self) -> str | None:
        """The text of the first choice; None where there is none."""
        match self.result:
            case {"choices": [{"message": {"content": str(text)}}, *_]}:
                return text
        return None


class JobList(_Wire):
    """One page of jobs, newest first."""

    data: list[Job]
    has_more: bool


class RequestLimit(_Wire):
    """The per-minute limit of submissions."""

    limit: int | None
    window_s: int
    remaining: int | None
    blocked_until: int | None
    block_s: int


class TokenLimit(_Wire):
    """Today's token budget."""

    limit: int | None
    used: int
    reserved: int
    remaining: int | None
    resets_at: int


class ConcurrencyLimit(_Wire):
    """Jobs running at once."""

    limit: int | None
    running: int


class QueueLimit(_Wire):
    """Jobs waiting."""

    jobs: int
    tokens: int
    max_jobs: int | None


class Limits(_Wire):
    """A user's limits, and what is left of them."""

    user: str
    tier: str | None
    requests: RequestLimit
    tokens: TokenLimit
    concurrent: ConcurrencyLimit
    queued: QueueLimit


class UserAccount(_Wire):
    """A user as an admin sees it."""

    user: str
    tier: str
    limits: Limits | None = None


class UsageRow(_Wire):
    """What was charged in one group."""

    day: str | None = None
    model: str | None = None
    user: str | None = None
    jobs: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    cost_usd: float | None


class UsageReport(_Wire):
    """The groups of a usage report, and their sum."""

    data: list[UsageRow]
    total: UsageRow


class WorkerCounts(_Wire):
    """How many workers run, are worth running, and could be of use."""

    current: int
    recommended: int
    useful_max: int | None


class PoolTokens(_Wire):
    """Tokens of a minute."""

    limit: int | None
    used: int


class PoolScaling(_Wire):
    """A pool's limit, and what waits for it."""

    provider: str
    model: str
    tokens_per_minute: PoolTokens
    queued_jobs: int
    queued_tokens: int
    drain_seconds: int | None


class Scaling(_Wire):
    """Advice on scaling."""

    workers: WorkerCounts
    reason: str
    pools: list[PoolScaling]


class Problem(_Wire):
    """A refusal."""

    code: str
    detail: str
    retry_after: float | None = None


class CreatedKey(_Wire):
    """An API key, shown this once."""

    id: str
    key: str
    user: str


class EventJob(_Wire):
    """What of an event's job is shown; a test has none."""

    id: str | None = None
    usage: Usage | None = None
    error: JobError | None = None


class Event(_Wire):
    """A webhook's body."""

    type: str
    data: EventJob


class NewEndpoint(_Wire):
    """A webhook endpoint that was made; its secret is shown this once."""

    id: str
    signing_secret: str
