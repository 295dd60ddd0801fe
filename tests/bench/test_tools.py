"""What benchmarks measure with: they must see what is there, and fail where nothing was measured."""

import asyncio
import json
import subprocess
from collections.abc import Awaitable
from typing import cast

import pytest
from redis.asyncio import Redis

from bench import load, provider
from bench.commands import counted
from bench.environments import PEERS
from bench.figures import Spread
from bench.pacing import submit_all
from bench.plots import Plot
from bench.processes import cpu_s, free_port, module, resident_bytes, running
from tests.support.valkey import ValkeyProcess


async def test_commands_of_scripts_are_not_those_of_clients(valkey: ValkeyProcess, redis: Redis) -> None:
    sha = await redis.script_load("redis.call('SET', 'a', 'b') return redis.call('GET', 'a')")
    with counted(valkey.url) as counts:
        await cast(Awaitable[object], redis.evalsha(sha, 0))
        await redis.get("a")

    # The connection of the scripts says its name first.
    del counts["CLIENT"]
    assert counts == {"EVALSHA": 1, "GET": 1}


def test_the_provider_tells_what_came_and_our_load_what_it_got(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    port = free_port()
    with running(module("bench.provider", "--port", str(port)), port=port) as pid:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        seen = load.post(url, b'{"a": "#7#"}', {"x-a": "b"}, connections=3, seconds=0.1)

        assert cpu_s(pid) > 0
        assert resident_bytes(pid) > 1_000_000
        assert provider.count(port) == (seen.requests, 0)
        came = provider.arrivals(port)
        assert {number for number, _ in came} == {7}
        assert len(came) == seen.requests > 3
        assert 0 < seen.p50_ms <= seen.p99_ms
        assert provider.count(port) == (0, 0)


def test_a_load_that_nobody_answers_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(subprocess.CalledProcessError):
        load.post(f"http://127.0.0.1:{free_port()}/", b"{}", {}, connections=1, seconds=0.1)


def test_a_command_that_ends_before_it_listens_is_told() -> None:
    with (
        pytest.raises(RuntimeError, match="does not listen"),
        running(module("bench.nothing"), port=free_port()),
    ):
        pass


def test_a_plot_can_be_told_to_another_process() -> None:
    plots = [
        Plot.bars("a", "A", {"penstock": Spread.of([1, 3])}),
        Plot.of_lines("b", "B", {"us": [(1, 2)]}, x="jobs", y="ms", log_x=True),
    ]

    told = json.loads(json.dumps([cast(object, plot.series) for plot in plots]))

    assert told == [{"penstock": [[2, 1, 3]]}, {"us": [[1, 2]]}]


def test_peers_are_pinned() -> None:
    assert all("==" in requirement for requirements in PEERS.values() for requirement in requirements)


async def test_jobs_are_submitted_once_each(capsys: pytest.CaptureFixture[str]) -> None:
    bodies: list[str] = []

    async def submit(body: dict[str, object]) -> None:
        await asyncio.sleep(0)
        bodies.append(str(body["messages"]))

    await submit_all(submit, range(5, 30), 0)

    accepted = json.loads(capsys.readouterr().out)
    assert sorted(number for number, _, _ in accepted) == list(range(5, 30))
    assert all(begun <= at for _, begun, at in accepted)
    assert sum("#17#" in body for body in bodies) == 1
