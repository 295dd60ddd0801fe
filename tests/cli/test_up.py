"""`penstock up`: from the start over deaths to the drain, with a real simulator as the provider."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from tests.cli.conftest import Run
from tests.cli.running import RunningUp, is_gone, running_up
from tests.cli.waiting import wait_until
from tests.simulator.process import SimulatorProcess, started
from tests.support.valkey import ValkeyProcess, running_valkey

CONFIG = """\
providers:
  simulator:
    base_url: {url}/v1
    tokens_per_minute: 60000
    requests_per_minute: 600
    timeout_s: 120
    models: {{gpt-4o-mini: {{max_output_tokens: 100}}}}
"""


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    with started() as process:
        yield process


@pytest.fixture
def configured(directory: Path, simulator: SimulatorProcess) -> Path:
    """A directory to start in."""
    (directory / "penstock.yaml").write_text(CONFIG.format(url=simulator.url))
    return directory


def client(penstock: Run, up: RunningUp) -> dict[str, str]:
    """The environment of a client with a new key."""
    key = penstock("keys", "create", "--user", "u1", "--tier", "pro")
    assert key.status == 0, key.err
    return {"PENSTOCK_URL": up.url, "PENSTOCK_KEY": key.out.strip()}


def test_ctrl_c_drains_and_the_next_start_goes_on(configured: Path, penstock: Run) -> None:
    with running_up(configured, "--workers", "2") as up:
        assert list(up.pids) == ["worker 1", "worker 2", "api"]
        assert "admin key: admin-" in up.output
        me = client(penstock, up)
        job = penstock("submit", "[[slow:2]] and then an answer", **me).out.strip()
        wait_until(lambda: penstock("get", job, **me).out.splitlines()[1].split() == ["status", "running"])
        up.interrupt()
        up.says("draining")
        assert up.ends() == 0
    assert all(map(is_gone, up.pids.values()))

    with running_up(configured) as again:
        assert "admin key" not in again.output
        me["PENSTOCK_URL"] = again.url
        found = json.loads(penstock("get", job, "--json", **me).out)
        assert (found["status"], found["attempts"]) == ("succeeded", 1)

        hanging = penstock("submit", "[[hang]]", **me).out.strip()
        wait_until(
            lambda: penstock("get", hanging, **me).out.splitlines()[1].split() == ["status", "running"]
        )
        again.interrupt()
        again.says("draining: running jobs may finish within 120 s")
        again.interrupt()
        assert again.ends() == 0


def test_children_do_not_outlive_a_killed_parent(configured: Path, penstock: Run) -> None:
    with running_up(configured) as up:
        up.process.kill()
        wait_until(lambda: all(map(is_gone, up.pids.values())))
    # The embedded server is left for whoever comes next, who is also the last to use it.
    assert penstock("keys", "list").status == 0


def test_a_worker_that_dies_is_replaced_over_a_redis_of_its_own(
    configured: Path, penstock: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        running_valkey(configured / "redis", aof=True) as server,
        running_up(configured, REDIS_URL=server.url) as up,
    ):
        monkeypatch.setenv("REDIS_URL", server.url)
        os.kill(up.pids["worker 1"], signal.SIGKILL)
        up.says(r"^penstock: worker 1 was ended by SIGKILL; starting it again in 0\.5 s$")
        done = penstock("submit", "Hello", "--wait", **client(penstock, up))
        assert (done.status, done.out.startswith("echo: Hello")) == (0, True), done.err
    assert [path.name for path in (configured / ".penstock").iterdir()] == ["secrets.json"]


def test_the_embedded_server_is_replaced_too(configured: Path, penstock: Run) -> None:
    with running_up(configured) as up:
        me = client(penstock, up)
        before = penstock("submit", "Hello", **me).out.strip()
        os.kill(int((configured / ".penstock" / "valkey.pid").read_text()), signal.SIGKILL)
        wait_until(lambda: penstock("get", before, "--wait", "10", **me).status == 0)
        assert penstock("submit", "Hello again", "--wait", **me).status == 0


def test_a_loss_of_data_is_accepted_by_the_doctor(configured: Path, penstock: Run) -> None:
    with running_up(configured) as up:
        with closing(Redis.from_url((configured / ".penstock" / "valkey.url").read_text().strip())) as redis:
            redis.flushall()
        me = client(penstock, up)
        refused = penstock("submit", "Hello", **me)
        assert refused.err.endswith("(unavailable); try again in 2 s\n")
        accepted = penstock("doctor", "--accept-loss")
        assert accepted.status == 0, accepted.err
        wait_until(lambda: penstock("limits", **me).status == 0)


@pytest.mark.parametrize("command", [("up", "--port", "0"), ("demo", "--exit")], ids=" ".join)
def test_a_redis_that_would_lose_jobs_is_not_used(
    penstock: Run, valkey: ValkeyProcess, command: tuple[str, ...]
) -> None:
    done = penstock(*command, REDIS_URL=valkey.url)
    assert done.status == 1
    assert done.err.startswith("penstock: the Redis at REDIS_URL cannot be used: the append-only file is off")


def test_a_redis_that_is_away_is_told_at_once(penstock: Run) -> None:
    done = penstock("up", "--port", "0", REDIS_URL="redis://127.0.0.1:9/0")
    assert done.status == 1
    assert done.err.startswith("penstock: Redis cannot be used: ")


def test_a_taken_port_stops_it_before_anything_is_started(directory: Path, penstock: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = penstock("up", "--port", str(port))
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"penstock: port {port} on 127.0.0.1 is taken")
    assert list(directory.iterdir()) == []
