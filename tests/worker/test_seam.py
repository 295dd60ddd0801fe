"""The contract with arq: the methods we replace are still called, as we expect them, by the version that is pinned."""

import asyncio
import gc
import inspect
import signal
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from arq.connections import ArqRedis
from arq.worker import Worker, func
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs.claims import Claims
from jobs.connection import connect
from jobs.record import State
from tests.support.valkey import ValkeyProcess, running_valkey
from tests.support.waiting import eventually
from tests.worker.line import ended, line, submit
from worker.process import run_chat
from worker.seam import ClaimingWorker

if TYPE_CHECKING:
    from redis.asyncio import Redis


def test_arq_is_the_version_the_seam_was_made_for() -> None:
    assert version("arq").startswith("0.28.")


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (Worker.main, ["self"]),
        (Worker._poll_iteration, ["self"]),
        (Worker.run_job, ["self", "job_id", "score"]),
        (Worker.heart_beat, ["self"]),
        (Worker.close, ["self"]),
        (Worker.handle_sig_wait_for_completion, ["self", "signum"]),
        (Worker._release_sem_dec_counter_on_complete, ["self"]),
    ],
)
def test_a_replaced_method_has_the_parameters_it_had(
    method: Callable[..., Any], parameters: list[str]
) -> None:
    assert list(inspect.signature(method).parameters) == parameters


def test_no_other_method_of_arqs_worker_talks_to_redis() -> None:
    ours = set(vars(ClaimingWorker))
    # Reached only through what we replace; `run_check` is for arq's own results.
    known = {
        "run_check",
        "start_jobs",
        "record_health",
        "run_cron",
        "finish_job",
        "finish_failed_job",
        "_cancel_aborted_jobs",
        "pool",
    }
    talking = {
        name
        for name, member in vars(Worker).items()
        if inspect.isfunction(member) and "self.pool" in inspect.getsource(member)
    }
    assert talking - ours <= known


async def test_jobs_are_counted_by_arq_and_none_of_its_keys_is_made(
    redis: "Redis", valkey: ValkeyProcess, tmp_path: Path
) -> None:
    async with line(redis, valkey.url, tmp_path) as parts, parts.store() as store:
        jobs = [await submit(store, parts.job(f"prompt {n}")) for n in range(3)]
        async with parts.worker() as worker:
            for job in jobs:
                assert (await ended(store, job.id)).state is State.SUCCEEDED
            await eventually(lambda: worker.jobs_complete == 3)
            assert worker.jobs_failed == 0
            assert await redis.exists("arq:queue:health-check", "arq:queue") == 0


async def test_no_more_jobs_than_slots_run_at_once(
    redis: "Redis", valkey: ValkeyProcess, tmp_path: Path
) -> None:
    async with line(redis, valkey.url, tmp_path) as parts, parts.store() as store:
        jobs = [await submit(store, parts.job("[[hang]]")) for _ in range(5)]
        async with parts.worker(max_jobs=2) as worker:
            await eventually(lambda: len(parts.simulator.log()) == 2)
            assert worker.job_counter == 2
            await store.cancel("ann", jobs[0].id)
            await eventually(lambda: len(parts.simulator.log()) == 3)
            assert worker.job_counter == 2


async def test_a_worker_goes_to_sleep_when_its_jobs_requests_are_written(
    redis: "Redis", valkey: ValkeyProcess, tmp_path: Path
) -> None:
    async with line(redis, valkey.url, tmp_path) as parts, parts.store() as store, parts.worker() as worker:
        # Which makes the connection.
        await ended(store, (await submit(store, parts.job("prompt"))).id)
        sent: list[bool] = []
        sleep = worker._sleep

        async def watched(seconds: float) -> None:
            sent.extend(run.sent for run in worker.ctx["dispatcher"].running.values())
            await sleep(seconds)

        worker._sleep = watched
        await submit(store, parts.job("[[hang]]"))
        await eventually(lambda: bool(sent))
        assert sent[0]


async def test_a_worker_survives_redis_being_away_and_settles_what_it_has_paid_for(tmp_path: Path) -> None:
    with running_valkey(tmp_path / "valkey", aof=True) as own:
        redis = connect(own.url, client_name="tests")
        async with line(redis, own.url, tmp_path, latency_s=0.3) as parts, parts.store() as store:
            job = await submit(store, parts.job("[[slow:1]] paid for"))
            async with parts.worker():
                await eventually(lambda: len(parts.simulator.log()) == 1)
                own.kill()
                await eventually(lambda: parts.simulator.log()[0].finished_at is not None)
                await asyncio.to_thread(own.start)
                done = await ended(store, job.id)
                assert done.state is State.SUCCEEDED
                assert len(parts.simulator.log()) == 1
                again = await submit(store, parts.job("and on it goes"))
                assert (await ended(store, again.id)).state is State.SUCCEEDED
        await redis.aclose()


class Away:
    """Claims of a Redis that breaks the connection of each, as soon as it may."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_break = asyncio.Event()

    async def claim(self, sequence: int, slots: int) -> None:
        self.asked += 1
        await self.may_break.wait()
        raise RedisConnectionError("Redis is away")


def claiming_worker(claims: Away) -> ClaimingWorker:
    """One that has all but a Redis."""
    return ClaimingWorker(
        [func(run_chat, name="run_chat")],
        claims=cast(Claims, claims),
        sleep=asyncio.sleep,
        tick=lambda: None,
        redis_pool=cast(ArqRedis, object()),
        max_jobs=1,
        drain_s=1,
        ctx={},
        handle_signals=False,
    )


async def test_a_signal_before_the_work_begins_ends_it_before_a_claim() -> None:
    away = Away()
    worker = claiming_worker(away)
    worker.handle_sig_wait_for_completion(signal.SIGTERM)
    # arq's drain is over before there is a main task.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await worker.async_run()
        await worker.close()
    assert away.asked == 0


async def test_a_claim_that_fails_when_nobody_waits_for_it_any_more_is_asked_again_and_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.seam.RECONNECT_S", (0.01,))
    away, complaints = Away(), list[dict[str, Any]]()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    worker = claiming_worker(away)
    claiming = asyncio.create_task(worker.main())
    await eventually(lambda: away.asked == 1)
    claiming.cancel()
    await asyncio.wait([claiming])
    away.may_break.set()
    await asyncio.sleep(0)
    await worker.close()
    assert away.asked > 1
    gc.collect()
    assert complaints == []
