"""`penstock scale`: how many workers are worth running now, and why."""

from typing import Annotated

import typer

from cli.client import Client
from cli.output import console, duration, limit, notices, number, print_json, table
from cli.wire import PoolScaling, Scaling
from jobs.environment import Environment


def scale(
    as_json: Annotated[bool, typer.Option("--json", help="Print the API's answer, for scripts.")] = False,
) -> None:
    """Show how many workers are worth running now. Takes a key with the scope `metrics`."""
    with Client(Environment.load()) as client:
        answer = client.call("GET", "/v1/scaling")
    if as_json:
        print_json(answer.json)
        return
    scaling = answer.read_as(Scaling)
    workers = scaling.workers
    rows = [
        ("recommended", number(workers.recommended)),
        ("useful at most", "not known" if workers.useful_max is None else number(workers.useful_max)),
        ("running now", number(workers.current)),
    ]
    console().print(table(("workers", ""), rows, numbers=("",)))
    columns = ("pool", "tokens/min", "in use", "waiting jobs", "their tokens", "drained in")
    console().print(table(columns, [_row(pool) for pool in scaling.pools], numbers=columns[1:]))
    notices().print(scaling.reason, style="dim")


def _row(pool: PoolScaling) -> tuple[str, ...]:
    return (
        f"{pool.provider}/{pool.model}",
        limit(pool.tokens_per_minute.limit),
        number(pool.tokens_per_minute.used),
        number(pool.queued_jobs),
        number(pool.queued_tokens),
        "-" if pool.drain_seconds is None else duration(pool.drain_seconds),
    )
