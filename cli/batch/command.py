"""The command `penstock batch`: options, the first look at the input, and what is said at the end."""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated, Literal

import httpx2
import typer

from cli.batch.api import Api, Clock
from cli.batch.journal import DuplicateIdError, Journal, Sums
from cli.batch.lines import Defaults, LineError, digest_of, own_id, raw_lines, read_request
from cli.batch.output import Output, bad_line
from cli.batch.progress import Display
from cli.batch.run import Options, Run, UnknownModelError
from cli.client import Client, http_options
from cli.errors import CommandError
from cli.job_commands import DEFAULT_MODEL
from cli.output import console, dollars, duration, notices, print_json, printable
from cli.service import StopRequest
from cli.wire import Limits
from jobs.environment import Environment

MOST_COMPLAINTS = 20
_UNTOLD = "the model's"


def batch(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A file with one prompt, chat body or OpenAI batch line a line.",
            show_default=False,
        ),
    ],
    target: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUTPUT",
            help="Where the answers go, one a line.",
            dir_okay=False,
            show_default=False,
        ),
    ],
    model: Annotated[str, typer.Option(help="The model of lines that name none.")] = DEFAULT_MODEL,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="The longest answer in tokens, for lines that do not say.", show_default=_UNTOLD
        ),
    ] = None,
    priority: Annotated[
        Literal["interactive", "standard", "batch"], typer.Option(help="Among your own jobs.")
    ] = "batch",
    on_budget: Annotated[
        Literal["wait", "reject"],
        typer.Option(help="When today's tokens are used up: jobs wait in the queue, or lines wait here."),
    ] = "wait",
    in_flight: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="Unfinished jobs at the service at most.")
    ] = 500,
    run: Annotated[
        str,
        typer.Option(metavar="NAME", help="Another name submits the same lines anew.", show_default=False),
    ] = "",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out lines that cannot be read, instead of refusing all.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Submit lines that have failed once more.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, for scripts.")] = False,
) -> None:
    """Submit a file line by line, and write the answers to another. Started again, it goes on where it was."""
    environment = Environment.load()
    if not source.is_file():
        raise CommandError(f"there is no file {source}", exit_code=2)
    with Client(environment) as client:
        limits = client.call("GET", "/v1/limits").read_as(Limits)
    in_flight = min(in_flight, limits.queued.max_jobs or in_flight)
    options = Options(Defaults(model, max_tokens), priority, on_budget, in_flight, run)
    told = {
        "--model": model,
        "--max-tokens": str(max_tokens or _UNTOLD),
        "--priority": priority,
        "--on-budget": on_budget,
        "--run": run or "none",
        "user": limits.user,
    }
    began_s = time.monotonic()
    with closing(_opened(source, target, options, told, skip_bad=skip_bad)) as journal:
        if retry_failed:
            notices().print(f"{_lines(journal.again())} tried again")
            journal.commit()
        try:
            sums, left = asyncio.run(_carry_out(environment, source, target, journal, options))
        except UnknownModelError:
            if journal.sums().ended == journal.sums().bad and not journal.jobs():
                _forget(journal, target)
            raise
        except (OSError, sqlite3.Error) as error:
            raise CommandError(f"{target} or {journal.path} cannot be written: {error}") from None
    _summary(sums, source, target, time.monotonic() - began_s, as_json=as_json)
    if sums.ended < sums.lines:
        notices().print(
            f"stopped; {left:,} jobs go on at the service, and the same command goes on from here"
        )
        raise typer.Exit(130)
    if sums.failed or sums.bad:
        raise CommandError(f"{_lines(sums.failed + sums.bad)} without an answer; {target} says why")


def _opened(source: Path, target: Path, options: Options, told: dict[str, str], *, skip_bad: bool) -> Journal:
    """The journal of this batch, begun or found. Raises CommandError."""
    if target.exists() and target.samefile(source):
        raise CommandError("the output would overwrite the input; choose another file with -o", exit_code=2)
    path = target.with_name(f"{target.name}.state")
    if not path.exists() and target.exists() and target.stat().st_size:
        raise CommandError(
            f"{target} is there already, and {path.name}, which would tell what is in it, is not; "
            "choose another file with -o",
            exit_code=2,
        )
    if not target.parent.is_dir():
        raise CommandError(f"there is no directory {target.parent}", exit_code=2)
    journal = Journal.open(path)
    try:
        facts = journal.facts()
        if facts:
            _check_is_same(facts, {"input": digest_of(source), **told}, source, target)
        else:
            _begin(source, journal, options.defaults, told, skip_bad=skip_bad)
    except BaseException:
        if journal.facts():
            journal.close()
        else:
            _forget(journal, target)
        raise
    return journal


