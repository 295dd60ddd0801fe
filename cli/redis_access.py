"""Redis for the commands that speak to it themselves: the one at REDIS_URL, or the data directory's embedded server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from cli.embedded import EmbeddedValkey
from cli.errors import CommandError
from jobs.connection import connect, durability_problems, server_facts
from jobs.environment import Environment
from jobs.logging import redact

WATCH_EVERY_S = 1.0


@asynccontextmanager
async def redis_server(environment: Environment, report: Callable[[str], None]) -> AsyncIterator[str]:
    """The URL of a Redis that is there for as long as this lasts: should an embedded one die, it is started again.

    `report` gets a line for each trouble. Raises CommandError if it cannot be started, reached or trusted with jobs to
    begin with.
    """
    if environment.redis_url is not None:
        await _check(environment.redis_url)
        yield environment.redis_url
        return
    server = EmbeddedValkey(environment.data_dir)
    url = await asyncio.to_thread(server.start)
    ending = asyncio.Event()
    watch = asyncio.create_task(_watch(server, ending, report))
    try:
        yield url
    finally:
        ending.set()
        await watch
        await asyncio.to_thread(server.stop)


@asynccontextmanager
async def opened_redis(environment: Environment) -> AsyncIterator[Redis]:
    """A client for one command, with the embedded server for as long, unless others keep it.

    Raises CommandError, also instead of any RedisError within.
    """
    server = None if environment.redis_url else EmbeddedValkey(environment.data_dir)
    url = environment.redis_url or ""
    try:
        if server is not None:
            url = await asyncio.to_thread(server.start)
        async with connected(url) as redis:
            yield redis
    finally:
        if server is not None:
            await asyncio.to_thread(server.stop)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Redis]:
    """A client of the Redis at `url`. Raises CommandError, also instead of any RedisError within."""
    try:
        redis = connect(url, client_name="penstock-cli", max_connections=4)
    except ValueError as error:
        raise CommandError(f"REDIS_URL cannot be used: {error}") from None
    try:
        yield redis
    except RedisError as error:
        reason = redact(str(error)) or type(error).__name__
        raise CommandError(f"Redis cannot be used: {reason}; look at it with `penstock doctor`") from None
    finally:
        await redis.aclose()


async def _check(url: str) -> None:
    async with connected(url) as redis:
        facts = await server_facts(redis)
    errors = [problem.message for problem in durability_problems(facts) if problem.severity == "error"]
    if errors:
        raise CommandError("\n".join(f"the Redis at REDIS_URL cannot be used: {error}" for error in errors))


async def _watch(server: EmbeddedValkey, ending: asyncio.Event, report: Callable[[str], None]) -> None:
    """Starts the server again should it be gone; starting one that runs only asks whether it answers."""
    told = ""
    while not ending.is_set():
        try:
            await asyncio.to_thread(server.start)
            told = ""
        except CommandError as error:
            if error.message != told:
                told = error.message
                report(told)
        with suppress(TimeoutError):
            async with asyncio.timeout(WATCH_EVERY_S):
                await ending.wait()
