"""A whole Penstock in processes of its own: APIs, workers, Valkey behind a proxy, and simulated providers."""

import asyncio
import contextlib
import itertools
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, cast

import httpx2
from pydantic import BaseModel, ConfigDict
from redis.asyncio import Redis

from cli.lifeline import Lifeline
from jobs.connection import connect
from tests.chaos.caller import Caller
from tests.chaos.processes import Process
from tests.chaos.proxy import Proxy, proxied
from tests.chaos.waiting import PATIENCE_S, POLL_S, until
from tests.support.valkey import HOST, ValkeyProcess, free_port

ADMIN_KEY = "chaos-admin-key-that-nobody-guesses-0123456789"
SECRET = "chaos-secret-that-is-long-enough-0123456789abcdef"
LEASE_S = 2.0
PROVIDER_TIMEOUT_S = 4.0
OUTPUT_TOKENS = 60
WIDE, TIGHT = "m", "t"
"""The models: of a provider without limits, and of one whose minute is soon full."""

STARTED = "worker started"


class NotReadyError(Exception):
    """A process did not come up: nothing has been tested."""


class Sent(BaseModel):
    """A request as the simulator's log tells it; times in Unix seconds."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: int
    request_id: str
    arrived_at: float
    finished_at: float | None
    model: str | None
    prompt: str | None
    status: int | None
    fault: str | None
    client_gone: bool
    reported_tokens: int | None

    @property
    def marker(self) -> str:
        """The word by which its job is known."""
        return (self.prompt or "").partition(" ")[0]

    @property
    def completion_id(self) -> str:
        """The id of the answer that was made of it."""
        return f"chatcmpl-{self.request_id.removeprefix('req_')}"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a system is made of. `tight`: tokens and requests a minute of the provider of `t`; None: there is none.

    `poor_tokens` is the daily budget of the tier `poor`; times in seconds.
    """

    apis: int = 1
    workers: int = 1
    tight: tuple[int, int] | None = None
    poor_tokens: int = 3000
    lease_s: float = LEASE_S
    drain_s: float = 8.0
    slots: int = 8
    latency_s: float = 0.05
    latency_jitter_s: float = 0.0
    timeout_s: float = PROVIDER_TIMEOUT_S
    bug: str = ""
    log_level: str = "info"


