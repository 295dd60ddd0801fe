"""A worker process: everything a dispatcher needs, put together, and taken apart after the drain."""

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, cast

import structlog
import uvloop
from arq.connections import ArqRedis
from arq.worker import func
from redis.exceptions import RedisError

from jobs import keys
from jobs.claims import Claims, Renewal
from jobs.config import Config, ConfigError, ConfigWatcher
from jobs.config.load import load
from jobs.connection import connect
from jobs.environment import Environment
from jobs.record import ClaimedJob
from jobs.runner import EpochChanged
from jobs.store import JobStore
from jobs.tokens.estimator import TokenEstimator
from worker.dispatch import Dispatcher
from worker.heartbeat import Heartbeat
from worker.providers import Providers
from worker.seam import ClaimingWorker

log = structlog.get_logger(__name__)

SWEEP_S = 1.0
START_RETRY_S = 1.0


async def run_chat(ctx: dict[Any, Any], job: ClaimedJob) -> None:
    """The arq function of `/v1/chat/completions` jobs."""
    dispatcher: Dispatcher = ctx["dispatcher"]
    await dispatcher.run(job, ctx["asked_at"])


def run(environment: Environment) -> None:
    """Run one worker until SIGTERM or SIGINT has drained it. Raises ConfigError for a wrong configuration."""
    config = load(environment.config_path)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(environment, config))


def worker_name() -> str:
    """Unique for ever: lease tokens are made of it."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


async def _run(environment: Environment, config: Config) -> None:
    url = environment.redis_url
    if url is None:
        raise ValueError("REDIS_URL is not set")
    name = worker_name()
    lease_ms = round(environment.lease_s * 1000)
    slots = environment.max_jobs
    drain_s = config.longest_timeout_s() if environment.drain_s is None else environment.drain_s

    redis = connect(url, client_name="penstock-worker", max_connections=slots + 10)
    sleeping = connect(url, client_name="penstock-worker-sleep", read_timeout_s=10, max_connections=2)
    listening = connect(url, client_name="penstock-worker-stops", read_timeout_s=None, max_connections=2)
    claims = Claims(redis, name, lease_ms=lease_ms)
    store = JobStore(redis, lease_ms=lease_ms)
    await _started(store, claims, config)

    providers = Providers(config)
    tokens = TokenEstimator()
    dispatcher = Dispatcher(claims, providers, tokens)
    loop = asyncio.get_running_loop()

    def leases() -> list[tuple[str, str]]:
        # An attempt whose deadline is long past is not kept alive: its loop may hang.
        now = loop.time() - environment.lease_s
        return [
            (run.job.id, run.job.token) for run in list(dispatcher.running.values()) if run.deadline > now
        ]

    def on_renewal(renewal: Renewal) -> None:
        for job_id in renewal.lost:
            loop.call_soon_threadsafe(dispatcher.stop, job_id, "lost")
        for job_id in renewal.stop:
            loop.call_soon_threadsafe(dispatcher.stop, job_id, "asked")

    heartbeat = Heartbeat(
        url, name, lease_s=environment.lease_s, slots=slots, leases=leases, on_renewal=on_renewal
    )

    async def sleep(seconds: float) -> None:
        with suppress(RedisError):
            # redis-py's type says whole seconds; Redis has taken fractions since version 6.
            await cast(Awaitable[Any], sleeping.blpop([keys.WAKE], timeout=cast(int, seconds)))

    def changed(new: Config) -> None:
        providers.use(new)
        log.info("configuration changed")
        background.append(loop.create_task(_publish(store, new)))

    def refused(error: ConfigError) -> None:
        log.error("configuration not taken up; the old one stays in force", error=str(error))

    watcher = ConfigWatcher(config, environment.config_path, on_change=changed, on_error=refused)
    background = [
        loop.create_task(_sweep(store)),
        loop.create_task(_hear_stops(listening, name, dispatcher)),
        loop.create_task(watcher.run()),
    ]
    worker = ClaimingWorker(
        [func(run_chat, name="run_chat")],
        claims=claims,
        sleep=sleep,
        tick=heartbeat.tick,
        redis_pool=ArqRedis(connection_pool=redis.connection_pool),
        max_jobs=slots,
        drain_s=drain_s,
        ctx={"dispatcher": dispatcher},
    )
    heartbeat.start()
    log.info("worker started", worker=name, slots=slots, lease_s=environment.lease_s)
    try:
        with suppress(asyncio.CancelledError):
            await worker.async_run()
        await worker.close()
    finally:
        heartbeat.stop()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        with suppress(RedisError):
            await claims.goodbye()
        await providers.aclose()
        tokens.close()
        for client in (redis, sleeping, listening):
            await client.aclose()
    log.info("worker stopped", worker=name)


async def _started(store: JobStore, claims: Claims, config: Config) -> None:
    """Wait for Redis, however long it takes: a worker that exits for it would only be started again."""
    while True:
        try:
            await store.start()
            await claims.start()
            await store.publish(config)
            return
        except RedisError as error:
            log.warning("waiting for Redis", error=str(error) or type(error).__name__)
            await asyncio.sleep(START_RETRY_S)


async def _publish(store: JobStore, config: Config) -> None:
    while True:
        try:
            await store.publish(config)
            return
        except RedisError as error:
            log.warning("configuration not published yet", error=type(error).__name__)
            await asyncio.sleep(START_RETRY_S)


async def _sweep(store: JobStore) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            await store.sweep()
        except (RedisError, EpochChanged) as error:
            log.warning("no sweep", error=str(error) or type(error).__name__)


async def _hear_stops(redis: Any, worker: str, dispatcher: Dispatcher) -> None:
    """Stop jobs as soon as that is asked for; what is missed while disconnected comes with the next renewal."""
    while True:
        try:
            async with redis.pubsub() as channel:
                await channel.subscribe(keys.worker_channel(worker))
                async for message in channel.listen():
                    if message["type"] == "message":
                        dispatcher.stop(message["data"].decode(), "asked")
        except RedisError as error:
            log.warning("not hearing of cancels for a moment", error=type(error).__name__)
            await asyncio.sleep(START_RETRY_S)
