"""What a worker process is made of, put together in the order of need and taken apart in the reverse one."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import structlog
from arq.connections import ArqRedis
from arq.worker import func
from redis.exceptions import RedisError

from jobs import keys
from jobs.claims import Claims, Renewal
from jobs.config import Config, ConfigError, ConfigWatcher
from jobs.connection import connect
from jobs.egress import Policy, SystemResolver
from jobs.environment import Environment, SettingsError
from jobs.record import ClaimedJob
from jobs.runner import EpochChanged
from jobs.store import JobStore
from jobs.tokens.estimator import TokenEstimator
from jobs.tokens.vocabulary import preload
from jobs.webhooks.outbox import Outbox
from jobs.webhooks.signing import SecretBox
from worker import cost as prices
from worker.dispatch import Dispatcher
from worker.heartbeat import Heartbeat
from worker.providers import Providers
from worker.seam import UNKNOWN, ClaimingWorker, WakeSleep
from worker.webhooks.guarded import GuardedClient
from worker.webhooks.sender import Sender
from worker.webhooks.settings import forward_proxy

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger(__name__)

SWEEP_S = 1.0
AGAIN_S = 1.0
"""Wait before what needs Redis in the background is tried again."""
WAKE_READ_S = 10.0
"""More than any sleep on the wake list lasts."""


async def run_chat(ctx: dict[Any, Any], job: ClaimedJob) -> None:
    """The arq function of `/v1/chat/completions` jobs."""
    dispatcher: Dispatcher = ctx["dispatcher"]
    await dispatcher.run(job, ctx["asked_at"])


async def hand_on(ctx: dict[Any, Any], job: ClaimedJob) -> None:
    """The arq function of endpoints that only a newer worker knows."""
    dispatcher: Dispatcher = ctx["dispatcher"]
    await dispatcher.hand_on(job)


def worker_name() -> str:
    """Unique for ever: lease tokens are made of it."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


@asynccontextmanager
async def assembled(
    environment: Environment, config: Config, *, handle_signals: bool = True
) -> AsyncIterator[ClaimingWorker]:
    """A worker that is ready to run; at the end its jobs are handed back and it says goodbye.

    Waits for Redis as long as it takes. Raises ValueError for a Redis URL or a proxy that cannot be used, and
    SettingsError without PENSTOCK_SECRET.
    """
    if environment.redis_url is None:
        raise ValueError("REDIS_URL is not set: a worker needs the Redis that the API uses")
    if environment.secret is None:
        raise SettingsError(
            "PENSTOCK_SECRET: is required; a worker signs webhooks with what the API encrypts"
        )
    url, name, slots = environment.redis_url, worker_name(), environment.max_jobs
    lease_ms = round(environment.lease_s * 1000)
    async with AsyncExitStack() as stack:

        def client(purpose: str, connections: int, read_timeout_s: float | None = 5.0) -> "Redis":
            made = connect(
                url,
                client_name=f"penstock-{purpose}",
                max_connections=connections,
                read_timeout_s=read_timeout_s,
            )
            stack.push_async_callback(made.aclose)
            return made

        redis = client("worker", slots + 10)
        sleeping = client("worker-sleep", 1, WAKE_READ_S)
        resting = client("sender-sleep", 1, WAKE_READ_S)
        listening = client("worker-stops", 1, None)
        claims = Claims(redis, name, lease_ms=lease_ms)
        store = JobStore(redis, lease_ms=lease_ms)
        outbox = Outbox(redis, name, lease_ms=lease_ms)
        await _until_redis_serves(claims, store, outbox, config)
        stack.push_async_callback(_goodbye, claims)

        tokens = TokenEstimator()
        stack.callback(tokens.close)
        await asyncio.to_thread(preload, {pool.model_settings.encoding for pool in config.all_pools()})
        await asyncio.to_thread(prices.preload, {pool.model for pool in config.all_pools()})
        providers = Providers(config)
        stack.push_async_callback(providers.aclose)
        dispatcher = Dispatcher(claims, providers, tokens)
        posting = GuardedClient(Policy.of(config.webhooks), SystemResolver(), proxy=forward_proxy(config))
        stack.push_async_callback(posting.aclose)
        sender = Sender(
            outbox,
            posting,
            SecretBox(environment.secret.get_secret_value()),
            sleep=_sleep_on(resting, keys.WAKE_SENDERS),
        )
        heartbeat = _heartbeat(environment, url, name, dispatcher, sender)
        stack.callback(heartbeat.stop)
        drain_s = config.longest_timeout_s() if environment.drain_s is None else environment.drain_s

        worker = ClaimingWorker(
            [func(run_chat, name="run_chat"), func(hand_on, name=UNKNOWN)],
            claims=claims,
            sleep=_sleep_on(sleeping, keys.WAKE),
            tick=heartbeat.tick,
            redis_pool=ArqRedis(connection_pool=redis.connection_pool),
            max_jobs=slots,
            drain_s=drain_s,
            ctx={"dispatcher": dispatcher},
            on_signal=sender.stop,
            handle_signals=handle_signals,
        )
        for duty in (
            _sweep(store),
            _hear_stops(listening, name, dispatcher),
            _follow_config(environment, config, providers, posting, store),
        ):
            stack.push_async_callback(_ended, asyncio.create_task(duty))
        stack.push_async_callback(_drained, sender, asyncio.create_task(sender.run()), drain_s)
        stack.push_async_callback(worker.close)
        heartbeat.start()
        log.info("worker started", worker=name, slots=slots, lease_s=environment.lease_s)
        yield worker
    log.info("worker stopped", worker=name)