@dataclass
class System:
    """All the parts; what a test does to them is done through these."""

    folder: Path
    shape: Shape
    valkey: ValkeyProcess
    proxy: Proxy
    redis: Redis
    http: httpx2.AsyncClient
    lifeline: Lifeline
    apis: list[Process] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)
    providers: dict[str, str] = field(default_factory=dict)
    simulators: list[Process] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    _names: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def urls(self) -> list[str]:
        """Where the APIs are; the same after a restart."""
        return [f"http://{HOST}:{self.ports[api.name]}" for api in self.apis]

    @property
    def processes(self) -> list[Process]:
        """APIs and workers."""
        return [*self.apis, *self.workers]

    async def caller(self, user: str = "ann", tier: str = "open") -> Caller:
        """A user with a key, who asks any of the APIs."""
        answer = await self.http.post(
            f"{self.urls[0]}/v1/admin/keys", json={"user": user, "tier": tier}, headers=self.admin
        )
        assert answer.status_code == 201, answer.text
        return Caller(user, answer.json()["key"], self.http, self.urls)

    @property
    def admin(self) -> dict[str, str]:
        """The header of an administrator."""
        return {"authorization": f"Bearer {ADMIN_KEY}"}

    def marker(self) -> str:
        """A new word to know a job by, at the provider as well."""
        return f"job-{next(self._names)}"

    async def sent(self, marker: str | None = None) -> list[Sent]:
        """What the providers got in the order of arrival: of one job, or all."""
        found: list[Sent] = []
        for url in self.providers.values():
            answer = await self.http.get(f"{url}/_log")
            log = answer.raise_for_status().json()
            assert log["dropped"] == 0, "the simulator forgot some of its log"
            found += [Sent.model_validate(entry) for entry in log["entries"]]
        return [one for one in found if marker is None or one.marker == marker]

    async def until_sent(self, marker: str, times: int = 1, within_s: float = PATIENCE_S) -> list[Sent]:
        """The job's requests, once there are so many. Raises TimeoutError."""

        async def arrived() -> bool:
            return len(await self.sent(marker)) >= times

        await until(arrived, within_s)
        return await self.sent(marker)

    async def holder(self, job_id: str) -> Process:
        """The worker that runs the job."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                stored = await cast(Awaitable[bytes | None], self.redis.hget(f"job:{job_id}", "h"))
                name = str(json.loads(stored or b"{}").get("wk", ""))
                for worker in self.workers:
                    if f"-{worker.pid}-" in name:
                        return worker
                await asyncio.sleep(POLL_S)

    async def ledger(self, job_id: str) -> list[dict[str, str]]:
        """The job's lines of the ledger, of whatever day."""
        found: list[dict[str, str]] = []
        async for key in self.redis.scan_iter("ledger:*"):
            for _, line in await self.redis.xrange(key):
                fields = {name.decode(): value.decode() for name, value in line.items()}
                if fields["job"] == job_id:
                    found.append(fields)
        return found

    async def fault(self, faults: dict[str, float]) -> None:
        """Let the provider without limits fail at these rates; none: not at all."""
        answer = await self.http.post(f"{self.providers[WIDE]}/_faults", json={"rate": faults})
        answer.raise_for_status()

    async def heal(self) -> None:
        """Whatever is frozen, cut, full, read-only or down is well again; returns when all are ready."""
        self.proxy.heal()
        self.valkey.thaw()
        await asyncio.to_thread(self.valkey.start)
        self.valkey.room_on_disk(None)
        await self.redis.config_set("maxmemory", "0")
        await self.redis.config_set("appendfsync", "always")
        await self.redis.replicaof("NO", "ONE")
        await self.fault({})
        for one in (*self.processes, *self.simulators):
            one.thaw()
        for one in self.processes:
            if not one.runs:
                one.start()
        await asyncio.gather(*(self.until_ready(one) for one in self.processes))

    async def forget(self) -> None:
        """Clear the providers' logs, which are asked for often."""
        for url in self.providers.values():
            (await self.http.delete(f"{url}/_log")).raise_for_status()

    async def start(self, process: Process) -> None:
        """Start it (again), and wait until it is ready."""
        process.start()
        await self.until_ready(process)

    async def until_ready(self, process: Process) -> None:
        """Returns once the process serves. Raises NotReadyError."""
        deadline = time.monotonic() + PATIENCE_S
        while not await self._is_ready(process):
            if time.monotonic() > deadline:
                # Its stacks tell what it waits for.
                process.send(signal.SIGABRT)
                await process.ended()
                raise NotReadyError(f"{process.name} does not become ready:\n{process.log}")
            if not process.runs:
                # While it was down, somebody's connection may have got its port for a moment.
                if not process.has_said("in use"):
                    raise NotReadyError(f"{process.name} ended at its start:\n{process.log}")
                process.start()
            await asyncio.sleep(POLL_S)

    async def _is_ready(self, process: Process) -> bool:
        if process in self.workers:
            return process.has_said(STARTED)
        path = "healthz" if process in self.simulators else "readyz"
        with contextlib.suppress(httpx2.TransportError):
            answer = await self.http.get(f"http://{HOST}:{self.ports[process.name]}/{path}")
            return answer.status_code == 200
        return False

    def make(self, name: str, *arguments: str, port: bool = False, runs: tuple[str, ...] = ()) -> Process:
        """A process that is yet to be started; `runs`: by another module than usual."""
        if port:
            self.ports[name] = free_port()
            arguments = (*arguments, "--port", str(self.ports[name]))
        settings = {
            "REDIS_URL": f"redis://{HOST}:{self.proxy.port}/0",
            "PENSTOCK_SECRET": SECRET,
            "PENSTOCK_ADMIN_KEY": ADMIN_KEY,
            "PENSTOCK_CONFIG": str(self.folder / "penstock.yaml"),
            "PENSTOCK_LEASE_S": f"{self.shape.lease_s:g}",
            "PENSTOCK_DRAIN_S": f"{self.shape.drain_s:g}",
            "PENSTOCK_MAX_JOBS": str(self.shape.slots),
            "PENSTOCK_LOG": "json",
            "PENSTOCK_LOG_LEVEL": self.shape.log_level,
            "PYTHONFAULTHANDLER": "1",
        }
        bug = "" if arguments[0] == "simulator" else self.shape.bug
        return Process(
            name, self.folder, arguments, settings, lifeline=self.lifeline.child_fd, bug=bug, runs=runs
        )

    def logs(self) -> str:
        """The last lines of every process, for whoever has to find out what went wrong."""
        parts = []
        for one in self.processes:
            lines = [line for line in one.log.splitlines() if '"event": "request"' not in line]
            parts += [f"== {one.name}", *lines[-25:]]
        return "\n".join(parts)


