"""An arq worker as people write it, whose one job runs until it is killed: `python arq_recovery.py REDIS_URL`."""

import asyncio
import sys
from typing import Any, ClassVar

from arq.connections import RedisSettings
from arq.worker import run_worker


async def work(_ctx: dict[Any, Any]) -> None:
    """Longer than the measurement lasts."""
    await asyncio.sleep(60)


class WorkerSettings:
    """arq's own defaults, job_timeout among them."""

    functions: ClassVar[list[Any]] = [work]
    redis_settings = RedisSettings.from_dsn(sys.argv[1])


if __name__ == "__main__":
    run_worker(WorkerSettings)  # type: ignore[arg-type]  # arq's annotation has no plain class
