"""A service in this process as a batch sees it, and a clock that jumps: nothing waits for real time."""

import asyncio
import heapq
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
from ulid import ULID

from cli.batch.api import Clock

QUIET_TURNS = 25
"""Turns of the loop after which nothing is left to be done without time going on."""


class JumpingClock:
    """Time that stands still while anybody works, and then jumps to where the next one wakes."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    @property
    def clock(self) -> Clock:
        """As the batch takes it."""
        return Clock(lambda: self.now_s, self.sleep)

    async def sleep(self, for_s: float) -> None:
        """Returns when the time has come."""
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now_s + for_s, next(self._order), future))
        await future

    async def run(self) -> None:
        """Lets time go on, until cancelled."""
        while True:
            for _ in range(QUIET_TURNS):
                await asyncio.sleep(0)
            while self._sleepers and self._sleepers[0][2].done():
                heapq.heappop(self._sleepers)
            if self._sleepers:
                at_s, _, future = heapq.heappop(self._sleepers)
                self.now_s = max(self.now_s, at_s)
                future.set_result(None)


Step = Callable[[str], None]
Refusal = Callable[[dict[str, Any]], httpx2.Response | None]


@dataclass
class FakeService:
    """Jobs that take `takes_s` each, one after the other or all at once, and fail where the prompt says so.

    `refuse` looks at a submission first; `step` is told of what happens, and may raise.
    """

    time: JumpingClock
    takes_s: float = 3.0
    one_by_one: bool = False
    failing: bool = True
    requests_per_minute: int | None = None
    refuse: Refusal = lambda body: None
    step: Step = lambda what: None
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_key: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[float, str, str]] = field(default_factory=list)
    ends_s: dict[str, float] = field(default_factory=dict)
    _made: int = 0

    @property
    def submissions(self) -> list[float]:
        """When each was asked for."""
        return [at_s for at_s, method, _ in self.asked if method == "POST"]

    def http(self) -> httpx2.AsyncClient:
        """A client of it."""
        return httpx2.AsyncClient(
            base_url="http://penstock.test", transport=httpx2.MockTransport(self._answer)
        )

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append((self.time.now_s, request.method, request.url.path))
        self.step(f"before {request.method}")
        if request.method == "POST":
            answer = self._submit(json.loads(request.content), request.headers["idempotency-key"])
        elif request.url.path == "/v1/jobs":
            answer = self._list(request.url.params["after"], int(request.url.params["limit"]))
        else:
            answer = await self._read(
                request.url.path.removeprefix("/v1/jobs/"), int(request.url.params.get("wait", 0))
            )
        self.step(f"after {request.method}")
        return answer

    def _submit(self, body: dict[str, Any], key: str) -> httpx2.Response:
        if refusal := self.refuse(body):
            return refusal
        if key not in self.by_key:
            self._made += 1
            job_id = f"job_{ULID.from_timestamp(1_790_000_000 + self._made)}"
            begins_s = max([self.time.now_s, *(self.ends_s.values() if self.one_by_one else ())])
            self.ends_s[job_id] = begins_s + self.takes_s
            self.by_key[key] = job_id
            self.jobs[job_id] = body
        return httpx2.Response(202, json=self._view(self.by_key[key]), headers=self._limit_headers())

    def _limit_headers(self) -> dict[str, str]:
        if self.requests_per_minute is None:
            return {"ratelimit": '"daily-tokens";r=9;t=9'}
        recent = [at_s for at_s in self.submissions if at_s > self.time.now_s - 60]
        left = max(0, self.requests_per_minute - len(recent))
        return {"ratelimit": f'"requests";r={left};t=60, "daily-tokens";r=9;t=9'}

    def _list(self, after: str, limit: int) -> httpx2.Response:
        ids = sorted((one for one in self.jobs if one < after), reverse=True)
        data = [self._view(one) for one in ids[:limit]]
        return httpx2.Response(200, json={"data": data, "has_more": len(ids) > limit})

    async def _read(self, job_id: str, wait_s: int) -> httpx2.Response:
        if job_id not in self.jobs:
            return problem(404, "not_found")
        left_s = self.ends_s[job_id] - self.time.now_s
        if wait_s and left_s > 0:
            await self.time.sleep(min(left_s, wait_s))
        return httpx2.Response(200, json=self._view(job_id))

    def _view(self, job_id: str) -> dict[str, Any]:
        prompt = self.jobs[job_id]["body"]["messages"][-1]["content"]
        status = "failed" if self.failing and "fail" in prompt else "succeeded"
        if self.ends_s[job_id] > self.time.now_s:
            status = "queued"
        return {
            "id": job_id,
            "status": status,
            "model": "m",
            "created_at": 1_790_000_000,
            "estimated_tokens": 9,
            "attempts": 1,
            "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
            if status == "succeeded"
            else None,
            "cost_usd": 0.5 if status == "succeeded" else None,
            "result": {"echo": prompt} if status == "succeeded" else None,
            "error": {"code": "provider_failed", "message": "no"} if status == "failed" else None,
        }


def problem(status: int, code: str, **headers: str) -> httpx2.Response:
    """A refusal as the service words it."""
    return httpx2.Response(
        status,
        json={"code": code, "detail": f"{code}, it says."},
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
