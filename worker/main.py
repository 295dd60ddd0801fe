"""A worker process: assembled, run until a signal has drained it, taken apart."""

import asyncio
import gc
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
        # What was made until now stays: looking through all of it for garbage would hold up calls for tens of ms.
        gc.collect()
        gc.freeze()
        with suppress(asyncio.CancelledError):
            await worker.async_run()