def _forget(journal: Journal, target: Path) -> None:
    """As if the batch had never been begun."""
    journal.close()
    journal.path.unlink(missing_ok=True)
    if target.exists() and not target.stat().st_size:
        target.unlink()


def _check_is_same(facts: dict[str, str], given: dict[str, str], source: Path, target: Path) -> None:
    for name, value in given.items():
        before = facts.get(name)
        if before == value:
            continue
        if name == "input":
            what = f"with another input, or {source} has changed since"
        elif name == "user":
            what = f"by the user {before}, and PENSTOCK_KEY is a key of {value}"
        else:
            what = f"with {name} {before}"
        raise CommandError(
            f"{target} was begun {what}: call it as before, or choose another file with -o", exit_code=2
        )


def _begin(
    source: Path, journal: Journal, defaults: Defaults, told: dict[str, str], *, skip_bad: bool
) -> None:
    """Reads the whole input once. Raises CommandError with all that is wrong; nothing has been submitted then."""
    complaints: list[str] = []
    wrong = bad = lines = 0
    with source.open("rb") as file:
        for line in raw_lines(file):
            lines += 1
            why, custom_id = "", own_id(line.number)
            try:
                custom_id = read_request(line, defaults).custom_id
            except LineError as error:
                why, custom_id = str(error), error.custom_id or custom_id
            is_wrong = bool(why) and not skip_bad
            bad += bool(why)
            try:
                told_of_it = bad_line(line.number, custom_id, why) if why else None
                journal.add(line.number, line.at, custom_id, bad=told_of_it)
            except DuplicateIdError as error:
                is_wrong, why = True, f'has the custom_id "{custom_id}" of line {error.first}'
            wrong += is_wrong
            if why and len(complaints) < MOST_COMPLAINTS:
                complaints.append(f"{source}:{line.number} {printable(why)}")
    if wrong:
        more = f"\n... and {wrong - len(complaints):,} more" if wrong > len(complaints) else ""
        raise CommandError(
            "\n".join(complaints)
            + f"{more}\nnothing was submitted: correct this, or give --skip-bad for lines "
            "that cannot be read (two lines of one custom_id can never be)",
            exit_code=2,
        )
    if not lines:
        raise CommandError(f"{source} has no lines", exit_code=2)
    for complaint in complaints:
        notices().print(f"left out: {complaint}")
    journal.set_facts(input=digest_of(source), **told)
    journal.commit()


async def _carry_out(
    environment: Environment, source: Path, target: Path, journal: Journal, options: Options
) -> tuple[Sums, int]:
    """What has become of the lines, and how many jobs are under way, when all have ended or somebody stopped it."""
    stop, clock = StopRequest(), Clock()
    stop.listen()
    async with httpx2.AsyncClient(**http_options(environment)) as http:
        api = Api(http, clock)
        with closing(Output(target, journal)) as output, source.open("rb") as file:
            run = Run(file, journal, output, api, options, clock=clock)
            display = Display(notices(), source.name, run.sums, lambda: api.waits)
            with display.shown():
                work = asyncio.create_task(run.carry_out(display.show))
                asked = asyncio.create_task(stop.asked.wait())
                await asyncio.wait((work, asked), return_when=asyncio.FIRST_COMPLETED)
                asked.cancel()
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                if not work.cancelled():
                    work.result()
            return run.sums, run.unfinished_jobs


def _lines(number: int) -> str:
    return f"{number:,} line{'' if number == 1 else 's'}"


def _summary(sums: Sums, source: Path, target: Path, elapsed_s: float, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "input": str(source),
                "output": str(target),
                "lines": sums.lines,
                "succeeded": sums.succeeded,
                "failed": sums.failed,
                "bad": sums.bad,
                "unfinished": sums.lines - sums.ended,
                "total_tokens": sums.tokens,
                "cost_usd": round(sums.cost_usd, 9),
                "elapsed_s": round(elapsed_s, 1),
            }
        )
        return
    parts = [f"{sums.succeeded:,} succeeded"]
    parts += [f"{sums.failed:,} failed"] if sums.failed else []
    parts += [f"{sums.bad:,} could not be read"] if sums.bad else []
    unfinished = sums.lines - sums.ended
    parts += [f"{unfinished:,} unfinished"] if unfinished else []
    console().print(
        f"{_lines(sums.lines)}: {', '.join(parts)}; {sums.tokens:,} tokens, {dollars(sums.cost_usd)} (estimated), "
        f"in {duration(elapsed_s)}"
    )
