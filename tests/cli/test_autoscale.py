"""`penstock up --workers auto` follows the API's number with real processes; `penstock scale` prints it."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import pytest

from cli.autoscale import Autoscaler
from cli.supervisor import Program, Supervisor
from tests.api.harness import ADMIN_KEY
from tests.api.server import serving
from tests.cli.conftest import Run
from tests.cli.running import is_gone, running_up
from tests.cli.waiting import until, wait_until
from tests.project.files import ROOT
from tests.simulator.process import SimulatorProcess, started

if TYPE_CHECKING:
    from redis.asyncio import Redis

SCALE = ROOT / "deploy" / "compose" / "scale.sh"

CONFIG = """\
tiers: {{open: {{}}}}
providers:
  simulator:
    base_url: {url}/v1
    tokens_per_minute: 1000000
    timeout_s: 20
    models: {{gpt-4o-mini: {{max_output_tokens: 100}}}}
"""


@pytest.fixture
def simulator() -> Iterator[SimulatorProcess]:
    with started("latency_s=1.5") as process:
        yield process


@pytest.fixture
def configured(directory: Path, simulator: SimulatorProcess) -> Path:
    """A directory to start in; a call takes a second and a half."""
    (directory / "penstock.yaml").write_text(CONFIG.format(url=simulator.url))
    return directory


def test_workers_come_with_the_work_and_no_more_than_are_allowed(configured: Path, penstock: Run) -> None:
    options = ("--workers", "auto", "--min-workers", "0", "--max-workers", "2")
    with running_up(configured, *options, PENSTOCK_MAX_JOBS="1") as up:
        assert list(up.pids) == ["api"]
        made = penstock("keys", "create", "--user", "u1", "--tier", "open", "--scopes", "jobs,metrics")
        assert made.status == 0, made.err
        key = made.out.strip()

        with httpx2.Client(
            base_url=up.url, headers={"authorization": f"Bearer {key}"}, trust_env=False
        ) as http:

            def advised() -> dict[str, int | None]:
                workers: dict[str, int | None] = http.get("/v1/scaling").json()["workers"]
                return workers

            assert advised() == {"current": 0, "recommended": 0, "useful_max": None}
            body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}
            for _ in range(80):
                assert http.post("/v1/jobs", json={"body": body}).status_code == 202
            # It falls again while the jobs are worked off.
            wait_until(lambda: (advised()["recommended"] or 0) > 2)
            wait_until(lambda: advised()["current"] == 2)
        assert "penstock: workers: 1 -> 2" in up.output
        assert "-> 3" not in up.output
        me = {"PENSTOCK_URL": up.url, "PENSTOCK_KEY": key}
        told = json.loads(penstock("scale", "--json", **me).out)
        assert told["workers"]["current"] == 2
        table = penstock("scale", **me)
        assert "simulator/gpt-4o-mini" in table.out
        assert "running now" in table.out
        up.interrupt()
        assert up.ends() == 0
    assert is_gone(up.pids["api"])


async def test_the_newest_worker_is_let_go_and_not_started_again(tmp_path: Path) -> None:
    reports: list[str] = []
    supervisor = Supervisor(reports.append)
    logs = [tmp_path / f"{number}.log" for number in range(3)]

    def program(number: int) -> Program:
        return Program(f"worker {number}", ("simulator", "--port", "0"), os.environ, logs[number])

    scaler = Autoscaler(supervisor, program, least=1, most=2, drain_s=0, report=reports.append)
    try:
        await scaler.have(5)
        assert list(supervisor.pids) == ["worker 1", "worker 2"]
        await until(lambda: all("listening" in log.read_text() for log in logs[1:]))
        supervisor.steady()
        pids = supervisor.pids
        await scaler.have(0)
        assert list(supervisor.pids) == ["worker 1"]
        await until(lambda: is_gone(pids["worker 2"]))
        assert not is_gone(pids["worker 1"])
        assert reports == ["workers: 2 -> 1"]
    finally:
        await supervisor.stop(0, asyncio.Event())
    assert is_gone(pids["worker 1"])


async def test_a_worker_that_was_let_go_just_before_all_are_stopped_is_asked_to_end(tmp_path: Path) -> None:
    supervisor = Supervisor(lambda _: None)
    log = tmp_path / "worker.log"
    await supervisor.start(Program("worker 1", ("simulator", "--port", "0"), os.environ, log))
    await until(lambda: "listening" in log.read_text())
    supervisor.steady()
    pid = supervisor.pids["worker 1"]
    # It would be waited for, and only then be asked again: far longer than this test may take.
    supervisor.retire("worker 1", drain_s=3600)
    async with asyncio.timeout(60):
        await supervisor.stop(3600, asyncio.Event())
    assert is_gone(pid)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--workers", "none"), "'--workers': must be a number from 1 to 256, or auto"),
        (
            ("--workers", "auto", "--min-workers", "9", "--max-workers", "2"),
            "'--min-workers': is above --max-workers 2",
        ),
    ],
)
def test_numbers_of_workers_that_make_no_sense_are_refused(
    penstock: Run, options: tuple[str, ...], told: str
) -> None:
    done = penstock("up", *options)
    assert (done.status, done.out) == (2, "")
    assert told in done.err


async def test_the_script_for_compose_follows_the_number(tmp_path: Path, redis: "Redis") -> None:
    """Against the real API; only `docker`, which no test has, is noted instead of run."""
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "$@" >> "$0.log"\n')
    docker.chmod(0o755)
    noted = tmp_path / "docker.log"
    async with serving(redis) as served:
        process = await asyncio.create_subprocess_exec(
            "sh",
            SCALE,
            "0",
            "3",
            env={
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "PENSTOCK_URL": f"http://127.0.0.1:{served.server.port}",
                "PENSTOCK_KEY": ADMIN_KEY,
                "EVERY_S": "0.1",
            },
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            await until(lambda: noted.exists() and "--scale worker=0 worker" in noted.read_text())
            ann = await served.api.user("ann")
            await served.api.submitted(ann)
            await until(lambda: "--scale worker=1 worker" in noted.read_text())
        finally:
            process.kill()
            await process.wait()
    assert len(noted.read_text().splitlines()) == 2
