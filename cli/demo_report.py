"""What `penstock demo` shows when its jobs have ended: an answer, what was spent, what the provider saw, and whether
the two agree.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx2
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.text import Text

from cli.demo_jobs import DemoApi, DemoUser
from cli.errors import CommandError
from cli.output import dollars, limit, number, printable, table
from cli.wire import Limits, UsageReport


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class LogEntry(_Wire):
    """A request in the simulator's log."""

    user: str | None
    reported_tokens: int | None
    charged_tokens: int


class Log(_Wire):
    """The simulator's log."""

    entries: list[LogEntry]


class Stats(_Wire):
    """The simulator's totals."""

    requests: int
    status_429: int
    tokens_charged: int
    greatest_tokens_in_60s: int
    greatest_requests_in_60s: int


@dataclass(frozen=True, slots=True)
class Spending:
    """One user's account: by the usage report, by today's budget counter, and by the provider. In tokens.

    `today` is the part of `used` that belongs to the counter's day.
    """

    user: str
    used: int
    today: int
    counter: int
    reserved: int
    budget: int | None
    provider: int
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Check:
    """Something that has to be so, and whether it was."""

    holds: bool
    text: str


async def read_spending(api: DemoApi, user: DemoUser, log: Log) -> Spending:
    """Asks the API for one user's account, and the log for the provider's side of it."""
    now = datetime.now(UTC)
    days: dict[str, str | int] = {
        "start": f"{now - timedelta(days=1):%Y-%m-%d}",
        "end": f"{now:%Y-%m-%d}",
        "group_by": "day",
    }
    usage = UsageReport.model_validate_json(await api.ask("GET", "/v1/usage", user.key, params=days))
    limits = Limits.model_validate_json(await api.ask("GET", "/v1/limits", user.key))
    day = f"{datetime.fromtimestamp(limits.tokens.resets_at, UTC) - timedelta(days=1):%Y-%m-%d}"
    return Spending(
        user=user.name,
        used=usage.total.total_tokens,
        today=sum(row.total_tokens for row in usage.data if row.day == day),
        counter=limits.tokens.used,
        reserved=limits.tokens.reserved,
        budget=limits.tokens.limit,
        provider=sum(entry.reported_tokens or 0 for entry in log.entries if entry.user == user.name),
        cost_usd=usage.total.cost_usd,
    )


async def read_provider(simulator_url: str) -> tuple[Stats, Log]:
    """The simulator's totals and its log. Raises CommandError if it does not answer."""
    try:
        async with httpx2.AsyncClient(base_url=simulator_url, trust_env=False) as http:
            stats, log = await asyncio.gather(http.get("/_stats"), http.get("/_log"))
    except httpx2.HTTPError as error:
        raise CommandError(f"the simulator got lost ({type(error).__name__}); see its log") from None
    return Stats.model_validate_json(stats.content), Log.model_validate_json(log.content)


def check(
    users: Sequence[DemoUser], spendings: Sequence[Spending], stats: Stats, tpm: int, rpm: int
) -> list[Check]:
    """What must hold after a run, by the words that the report prints."""
    jobs = [job for user in users for job in user.jobs.values()]
    succeeded = sum(job.status == "succeeded" for job in jobs)
    charged = all(one.used == one.provider and one.today == one.counter for one in spendings)
    return [
        Check(succeeded == len(jobs), f"{succeeded} of {len(jobs)} jobs succeeded"),
        Check(charged, "each user was charged what the provider reported, token for token"),
        Check(not any(one.reserved for one in spendings), "nothing is held back any more"),
        Check(stats.status_429 == 0, f"the provider refused {stats.status_429 or 'no'} requests"),
        Check(
            stats.greatest_tokens_in_60s <= tpm and stats.greatest_requests_in_60s <= rpm,
            f"in its busiest 60 seconds it was sent {stats.greatest_tokens_in_60s:,} of {tpm:,} tokens "
            f"and {stats.greatest_requests_in_60s} of {rpm} requests",
        ),
    ]


def print_answer(out: Console, users: Sequence[DemoUser]) -> None:
    """Prints the first answer that came with text, below its question."""
    for user in reversed(users):
        for job in user.jobs.values():
            if job.answer:
                out.print(f"An answer, to {user.name}", style="bold")
                out.print(_indented(user.asked[job.id].question), style="dim")
                out.print(_indented(job.answer))
                out.print()
                return


def print_report(
    out: Console,
    users: Sequence[DemoUser],
    spendings: Sequence[Spending],
    stats: Stats,
    checks: Sequence[Check],
) -> None:
    """Prints what each user spent, what the provider saw, and the checks."""
    columns = ("user", "tier", "jobs", "tokens", "the provider says", "cost", "budget a day", "left")
    rows = [
        (
            user.name,
            user.tier,
            number(len(user.jobs)),
            number(one.used),
            number(one.provider),
            dollars(one.cost_usd),
            limit(one.budget),
            number(None if one.budget is None else max(0, one.budget - one.counter - one.reserved)),
        )
        for user, one in zip(users, spendings, strict=True)
    ]
    out.print("What they spent", style="bold")
    out.print(table(columns, rows, numbers=columns[2:]))
    out.print()
    out.print("What the provider saw", style="bold")
    out.print(
        f"{stats.requests:,} requests, {stats.tokens_charged:,} tokens charged (prompt and the most that the "
        "answer could take)"
    )
    for one in checks:
        mark = ("  yes  ", "green") if one.holds else ("  NO   ", "bold red")
        out.print(Text.assemble(mark, one.text))
    out.print()


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in printable(text).splitlines())
