"""Nothing secret is told: a session with marked keys, prompts and answers, by processes that log all they can."""

from collections.abc import AsyncIterator, Awaitable
from typing import cast

import httpx2
import pytest
from redis.asyncio import Redis

from tests.chaos.caller import Caller, payload
from tests.chaos.system import ADMIN_KEY, SECRET, Shape, Start, System

pytestmark = pytest.mark.asyncio(loop_scope="package")

TALKATIVE = Shape(log_level="debug")
MARK = "marked-and-never-told"


async def session(system: System, ann: Caller) -> list[httpx2.Response]:
    """Everything a user does, well and badly; the answers that are errors."""
    job_id = await ann.accepted("one", f"{MARK}-prompt", metadata={"team": f"{MARK}-metadata"})
    assert (await ann.end_of(job_id)).status == "succeeded"
    for directive in ("[[fail:400]]", "[[fail:500]]", "[[html]]", "[[reset]]"):
        await ann.end_of(await ann.accepted(directive, f"{directive} {MARK}-prompt", retry="never"))
    stopped = await ann.accepted("stopped", f"[[slow:30]] {MARK}-prompt")
    await system.until_sent("stopped")
    assert (await ann.ask("POST", f"/v1/jobs/{stopped}/cancel")).status_code == 200
    await ann.ask("GET", f"/v1/jobs/{job_id}/events")
    await ann.ask("GET", f"/v1/jobs?custom_id={MARK}-row")
    wrong = {"authorization": f"Bearer {ann.key[:-1]}x"}
    basic = {"authorization": f"Basic {MARK}-password"}
    return [
        await ann.ask("POST", "/v1/jobs", content=f'{{"body": "{MARK}-prompt'.encode()),
        await ann.ask(
            "POST", "/v1/jobs", {"content-type": "application/json"}, content=f'{{"{MARK}-prompt'.encode()
        ),
        await ann.ask("POST", "/v1/jobs", json=payload("x", f"{MARK}-prompt", n=0)),
        await ann.ask("POST", "/v1/jobs", json=payload("x", f"{MARK}-prompt", model="none")),
        await ann.ask("POST", "/v1/jobs", json={"body": {"messages": f"{MARK}-prompt"}}),
        await ann.ask("GET", f"/v1/jobs/{MARK}"),
        await ann.ask("GET", f"/v1/{MARK}"),
        await ann.ask("GET", "/v1/limits", wrong),
        await ann.ask("GET", "/v1/limits", basic),
        await ann.ask("POST", f"/v1/jobs/{job_id}/cancel"),
        await ann.ask("GET", "/v1/admin/keys"),
    ]


async def contents(redis: Redis) -> AsyncIterator[str]:
    """Every key and value that Redis holds."""
    async for key in redis.scan_iter(count=1000):
        name = key.decode()
        yield name
        kind = (await redis.type(key)).decode()
        match kind:
            case "string":
                yield repr(await redis.get(key))
            case "hash":
                yield repr(await cast(Awaitable[object], redis.hgetall(name)))
            case "list":
                yield repr(await cast(Awaitable[object], redis.lrange(name, 0, -1)))
            case "set":
                yield repr(await cast(Awaitable[object], redis.smembers(name)))
            case "zset":
                yield repr(await redis.zrange(key, 0, -1, withscores=True))
            case "stream":
                yield repr(await redis.xrange(key))
            case _:
                raise AssertionError(f"{name} is a {kind}")


async def test_no_key_secret_or_prompt_is_logged_told_or_stored_where_it_should_not(start: Start) -> None:
    async with start(TALKATIVE) as system:
        ann = await system.caller("ann")
        refused = await session(system, ann)
        metrics = await system.http.get(f"{system.urls[0]}/metrics", headers=system.admin)
        kept = [text async for text in contents(system.redis)]
        logs = {process.name: process.log for process in system.processes}

    key_secret = ann.key.split("_")[2]
    told = "\n".join([*logs.values(), metrics.text])
    for name, log in logs.items():
        assert '"level": "debug"' in log, f"{name} does not log all it could"
    assert metrics.status_code == 200
    assert "penstock_" in metrics.text
    for secret in (MARK, key_secret, ADMIN_KEY, SECRET):
        assert secret not in told
    for answer in refused:
        assert 400 <= answer.status_code < 500
        # What a client sent may come back to it in its own answer's pointers; keys and prompts never do.
        for secret in (f"{MARK}-prompt", f"{MARK}-password", key_secret, ADMIN_KEY, SECRET):
            assert secret not in answer.text
    assert any(f"{MARK}-prompt" in text for text in kept), "prompts are kept until their jobs are forgotten"
    for text in kept:
        for secret in (key_secret, ADMIN_KEY, SECRET):
            assert secret not in text