HANGABLE = "none"
"""Runs processes through planted.py with nothing planted: SIGUSR1 hangs their loop, SIGUSR2 puts their clocks wrong."""
USUAL = Shape(apis=2, workers=2, drain_s=2.0, lease_s=3.0, timeout_s=30.0, bug=HANGABLE)
"""What most tests need; those of one shape share a system. Lease and deadline are long enough for a busy machine."""

Start: TypeAlias = Callable[[Shape], AbstractAsyncContextManager[System]]


@asynccontextmanager
async def running_system(folder: Path, shape: Shape) -> AsyncIterator[System]:
    """A system that is ready; at the end whatever is left of it is killed."""
    valkey = ValkeyProcess(folder / "valkey", aof=True)
    await asyncio.to_thread(valkey.start)
    # It has made the folder, in which its own is.
    lifeline = Lifeline()
    system: System | None = None
    try:
        async with (
            proxied(HOST, valkey.port) as proxy,
            httpx2.AsyncClient(
                trust_env=False, timeout=30.0, limits=httpx2.Limits(max_connections=200)
            ) as http,
        ):
            redis = connect(valkey.url, client_name="chaos")
            system = System(folder, shape, valkey, proxy, redis, http, lifeline)
            try:
                await _start(system)
                yield system
            except Exception:
                # pytest shows it with the failure.
                print(system.logs())  # noqa: T201  (there is nobody else to tell)
                raise
            finally:
                await redis.aclose()
    finally:
        if system is not None:
            for process in (*system.processes, *system.simulators):
                process.kill()
        lifeline.close()
        await asyncio.to_thread(valkey.stop)


async def _start(system: System) -> None:
    shape = system.shape
    latency = ("--latency", f"{shape.latency_s:g}", "--latency-jitter", f"{shape.latency_jitter_s:g}")
    limits: dict[str, tuple[str, ...]] = {WIDE: ()}
    if shape.tight is not None:
        limits[TIGHT] = ("--tpm", str(shape.tight[0]), "--rpm", str(shape.tight[1]))
    for model, options in limits.items():
        simulator = system.make(f"simulator-{model}", "simulator", *latency, *options, port=True)
        system.simulators.append(simulator)
        system.providers[model] = f"http://{HOST}:{system.ports[simulator.name]}"
    (system.folder / "penstock.yaml").write_text(_configuration(system))
    system.apis += [system.make(f"api-{n}", "api", port=True) for n in range(shape.apis)]
    system.workers += [system.make(f"worker-{n}", "worker") for n in range(shape.workers)]
    await asyncio.gather(*(system.start(one) for one in (*system.simulators, *system.processes)))


def _configuration(system: System) -> str:
    shape = system.shape
    lines = [
        "tiers:",
        "  open: {}",
        f"  poor: {{tokens_per_day: {shape.poor_tokens}, max_concurrent: 2}}",
        "providers:",
    ]
    for model, url in system.providers.items():
        lines += [
            f"  provider-{model}:",
            f"    base_url: {url}/v1",
            f"    timeout_s: {shape.timeout_s:g}",
            # The smaller vocabulary: processes start often.
            f"    models: {{{model}: {{max_output_tokens: {OUTPUT_TOKENS}, encoding: cl100k_base}}}}",
        ]
        if model == TIGHT and shape.tight is not None:
            # On a busy machine a request may arrive seconds after it was written.
            lines += ["    window_margin_s: 3"]
            lines += [
                f"    tokens_per_minute: {shape.tight[0]}",
                f"    requests_per_minute: {shape.tight[1]}",
            ]
    return "\n".join(lines) + "\n"
