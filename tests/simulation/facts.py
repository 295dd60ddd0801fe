"""What a simulation knows of its jobs, from what the scripts were asked and answered, not from what callers heard."""

from dataclasses import dataclass, field
from typing import Any

from tests.simulation.provider import Attempt
from tests.simulation.world import Process


@dataclass(slots=True)
class Turn:
    """One claim of a job, at `claimed_at` (simulated seconds); `leased_until_ms`: when its lease ends at the latest.

    `repeated`: how often the worker has asked for it again, since the answer was lost.
    `closed_by`: 'settle' or 'retry', '' while it runs or if its lease was lost.
    `how`: what became of its windows; `back`: it was put back; `counted`: it was one of the limited attempts.
    """

    token: str
    pool: str
    process: Process
    claimed_at: float
    day: str
    leased_until_ms: int
    repeated: int = 0
    closed_by: str = ""
    how: str = ""
    charged: bool = False
    asked: bool = False
    back: bool = False
    counted: bool = True
    attempt: Attempt | None = None


@dataclass(frozen=True, slots=True)
class End:
    """A job's end as it was when it came. `stored`: record, result and error, which must stay so."""

    at_ms: int
    head: dict[str, Any]
    result: bytes | None
    error: dict[str, Any] | None
    stored: tuple[bytes | None, ...]

    @property
    def state(self) -> str:
        return str(self.head["st"])

    @property
    def code(self) -> str:
        return "" if self.error is None else str(self.error["code"])

    @property
    def charge(self) -> dict[str, Any] | None:
        return self.head.get("us")


@dataclass(slots=True)
class Job:
    """An accepted job. Times in Unix ms by Redis's clock.

    `key`: digest of its Idempotency-Key, '' for none; `url`, `lane`: its own receiver's, '' for none.
    """

    id: str
    user: str
    name: str
    prompt_tokens: int
    cap_tokens: int
    retry: str
    waits: bool
    key: str
    payload: str
    accepted_ms: int
    expires_ms: int
    first_day: str
    url: str
    lane: str
    turns: list[Turn] = field(default_factory=list)
    asked_ms: int | None = None
    end: End | None = None
    erased: bool = False

    @property
    def estimate(self) -> int:
        return self.prompt_tokens + self.cap_tokens

    @property
    def day(self) -> str:
        """The day whose budget pays for it: that of its promise, or of its first claim."""
        if not self.waits:
            return self.first_day
        return self.turns[0].day if self.turns else ""

    @property
    def ended_running(self) -> bool:
        """Whether it ended under its last lease, not while it waited for another attempt."""
        return self.end is not None and bool(self.turns) and self.end.head.get("lt") == self.turns[-1].token
