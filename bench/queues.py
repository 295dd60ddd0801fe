"""The queues that are measured side by side: a worker of each, and a way to submit to it, for one provider.

with queue("penstock", provider_url, slots=100) as line:
    line.submit(3000)
    with line.working() as pid: ...
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import cast

from bench.environments import environment
from bench.processes import ROOT, module, running
from bench.server import valkey
from bench.service import api, key_of, worker

PENSTOCK = "penstock"
ARQ_WRITTEN = "arq as written"
ARQ_SAME = "arq, the same call"
ARQ_DEFAULT = "arq, its default polling"
STREAQ = "streaq"
TASKIQ = "taskiq"

_ARQ = {ARQ_WRITTEN: "written", ARQ_SAME: "same", ARQ_DEFAULT: "default"}


@dataclass(frozen=True, slots=True)
class Submitted:
    """When a numbered job's submission was begun, and when it was accepted (monotonic seconds)."""

    number: int
    begun_s: float
    accepted_s: float


@dataclass(frozen=True, slots=True)
class Line:
    """One queue, on an empty Valkey of its own. `working`: a worker runs, its process id."""

    redis_url: str
    working: Callable[[], AbstractContextManager[int]]
    _command: list[str]
    _variables: dict[str, str]

    def submit(self, count: int, *, first: int = 0, gap_s: float = 0.0) -> list[Submitted]:
        """Submit that many jobs."""
        numbers = ["--count", str(count), "--first", str(first), "--gap", str(gap_s)]
        done = subprocess.run(
            [*self._command, *numbers], cwd=ROOT, env={"PYTHONPATH": str(ROOT), **self._variables},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{self._command}: {done.stderr[-1000:]}")
        told = cast(list[tuple[int, float, float]], json.loads(done.stdout.splitlines()[-1]))
        return [Submitted(*one) for one in told]


@contextmanager
def queue(name: str, provider_url: str, *, slots: int = 100) -> Iterator[Line]:
    """A queue and its server; no worker runs yet. Raises PeerMissing where a peer cannot be installed."""
    with valkey(aof=True) as url:
        if name == PENSTOCK:
            with api(url, provider_url) as (address, _):
                command = module(
                    "bench.penstock_jobs", "submit", "--redis", key_of(url), "--provider", address
                )
                yield Line(url, lambda: worker(url, provider_url, slots=slots), command, {})
            return
        variables = {"BENCH_REDIS": url, "BENCH_PROVIDER": provider_url}
        told = ["--redis", url, "--provider", provider_url, "--slots", str(slots)]
        if name in _ARQ:
            told += ["--call", _ARQ[name]]
            work, submit = (module("bench.arq_jobs", what, *told) for what in ("work", "submit"))
        elif name == STREAQ:
            python = str(environment("streaq"))
            work, submit = (
                [python, "-m", "bench.peers.streaq_jobs", what, *told] for what in ("work", "submit")
            )
        else:
            python = str(environment("taskiq"))
            submit = [python, "-m", "bench.peers.taskiq_jobs", "submit", *told]
            work = [
                python, "-m", "taskiq", "worker", "bench.peers.taskiq_jobs:broker", "--workers", "1",
                "--max-async-tasks", str(slots), "--log-level", "WARNING",
            ]  # fmt: skip
        yield Line(url, lambda: running(work, environment=variables), submit, variables)
