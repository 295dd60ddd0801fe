"""What one simulator is told at its start: where it listens, its limits, its speed and how it counts."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from simulator.errors import SettingsError


class Accounting(StrEnum):
    """What is charged against the tokens per minute, and when (see `simulator.meter`)."""

    OPENAI = "openai"
    ACTUAL = "actual"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Settings of one simulator; a `SettingsError` names the first that is impossible.

    `port` 0 takes any free one. `tpm` and `rpm` are tokens and requests per minute, None for no limit. A call
    takes `latency_s`, give or take up to `latency_jitter_s`. `answer_tokens` is the mean length of an answer
    before it is capped by the request; `max_output_tokens` caps answers of requests that name no cap.
    `models` empty: every model is served. `api_key` None: every key, and none, is accepted. `log_entries` is
    how many requests the log keeps (the oldest are dropped, and counted).
    """

    host: str = "127.0.0.1"
    port: int = 0
    tpm: int | None = None
    rpm: int | None = None
    latency_s: float = 0.0
    latency_jitter_s: float = 0.0
    accounting: Accounting = Accounting.OPENAI
    faults: Path | None = None
    seed: int = 0
    api_key: str | None = field(default=None, repr=False)
    models: tuple[str, ...] = ()
    answer_tokens: int = 120
    max_output_tokens: int = 4096
    log_entries: int = 200_000

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise SettingsError(f"port must be between 0 (any free one) and 65535, not {self.port}")
        for name in ("tpm", "rpm"):
            limit: int | None = getattr(self, name)
            if limit is not None and limit < 1:
                raise SettingsError(f"{name} must be at least 1 (leave it out for no limit), not {limit}")
        for name in ("latency_s", "latency_jitter_s"):
            seconds: float = getattr(self, name)
            if not 0 <= seconds < float("inf"):
                raise SettingsError(f"{name} must be 0 or more seconds, not {seconds}")
        for name in ("answer_tokens", "max_output_tokens", "log_entries"):
            count: int = getattr(self, name)
            if count < 1:
                raise SettingsError(f"{name} must be at least 1, not {count}")
