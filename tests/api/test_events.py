"""GET /v1/jobs/{id}/events: every change once, then the end; a reader who comes back misses nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from tests.api.harness import Api, problem
from tests.api.server import Served
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    name: str
    id: str
    job: dict[str, Any]


def read_event(block: str) -> Event:
    fields: dict[str, list[str]] = {}
    for line in block.splitlines():
        name, _, value = line.partition(": ")
        fields.setdefault(name, []).append(value)
    return Event(fields["event"][0], fields["id"][0], json.loads("\n".join(fields["data"])))


async def events(answer: httpx2.Response) -> AsyncIterator[Event]:
    text = ""
    async for piece in answer.aiter_text():
        text += piece
        while "\n\n" in text:
            block, _, text = text.partition("\n\n")
            if not block.startswith(":"):
                yield read_event(block)


@asynccontextmanager
async def stream(served: Served, job_id: str, headers: dict[str, str]) -> AsyncIterator[AsyncIterator[Event]]:
    """The events over a real connection: the transport without one gives an answer only when it is complete."""
    async with served.api.http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "x-ratelimit-reset" in answer.headers
        assert answer.headers["x-request-id"]
        yield events(answer)


async def test_each_change_is_told_once_and_then_the_end(served: Served) -> None:
    api = served.api
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    async with stream(served, job_id, ann) as told:
        queued = await anext(told)
        assert (queued.name, queued.job["status"]) == ("status", "queued")
        claimed = await api.claimed()
        running = await anext(told)
        assert (running.name, running.job["status"]) == ("status", "running")
        await api.succeed(claimed, b'{"text": "two\\nlines",\r\n "more": [\n1]}')
        ended, done = await anext(told), await anext(told)
        assert (ended.name, done.name) == ("status", "done")
        assert done.job == ended.job
        assert done.job["result"] == {"text": "two\nlines", "more": [1]}
        with pytest.raises(StopAsyncIteration):
            await anext(told)


async def ended_job(api: Api, headers: dict[str, str]) -> str:
    job_id = await api.submitted(headers)
    await api.run_all()
    return job_id


async def test_a_finished_job_is_told_at_once(api: Api) -> None:
    ann = await api.user("ann")
    answer = await api.http.get(f"/v1/jobs/{await ended_job(api, ann)}/events", headers=ann)
    told = [read_event(block) for block in answer.text.split("\n\n") if block]
    assert [event.name for event in told] == ["status", "done"]


async def test_a_reader_who_comes_back_gets_only_what_is_new(api: Api) -> None:
    ann = await api.user("ann")
    url = f"/v1/jobs/{await ended_job(api, ann)}/events"
    first = [read_event(b) for b in (await api.http.get(url, headers=ann)).text.split("\n\n") if b]
    later = (await api.http.get(url, headers=ann | {"last-event-id": first[0].id})).text
    assert [read_event(b).name for b in later.split("\n\n") if b] == ["done"]
    for nonsense in ("1", "x", "", "-1", "9" * 99):
        answer = await api.http.get(url, headers=ann | {"last-event-id": nonsense})
        assert [read_event(b).name for b in answer.text.split("\n\n") if b] == ["status", "done"]
    had_it_all = await api.http.get(url, headers=ann | {"last-event-id": first[1].id})
    assert (had_it_all.status_code, had_it_all.content) == (204, b"")


async def test_a_stopping_process_ends_its_streams(api: Api) -> None:
    ann = await api.user("ann")
    reading = asyncio.create_task(api.http.get(f"/v1/jobs/{await api.submitted(ann)}/events", headers=ann))
    await eventually(lambda: api.app.service.waiters.count == 1)
    api.app.service.waiters.drain()
    assert [read_event(b).name for b in (await reading).text.split("\n\n") if b] == ["status"]


async def test_a_revoked_key_ends_its_streams(api: Api) -> None:
    ann = await api.user("ann")
    reading = asyncio.create_task(api.http.get(f"/v1/jobs/{await api.submitted(ann)}/events", headers=ann))
    await eventually(lambda: api.app.service.waiters.count == 1)
    assert await api.app.service.users.revoke_key(ann["authorization"].split("_")[1])
    async with asyncio.timeout(20):
        assert (await reading).status_code == 200


async def test_a_reader_who_hangs_up_is_forgotten(served: Served) -> None:
    api = served.api
    ann = await api.user("ann")
    async with stream(served, await api.submitted(ann), ann) as told:
        await anext(told)
        await eventually(lambda: api.app.service.waiters.count == 1)
    await eventually(lambda: api.app.service.waiters.count == 0)


async def test_the_events_of_another_do_not_exist(api: Api) -> None:
    job_id = await api.submitted(await api.user("ann"))
    problem(await api.http.get(f"/v1/jobs/{job_id}/events", headers=await api.user("bob")), 404, "not_found")


async def test_head_tells_of_the_stream_and_ends(api: Api) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    async with asyncio.timeout(20):
        answer = await api.http.head(f"/v1/jobs/{job_id}/events", headers=ann)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "x-ratelimit-reset" in answer.headers
