"""A user of the HTTP API, who asks whichever API is there, as behind a load balancer, and asks again."""

import asyncio
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
from pydantic import BaseModel, ConfigDict, JsonValue

FINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})
ASK_AGAIN_S = 0.05


class Usage(BaseModel):
    """What a job was charged."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    total_tokens: int
    source: str


class View(BaseModel):
    """A job as its user sees it, as far as it matters here."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    status: str
    custom_id: str | None
    attempts: int
    usage: Usage | None
    result: JsonValue
    error: Mapping[str, JsonValue] | None
    finished_at: int | None

    @property
    def final(self) -> bool:
        return self.status in FINAL

    @property
    def completion_id(self) -> str | None:
        """The id of the provider's answer that is its result."""
        match self.result:
            case {"id": str(name)}:
                return name
        return None

    @property
    def error_code(self) -> str | None:
        """Why it failed."""
        return None if self.error is None else str(self.error["code"])


def payload(
    marker: str, prompt: str = "", *, model: str = "m", max_tokens: int = 20, **fields: Any
) -> dict[str, Any]:
    """A submission whose prompt begins with the marker, which is its custom_id too."""
    content = f"{marker} {prompt}".strip()
    body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": max_tokens}
    return {"body": body, "custom_id": marker, **fields}


@dataclass
class Caller:
    """One user; requests go to the APIs in turn. `statuses` are all that were ever answered."""

    user: str
    key: str
    http: httpx2.AsyncClient
    urls: list[str]
    statuses: set[int] = field(default_factory=set)
    _turn: "itertools.count[int]" = field(default_factory=itertools.count)

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **options: Any
    ) -> httpx2.Response:
        """One request to one of the APIs. Raises httpx2.TransportError."""
        url = self.urls[next(self._turn) % len(self.urls)]
        own = {"authorization": f"Bearer {self.key}", **(headers or {})}
        answer = await self.http.request(method, f"{url}{path}", headers=own, **options)
        self.statuses.add(answer.status_code)
        return answer

    async def submit(
        self, marker: str, prompt: str = "", *, key: str | None = None, **fields: Any
    ) -> httpx2.Response:
        """Submit once; `key`: an Idempotency-Key. Raises httpx2.TransportError."""
        headers = {"idempotency-key": key} if key else {}
        return await self.ask("POST", "/v1/jobs", headers, json=payload(marker, prompt, **fields))

    async def accepted(self, marker: str, prompt: str = "", **fields: Any) -> str:
        """The id of a job that must be accepted."""
        answer = await self.submit(marker, prompt, **fields)
        assert answer.status_code == 202, answer.text
        job_id: str = answer.json()["id"]
        return job_id

    async def view(self, job_id: str, *, wait_s: int = 0) -> View:
        """The job; asked for again while an API or Redis is away."""
        while True:
            try:
                answer = await self.ask(
                    "GET", f"/v1/jobs/{job_id}?wait={wait_s}" if wait_s else f"/v1/jobs/{job_id}"
                )
            except httpx2.TransportError:
                await asyncio.sleep(ASK_AGAIN_S)
                continue
            if answer.status_code == 503:
                await asyncio.sleep(ASK_AGAIN_S)
                continue
            assert answer.status_code == 200, f"{job_id}: {answer.status_code} {answer.text}"
            return View.model_validate_json(answer.content)

    async def end_of(self, job_id: str, within_s: float = 60.0) -> View:
        """The job when it has ended."""
        deadline = time.monotonic() + within_s
        while True:
            view = await self.view(job_id)
            if view.final:
                return view
            assert time.monotonic() < deadline, f"{job_id} is still {view.status} after {within_s} s"
            await asyncio.sleep(ASK_AGAIN_S)

    async def all_jobs(self) -> list[View]:
        """Every job of this user; the service must be well."""
        found: list[View] = []
        after = ""
        while True:
            answer = await self.ask("GET", f"/v1/jobs?limit=100{after}")
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += [View.model_validate(one) for one in page["data"]]
            if not page["has_more"]:
                return found
            after = f"&after={page['last_id']}"

    async def job_named(self, marker: str) -> list[View]:
        """All jobs with this marker: there should be at most one."""
        return [view for view in await self.all_jobs() if view.custom_id == marker]
