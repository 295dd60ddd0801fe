"""The limiter as others use it: an asynchronous client, the server's own clock, scripts that a server has lost."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis.asyncio import Redis

from limiter.limiter import Limiter
from limiter.limits import Refused, RequestLimits, Reserved, Scope, WindowSpec, WindowState
from limiter.scripts import FOLDER
from tests.limiter.rig import MINUTE_MS, NO_WINDOWS, NOON_MS, SCRIPTS, SLICE_MS

ONE = WindowSpec((Scope("one", 1000, 10),))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


async def test_without_a_time_the_servers_clock_decides(server: Redis) -> None:
    limiter = Limiter(server)
    limits = RequestLimits(limit=1, per_day=5)
    before_ms, days = _now_ms(), {_today()}
    assert (await limiter.hit("ana", limits)).allowed
    refused = await limiter.hit("ana", limits)
    reserved = await limiter.reserve(
        "ana",
        "job",
        input_tokens=1000,
        output_tokens=0,
        budget_tokens=1000,
        windows=ONE,
        latest_end_ms=before_ms,
        deadline_ms=before_ms,
    )
    full = await limiter.reserve(
        "bob",
        "other",
        input_tokens=1,
        output_tokens=0,
        budget_tokens=None,
        windows=ONE,
        latest_end_ms=before_ms,
        deadline_ms=before_ms,
    )
    passed_ms = _now_ms() - before_ms + 1
    days.add(_today())
    assert not refused.allowed
    assert MINUTE_MS - passed_ms <= refused.wait_ms <= MINUTE_MS
    assert isinstance(reserved, Reserved)
    assert reserved.day in days
    assert isinstance(full, Refused)
    assert full.wait_ms is not None
    assert MINUTE_MS + ONE.margin_ms - passed_ms <= full.wait_ms <= MINUTE_MS + ONE.margin_ms + SLICE_MS
    state = await limiter.state("ana", ONE, day=reserved.day)
    assert (state.budget_tokens, state.held_tokens) == (1000, 1000)
    assert state.windows == (WindowState("one", 1000, 1000, 0, 10, 1),)
    assert await limiter.settle("ana", reserved.day, "job", input_tokens=4, output_tokens=5) == 1000
    assert (await limiter.state("ana", NO_WINDOWS, day=reserved.day)).budget_tokens == 9


async def test_scripts_that_the_server_has_lost_are_loaded_again(server: Redis) -> None:
    limiter = Limiter(server)
    for sent in range(1, 4):
        answer = await limiter.hit("ana", RequestLimits(limit=5), now_ms=NOON_MS)
        assert answer.remaining == 5 - sent
        await server.script_flush()


async def test_every_script_is_one_that_servers_accept(server: Redis) -> None:
    for script in SCRIPTS:
        assert (await server.script_load(script.text)) in (script.sha, script.sha.encode())


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.lua")), ids=lambda path: path.stem)
def test_every_script_says_what_it_is_for_and_touches(path: Path) -> None:
    head = path.read_text().split("\n\n")[0]
    assert head.startswith(f"-- {path.stem}: ")
    wanted = {"ARGV", "Returns", "Touches"} if "-- ARGV" in head else {"State"}
    assert {word for word in wanted if f"\n-- {word}" in head} == wanted
