"""`penstock usage` and `limits`: what a user has spent, and what is left."""

import time
from typing import Annotated

import typer

from cli.client import Client, path_part
from cli.errors import CommandError
from cli.output import console, dollars, duration, limit, notices, number, print_json, table
from cli.wire import Limits, UsageReport, UsageRow, UserAccount
from jobs.environment import Environment

AsJson = Annotated[bool, typer.Option("--json", help="Print the API's answer, for scripts.")]
User = Annotated[
    str | None,
    typer.Argument(
        metavar="USER", help="Another user: PENSTOCK_KEY must be the admin key.", show_default="yourself"
    ),
]


def usage(
    user: User = None,
    start: Annotated[
        str | None, typer.Option(metavar="DAY", help="The first day, YYYY-MM-DD in UTC.")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="DAY", help="The last day, YYYY-MM-DD in UTC.")] = None,
    by: Annotated[
        str, typer.Option(help="Rows for each of these, with commas: day, model, user.")
    ] = "day,model",
    as_json: AsJson = False,
) -> None:
    """Show tokens, jobs and the estimated cost."""
    groups = by.split(",")
    asked = {"start": start, "end": end, "user": user, "group_by": by}
    with Client(Environment.load()) as client:
        answer = client.call(
            "GET", "/v1/usage", params={name: value for name, value in asked.items() if value is not None}
        )
    if as_json:
        print_json(answer.json)
        return
    report = answer.read_as(UsageReport)
    if not report.data:
        notices().print("nothing was used")
        return
    amounts = ("jobs", "tokens in", "tokens out", "total", "cost")
    rows = [_row([_group(row, group) for group in groups], row) for row in report.data]
    rows.append(_row(["total"] + [""] * (len(groups) - 1), report.total))
    console().print(table((*groups, *amounts), rows, numbers=amounts))
    notices().print("cost is an estimate in US dollars, from public prices", style="dim")


def limits(user: User = None, as_json: AsJson = False) -> None:
    """Show the limits, and what is left of each."""
    with Client(Environment.load()) as client:
        path = "/v1/limits" if user is None else f"/v1/admin/users/{path_part(user)}"
        answer = client.call("GET", path)
    if as_json:
        print_json(answer.json)
    elif user is None:
        _print_limits(answer.read_as(Limits))
    else:
        view = answer.read_as(UserAccount).limits
        if view is None:
            raise CommandError(
                f"the API does not tell {user}'s limits: its Penstock is older than this command"
            )
        _print_limits(view)


def _group(row: UsageRow, group: str) -> str:
    return {"day": row.day, "model": row.model, "user": row.user}[group] or "-"


def _row(groups: list[str], row: UsageRow) -> list[str]:
    amounts = (row.jobs, row.prompt_tokens, row.completion_tokens, row.total_tokens)
    return [*groups, *(number(amount) for amount in amounts), dollars(row.cost_usd)]


def _print_limits(view: Limits) -> None:
    now_s = time.time()
    requests, tokens = view.requests, view.tokens
    per_window = f"{limit(requests.limit)} in {requests.window_s} s" if requests.limit else "unlimited"
    if requests.blocked_until and requests.blocked_until > now_s:
        note = f"blocked for {duration(requests.blocked_until - now_s)}"
    else:
        note = ""
    reserved = f"{tokens.reserved:,} of it reserved by unfinished jobs, " if tokens.reserved else ""
    rows = [
        (
            "submissions",
            per_window,
            _used(requests.limit, requests.remaining),
            number(requests.remaining),
            note,
        ),
        (
            "tokens today",
            limit(tokens.limit),
            number(tokens.used + tokens.reserved),
            number(tokens.remaining),
            f"{reserved}renewed in {duration(tokens.resets_at - now_s)}",
        ),
        (
            "running jobs",
            limit(view.concurrent.limit),
            number(view.concurrent.running),
            _left(view.concurrent.limit, view.concurrent.running),
            "",
        ),
        (
            "waiting jobs",
            limit(view.queued.max_jobs),
            number(view.queued.jobs),
            _left(view.queued.max_jobs, view.queued.jobs),
            f"{view.queued.tokens:,} tokens" if view.queued.jobs else "",
        ),
    ]
    console().print(f"{view.user} is on the tier {view.tier}" if view.tier else view.user)
    console().print(table(("", "limit", "used", "left", ""), rows, numbers=("limit", "used", "left")))


def _used(most: int | None, left: int | None) -> str:
    return "-" if most is None or left is None else number(most - left)


def _left(most: int | None, used: int) -> str:
    return "-" if most is None else number(max(0, most - used))
