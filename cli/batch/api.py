"""The service as a batch calls it: a request is asked again until it has an answer that counts.

What says "not now" (429, 503, any 5xx, no connection) closes a gate for as long as it says; who comes next waits in
front of it with the others. Submissions have a gate of their own, for most limits are theirs alone.
"""

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import httpx2
from pydantic import JsonValue, ValidationError

from cli.client import TIMEOUT_S
from cli.errors import CommandError
from cli.wire import Problem

LONGEST_BACKOFF_S = 30.0
_REQUESTS_LEFT = re.compile(r'"requests";r=(\d+);t=(\d+)')
_FORBIDDEN = (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN)
_NO_API = (httpx2.codes.NOT_FOUND, httpx2.codes.METHOD_NOT_ALLOWED)


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as the batch lives it: monotonic seconds, and waiting."""

    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(slots=True)
class Gate:
    """Closed until a time, for a reason that people can read."""

    clock: Clock
    why: str = ""
    _until_s: float = 0.0
    _in_a_row: int = 0
    _opened: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def left_s(self) -> float:
        """How much longer it is closed."""
        return max(0.0, self._until_s - self.clock.now_s())

    def close(self, for_s: float | None, why: str) -> None:
        """Closed for so long; None: longer each time, until something succeeds."""
        if self.left_s and for_s is None:
            # Others who were under way have found the same.
            return
        if for_s is None:
            for_s = min(LONGEST_BACKOFF_S, 2.0**self._in_a_row)
            self._in_a_row += 1
        until_s = self.clock.now_s() + for_s
        if until_s >= self._until_s:
            self._until_s, self.why = until_s, why
        self._opened.clear()

    def open(self) -> None:
        """Whoever waits may go on."""
        self._until_s = 0.0
        self._opened.set()

    def succeeded(self) -> None:
        """The next trouble is a new one."""
        self._in_a_row = 0

    async def passed(self) -> None:
        """Returns when it is open."""
        while left_s := self.left_s:
            slept = asyncio.ensure_future(self.clock.sleep(left_s))
            opened = asyncio.ensure_future(self._opened.wait())
            try:
                await asyncio.wait((slept, opened), return_when=asyncio.FIRST_COMPLETED)
            finally:
                slept.cancel()
                opened.cancel()


class Api:
    """Calls the service over one client, which is the caller's to close. `requests` is how many it has sent."""

    def __init__(self, http: httpx2.AsyncClient, clock: Clock) -> None:
        self._http = http
        self.url = str(http.base_url).rstrip("/")
        self.submissions = Gate(clock)
        self.reads = Gate(clock)
        self.requests = 0
        self._submitting = 0
        self._allowed: float = 1
        self._answered = asyncio.Event()
        self._queue_is_full = False

    def made_room(self) -> None:
        """One of our jobs has ended: a queue that was full is so no longer."""
        if self._queue_is_full:
            self._queue_is_full = False
            self.submissions.open()

    @property
    def waits(self) -> tuple[float, str]:
        """How many seconds it waits before it asks again, and why; 0 if it does not."""
        gate = max(self.submissions, self.reads, key=lambda one: one.left_s)
        return gate.left_s, gate.why

    async def read(
        self, path: str, params: Mapping[str, str | int] | None = None, *, wait_s: int = 0
    ) -> httpx2.Response:
        """An answer to GET: 200 or 404. Raises CommandError where asking again would not help."""
        while True:
            await self.reads.passed()
            answer = await self._ask("GET", path, self.reads, params=params, wait_s=wait_s)
            if answer is not None:
                if answer.is_success or answer.status_code == httpx2.codes.NOT_FOUND:
                    return answer
                raise CommandError(f"GET {path}: {_told(answer)}")

    async def submit(self, body: JsonValue, idempotency_key: str) -> httpx2.Response:
        """An answer to a submission: 2xx, or a refusal for good. Raises CommandError for one that meets every line."""
        headers = {"idempotency-key": idempotency_key}
        while True:
            await self._turn()
            self._submitting += 1
            answer = None
            try:
                answer = await self._ask("POST", "/v1/jobs", self.submissions, body=body, headers=headers)
            finally:
                self._submitting -= 1
                self._count(answer)
            if answer is not None:
                if answer.status_code in _NO_API:
                    raise CommandError(f"{self.url} takes no jobs; check PENSTOCK_URL")
                return answer

    async def _turn(self) -> None:
        """Returns when one more submission may be sent."""
        while True:
            await self.submissions.passed()
            if self._allowed > 0:
                self._allowed -= 1
                return
            self._answered.clear()
            await self._answered.wait()

    def _count(self, answer: httpx2.Response | None) -> None:
        """Keeps within the request limit that the answers tell: passing it would block all of the user's submissions.

        What is under way may not have been counted yet; and until anything is known, one goes ahead alone.
        """
        if answer is not None:
            limit = _REQUESTS_LEFT.search(answer.headers.get("ratelimit", ""))
            self._allowed = int(limit[1]) - self._submitting if limit else math.inf
            if limit and self._allowed <= 0:
                self.submissions.close(float(limit[2]), "the request limit is used up")
        if not self._submitting:
            self._allowed = max(1, self._allowed)
        self._answered.set()

    async def _ask(
        self,
        method: Literal["GET", "POST"],
        path: str,
        gate: Gate,
        *,
        body: JsonValue = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: int = 0,
    ) -> httpx2.Response | None:
        """One request; None if it is to be asked again, when the gate opens."""
        self.requests += 1
        try:
            answer = await self._http.request(
                method,
                path,
                json=body,
                params=params,
                headers=headers,
                timeout=httpx2.Timeout(TIMEOUT_S, read=TIMEOUT_S + wait_s),
            )
        except httpx2.TransportError as error:
            gate.close(None, f"no answer from {self.url} ({type(error).__name__})")
            return None
        status = answer.status_code
        if status in _FORBIDDEN:
            raise CommandError(f"{_told(answer)}; check PENSTOCK_KEY")
        if status == httpx2.codes.TOO_MANY_REQUESTS or status >= httpx2.codes.INTERNAL_SERVER_ERROR:
            problem = _problem(answer)
            # A full queue tells at best when its first job is to start; our own jobs tell when they end.
            self._queue_is_full = problem is not None and problem.code == "queue_full"
            gate.close(None if self._queue_is_full else _retry_after_s(answer), _told(answer))
            return None
        gate.succeeded()
        return answer


def _retry_after_s(answer: httpx2.Response) -> float | None:
    try:
        return max(1.0, float(answer.headers["retry-after"]))
    except (KeyError, ValueError):
        return None


def _problem(answer: httpx2.Response) -> Problem | None:
    try:
        return Problem.model_validate_json(answer.content)
    except ValidationError:
        return None


def _told(answer: httpx2.Response) -> str:
    problem = _problem(answer)
    return f"{problem.detail.rstrip('.')} ({problem.code})" if problem else f"answer {answer.status_code}"
