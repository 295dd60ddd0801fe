"""Children are kept running and ended in order; the children here are real simulators, told apart by their logs."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli import supervisor as module
from cli.errors import CommandError
from cli.supervisor import Program, Supervisor
from tests.cli.running import is_gone
from tests.cli.waiting import PATIENCE_S, until

DRAIN_S = 0.0


class Reports(list[str]):
    """What a supervisor has told."""


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
async def supervisor(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Supervisor]:
    """One that leaves nothing behind, and does not pause for long."""
    monkeypatch.setattr(module, "FIRST_BACKOFF_S", 0.01)
    made = Supervisor(reports.append)
    yield made
    await made.stop(DRAIN_S, asyncio.Event())


def simulator(log: Path, *options: str, stage: int = 0) -> Program:
    return Program(log.stem, ("simulator", "--port", "0", *options), os.environ, log, stage)


async def started(log: Path, times: int = 1) -> None:
    await until(lambda: log.read_text().count("simulator listening on") == times)


async def test_a_child_that_is_killed_is_started_again(
    supervisor: Supervisor, reports: Reports, tmp_path: Path
) -> None:
    log = tmp_path / "one.log"
    await supervisor.start(simulator(log))
    await started(log)
    supervisor.steady()
    first = supervisor.pids["one"]
    os.kill(first, signal.SIGKILL)
    await started(log, times=2)
    assert supervisor.pids["one"] != first
    assert reports == ["one was ended by SIGKILL; starting it again in 0.01 s"]


async def test_the_pause_grows_while_a_child_keeps_dying(
    supervisor: Supervisor, reports: Reports, tmp_path: Path
) -> None:
    log = tmp_path / "one.log"
    await supervisor.start(simulator(log))
    await started(log)
    supervisor.steady()
    for times in (2, 3):
        os.kill(supervisor.pids["one"], signal.SIGTERM)
        await started(log, times)
    assert [report.rpartition(" in ")[2] for report in reports] == ["0.01 s", "0.02 s"]
    assert reports[0].startswith("one ended with status 0")


async def test_a_child_that_dies_before_all_is_steady_ends_it_with_its_last_words(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    log = tmp_path / "broken.log"
    await supervisor.start(simulator(log, "--faults", "nowhere.yaml"))
    with pytest.raises(
        CommandError, match=r"^broken ended with status 1: .*nowhere\.yaml.*; see .*broken\.log$"
    ):
        await supervisor.until_lost()


async def test_a_later_stage_lives_until_the_earlier_one_has_ended(reports: Reports, tmp_path: Path) -> None:
    supervisor = Supervisor(reports.append)
    logs = {name: tmp_path / f"{name}.log" for name in ("early", "late", "early-too")}
    for name, log in logs.items():
        await supervisor.start(simulator(log, stage=int(name == "late")))
    for log in logs.values():
        await started(log)
    pids = supervisor.pids
    os.kill(pids["early"], signal.SIGSTOP)
    stopping = asyncio.create_task(supervisor.stop(3600, asyncio.Event()))
    await until(lambda: is_gone(pids["early-too"]))
    assert not is_gone(pids["late"])
    os.kill(pids["early"], signal.SIGCONT)
    await asyncio.wait_for(stopping, PATIENCE_S)
    assert all(map(is_gone, pids.values()))
    assert reports == []


async def test_hurry_ends_a_drain_and_what_is_frozen_is_killed(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAVE_S", 0.2)
    supervisor = Supervisor(reports.append)
    log = tmp_path / "one.log"
    await supervisor.start(simulator(log))
    await started(log)
    pid = supervisor.pids["one"]
    os.kill(pid, signal.SIGSTOP)
    hurry = asyncio.Event()
    stopping = asyncio.create_task(supervisor.stop(3600, hurry))
    await asyncio.sleep(0)
    assert not stopping.done()
    hurry.set()
    await asyncio.wait_for(stopping, PATIENCE_S)
    assert is_gone(pid)
