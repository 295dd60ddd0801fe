"""`penstock doctor`: what is wrong with an installation and what to change; and how to go on after a loss of data."""

import asyncio
from typing import Annotated

import typer
from rich.text import Text

from cli.checks import Level, examine
from cli.output import console, notices, print_json, table
from cli.redis_access import opened_redis
from jobs.environment import Environment
from jobs.store import JobStore

_STYLES: dict[Level, str] = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}


def doctor(
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss",
            help="Redis came back without its data: go on with what there is. Jobs and spending that it held are lost.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, for scripts.")] = False,
) -> None:
    """Check the configuration, the secrets, Redis, the tokenizer and the providers. Fails on any error."""
    environment = Environment.load()
    if accept_loss:
        asyncio.run(_accept_loss(environment))
        notices().print("penstock: every process goes on with the data there is, within a second or so")
        return
    findings = asyncio.run(examine(environment))
    if as_json:
        print_json([{"about": one.about, "level": one.level, "text": one.text} for one in findings])
    else:
        rows = [(Text(one.level, style=_STYLES[one.level]), one.about, one.text) for one in findings]
        console().print(table(("", "", ""), rows))
    if any(one.level == "error" for one in findings):
        raise typer.Exit(1)


async def _accept_loss(environment: Environment) -> None:
    async with opened_redis(environment) as redis:
        await JobStore(redis).accept_loss()
