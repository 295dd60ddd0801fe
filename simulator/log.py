"""The record of every chat request the simulator saw: what tests check against what should have been sent."""

import copy
import secrets
from collections import deque
from dataclasses import asdict, dataclass, field

from simulator.request import ChatRequest


@dataclass(slots=True)
class LogEntry:
    """One request. Times are Unix seconds; what is not known (yet, or for an invalid request) is None.

    `id` counts from 1. `prompt` is the first line of the last user message. `charges` are the times and
    tokens of every charge against the limit, `charged_tokens` their sum. `completion_tokens` were made,
    `reported_tokens` is the total of the usage in the answer (None where it had none, or no number). `status`
    is None until an answer begins, and stays so for a connection that was reset or that the client left
    (`client_gone`). `fault` is what was done to it on purpose.
    """

    id: int
    request_id: str
    arrived_at: float
    model: str | None = None
    prompt: str | None = None
    user: str | None = None
    stream: bool = False
    prompt_tokens: int | None = None
    max_tokens: int | None = None
    n: int | None = None
    completion_tokens: int | None = None
    reported_tokens: int | None = None
    charged_tokens: int = 0
    charges: list[tuple[float, int]] = field(default_factory=list)
    status: int | None = None
    fault: str | None = None
    client_gone: bool = False
    finished_at: float | None = None

    def describe(self, request: ChatRequest) -> None:
        """Note what was asked for."""
        self.model = request.model
        self.prompt = request.first_line
        self.user = request.user
        self.stream = request.stream
        self.prompt_tokens = request.prompt_tokens
        self.max_tokens = request.max_tokens
        self.n = request.n

    def as_json(self) -> dict[str, object]:
        """The entry as `GET /_log` shows it."""
        return asdict(self)


class RequestLog:
    """The last `capacity` requests in order of arrival."""

    def __init__(self, capacity: int) -> None:
        self._entries: deque[LogEntry] = deque(maxlen=capacity)
        self._prefix = f"req_{secrets.token_hex(4)}"
        self.last_id = 0
        self.dropped = 0

    def begin(self, now_s: float) -> LogEntry:
        """A new entry; it is filled in while its request is served."""
        self.last_id += 1
        entry = LogEntry(self.last_id, f"{self._prefix}{self.last_id:08x}", now_s)
        if len(self._entries) == self._entries.maxlen:
            self.dropped += 1
        self._entries.append(entry)
        return entry

    def entries(self, after: int = 0) -> list[LogEntry]:
        """Copies of all entries whose id is greater than `after`, finished or not."""
        kept = len(self._entries)
        wanted = min(kept, self.last_id - after)
        found = [copy.copy(self._entries[index]) for index in range(-1, -wanted - 1, -1)]
        for entry in found:
            entry.charges = list(entry.charges)
        return found[::-1]

    def clear(self) -> None:
        """Forget all entries; ids go on."""
        self._entries.clear()
        self.dropped = 0
