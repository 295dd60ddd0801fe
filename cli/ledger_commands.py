"""`penstock ledger verify`: whether the ledger's lines, the totals and the budget counters agree."""

import asyncio
import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import typer
from pydantic import JsonValue

from cli.errors import CommandError
from cli.output import console, notices, number, print_json, table
from cli.redis_access import opened_redis
from jobs.environment import Environment
from jobs.ledger import Ledger, Verification

DEFAULT_DAYS = 7
MOST_DAYS = 366
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

app = typer.Typer(name="ledger", help="Check the books of what was charged.", no_args_is_help=True)


@app.command()
def verify(
    start: Annotated[
        str | None,
        typer.Option(
            metavar="DAY", help=f"The first day, YYYY-MM-DD in UTC; {DEFAULT_DAYS - 1} before the last."
        ),
    ] = None,
    end: Annotated[
        str | None, typer.Option(metavar="DAY", help="The last day, YYYY-MM-DD in UTC; today.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for scripts.")] = False,
) -> None:
    """Recompute every user's tokens from the ledger's lines, and report where totals or counters differ.

    Ends with status 1 if anything differs. May be run while the service works.
    """
    last = _day(end, "--end") or datetime.now(UTC).date()
    first = _day(start, "--start") or last - timedelta(days=DEFAULT_DAYS - 1)
    if not 0 <= (last - first).days < MOST_DAYS:
        raise CommandError(f"--start must be at most {MOST_DAYS - 1} days before --end, and not after it")
    days = [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
    result = asyncio.run(_verify(Environment.load(), days))
    if as_json:
        print_json(_as_json(result))
    else:
        _print(result)
    if result.differences:
        raise typer.Exit(1)


async def _verify(environment: Environment, days: list[str]) -> Verification:
    async with opened_redis(environment) as redis:
        return await Ledger(redis).verify(days)


def _day(text: str | None, option: str) -> date | None:
    if text is None:
        return None
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise CommandError(f"{option} must be a day such as 2026-11-23, not {text!r}")


def _as_json(result: Verification) -> dict[str, JsonValue]:
    differences: list[JsonValue] = [
        {
            "day": one.day,
            "user": one.user,
            "books": one.books,
            "first_tokens": one.first_tokens,
            "second_tokens": one.second_tokens,
        }
        for one in result.differences
    ]
    return {
        "days": result.days,
        "users": result.users,
        "lines": result.lines,
        "differences": differences,
    }


def _print(result: Verification) -> None:
    for_what = f"{number(result.lines)} lines of {number(result.users)} users' days, over {result.days} days"
    if not result.differences:
        console().print(f"the books agree: {for_what}")
        return
    rows = [
        (one.day, one.user, one.books, number(one.first_tokens), number(one.second_tokens))
        for one in result.differences
    ]
    console().print(
        table(("day", "user", "books", "the first", "the second"), rows, numbers=("the first", "the second"))
    )
    notices().print(f"{len(rows)} differences in {for_what}")
