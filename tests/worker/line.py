"""A whole line in one process for tests: a real Valkey, the simulator, and a worker in the test's own loop."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.config import Config
from jobs.environment import Environment
from jobs.record import JobView, NewJob, State, Submitted
from jobs.store import JobStore
from jobs.users import Users
from simulator.serve import RunningSimulator, running
from simulator.settings import SimulatorSettings
from worker.process import assembled
from worker.seam import ClaimingWorker

if TYPE_CHECKING:
    from redis.asyncio import Redis

DEADLINE_S = 20.0
SECRET = "a secret of the tests"
PROMPT_TOKENS, OUTPUT_TOKENS = 40, 60


@dataclass
class Line:
    """What a test needs of the line; `provider` overrides settings of the one provider, `sim`, which serves `m`."""

    redis: "Redis"
    redis_url: str
    folder: Path
    simulator: RunningSimulator
    provider: dict[str, Any] = field(default_factory=dict)
    webhooks: dict[str, Any] = field(default_factory=dict)
    _ids: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def config(self) -> Config:
        provider = {
            "base_url": f"{self.simulator.url}/v1",
            "models": {"m": {"max_output_tokens": 100}},
            "timeout_s": 10.0,
        }
        return Config.model_validate(
            {
                "tiers": {"free": {"tokens_per_day": 5000, "block_s": 0}, "open": {}},
                "providers": {"sim": provider | self.provider},
                "webhooks": self.webhooks,
            }
        )

    @asynccontextmanager
    async def store(self) -> AsyncIterator[JobStore]:
        """The API's side, with the configuration published and the user `ann` on the unlimited tier `open`."""
        store = JobStore(self.redis)
        await store.start()
        await store.publish(self.config)
        await Users(self.redis).create("ann", "open", {})
        yield store

    @asynccontextmanager
    async def worker(self, **environment: str | float | Path) -> AsyncIterator[ClaimingWorker]:
        """A worker that claims until the block ends; what then still runs is handed back."""
        given: dict[str, str | float | Path] = {"redis_url": self.redis_url, "lease_s": 2, "max_jobs": 20}
        given["secret"] = SECRET
        # A file that is not there: this configuration is given, and not followed.
        given["config_path"] = self.folder / "none.yaml"
        async with assembled(
            Environment.load(**(given | environment)), self.config, handle_signals=False
        ) as worker:
            running_worker = asyncio.create_task(worker.async_run())
            try:
                yield worker
            finally:
                running_worker.cancel()
                for task in worker.tasks.values():
                    task.cancel()
                with suppress(asyncio.CancelledError):
                    await running_worker

    def job(self, prompt: str, **changes: Any) -> NewJob:
        """A new job of `ann` with this prompt."""
        body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": OUTPUT_TOKENS}
        given: dict[str, Any] = {
            "id": f"job_{next(self._ids):026d}",
            "user": "ann",
            "name": "m",
            "body": json.dumps(body).encode(),
            "prompt_tokens": PROMPT_TOKENS,
            "output_tokens": OUTPUT_TOKENS,
        }
        return NewJob(**(given | changes))


async def submit(store: JobStore, job: NewJob) -> JobView:
    """Submit a job that must be accepted."""
    outcome = await store.submit(job)
    assert isinstance(outcome, Submitted), outcome
    return outcome.job


async def until(
    store: JobStore, job_id: str, wanted: Callable[[JobView], bool], user: str = "ann"
) -> JobView:
    """The job, as soon as it is as wanted."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            job, _ = await store.read(user, job_id)
            assert job is not None, f"{job_id} is gone"
            if wanted(job):
                return job
            await asyncio.sleep(0.01)


async def ended(store: JobStore, job_id: str, user: str = "ann") -> JobView:
    """The job, once it has ended."""
    return await until(store, job_id, lambda job: job.state.final, user)


async def started(store: JobStore, job_id: str) -> JobView:
    """The job, once it runs."""
    return await until(store, job_id, lambda job: job.state is State.RUNNING)


@asynccontextmanager
async def line(
    redis: "Redis", redis_url: str, folder: Path, provider: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Line]:
    """The line over a simulator with these settings."""
    async with running(SimulatorSettings(**settings)) as simulator:
        yield Line(redis, redis_url, folder, simulator, provider or {})