def _sleep_on(redis: "Redis", tokens: str) -> WakeSleep:
    async def sleep(seconds: float) -> None:
        with suppress(RedisError):
            # redis-py's type says whole seconds; Redis has taken fractions since version 6.
            await cast(Awaitable[Any], redis.blpop([tokens], timeout=cast(int, seconds)))

    return sleep


async def _drained(sender: Sender, running: asyncio.Task[None], drain_s: float) -> None:
    """What is being sent may come to its end if a signal has begun a drain; else it goes back."""
    was_told = sender.stopping
    if not was_told:
        sender.stop()
    await asyncio.wait([running])
    await sender.drain(drain_s if was_told else 0)


def _heartbeat(
    environment: Environment, url: str, name: str, dispatcher: Dispatcher, sender: Sender
) -> Heartbeat:
    loop = asyncio.get_running_loop()

    def leases() -> list[tuple[str, str]]:
        # An attempt whose deadline is long past is not kept alive: its call may hang.
        now = loop.time() - environment.lease_s
        running = list(dispatcher.running.values())
        return [(run.job.id, run.job.token) for run in running if run.deadline > now]

    def on_renewal(renewal: Renewal) -> None:
        for token in renewal.lost:
            loop.call_soon_threadsafe(dispatcher.lease_lost, token)
            loop.call_soon_threadsafe(sender.lease_lost, token)
        for job_id in renewal.stop:
            loop.call_soon_threadsafe(dispatcher.stop, job_id)

    return Heartbeat(
        url,
        name,
        lease_s=environment.lease_s,
        slots=environment.max_jobs,
        leases=leases,
        deliveries=sender.leases,
        on_renewal=on_renewal,
    )


async def _until_redis_serves(claims: Claims, store: JobStore, outbox: Outbox, config: Config) -> None:
    """A worker that exits because Redis is away would only be started again: it waits."""
    while True:
        try:
            await store.start()
            await claims.start()
            await outbox.start()
            await store.publish(config)
            return
        except RedisError as error:
            log.warning("waiting for Redis", error=str(error) or type(error).__name__)
            await asyncio.sleep(AGAIN_S)


async def _goodbye(claims: Claims) -> None:
    with suppress(RedisError):
        await claims.goodbye()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _sweep(store: JobStore) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        try:
            await store.sweep()
        except (RedisError, EpochChanged) as error:
            log.warning("no sweep", error=str(error) or type(error).__name__)


async def _hear_stops(redis: "Redis", worker: str, dispatcher: Dispatcher) -> None:
    """Stop jobs as soon as that is asked for; what is missed while disconnected comes with the next renewal."""
    while True:
        try:
            async with redis.pubsub() as channel:
                await channel.subscribe(keys.worker_channel(worker))
                async for message in channel.listen():
                    if message["type"] == "message":
                        dispatcher.stop(message["data"].decode())
        except RedisError as error:
            log.warning("not hearing of cancels for a moment", error=type(error).__name__)
            await asyncio.sleep(AGAIN_S)


async def _follow_config(
    environment: Environment,
    config: Config,
    providers: Providers,
    posting: GuardedClient,
    store: JobStore,
) -> None:
    """Take up each edit of the configuration; a wrong one is reported, and the old one stays in force."""
    changed = asyncio.Event()

    def on_change(new: Config) -> None:
        providers.use(new)
        posting.policy = Policy.of(new.webhooks)
        try:
            posting.proxy = forward_proxy(new)
        except ValueError as error:
            log.error("the proxy for webhooks stays as it was", error=str(error))
        changed.set()

    def on_error(error: ConfigError) -> None:
        log.error("configuration not taken up; the old one stays in force", error=str(error))

    watcher = ConfigWatcher(config, environment.config_path, on_change=on_change, on_error=on_error)
    watching = asyncio.create_task(watcher.run())
    try:
        while True:
            await changed.wait()
            changed.clear()
            await _until_published(store, watcher)
            log.info("configuration changed", digest=watcher.current.digest()[:12])
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _until_published(store: JobStore, watcher: ConfigWatcher) -> None:
    while True:
        try:
            await store.publish(watcher.current)
            return
        except RedisError as error:
            log.warning("configuration not published yet", error=type(error).__name__)
            await asyncio.sleep(AGAIN_S)
