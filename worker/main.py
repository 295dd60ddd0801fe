"""A worker process: assembled, run until a signal has drained it, taken apart."""

import asyncio
from contextlib import suppress

import uvloop

from jobs.config import Config
from jobs.config.load import load
from jobs.environment import Environment
from worker.process import assembled


def run(environment: Environment) -> None:
    """Run one worker until SIGTERM or SIGINT has drained it; a second one ends the drain at once.

    Raises ConfigError for a wrong configuration, and ValueError for a Redis URL that cannot be used.
    """
    config = load(environment.config_path)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(environment, config))


async def _run(environment: Environment, config: Config) -> None:
    async with assembled(environment, config) as worker:
        with suppress(asyncio.CancelledError):
            await worker.async_run()
