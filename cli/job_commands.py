"""`penstock submit`, `get`, `cancel` and `list`: a client of the HTTP API for the shell."""

import sys
import time
from typing import Annotated, Literal

import typer
from pydantic import JsonValue

from cli.client import LONGEST_WAIT_S, Answer, Client, path_part
from cli.errors import CommandError
from cli.output import (
    console,
    dollars,
    duration,
    moment,
    notices,
    number,
    print_json,
    print_text,
    printable,
    table,
)
from cli.wire import Job, JobList
from jobs.environment import Environment

DEFAULT_MODEL = "gpt-4o-mini"

AsJson = Annotated[bool, typer.Option("--json", help="Print the API's answer, for scripts.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, job_...", show_default=False)]


def submit(
    prompt: Annotated[
        str,
        typer.Argument(metavar="PROMPT", help="The user message; - reads it from stdin.", show_default=False),
    ],
    model: Annotated[str, typer.Option(help="A model or route that the service serves.")] = DEFAULT_MODEL,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, and print the answer.")] = False,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="The longest answer in tokens; counts in full until the job ends.",
            show_default="the model's",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Submit one prompt as a job, and print the job's id (with --wait: the answer)."""
    body: dict[str, JsonValue] = {"model": model, "messages": [{"role": "user", "content": _text(prompt)}]}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    with Client(Environment.load()) as client:
        answer = client.call("POST", "/v1/jobs", body={"body": body})
        job = answer.read_as(Job)
        if wait:
            if not as_json:
                notices().print(f"{job.id} is {_state(job)}", style="dim")
            answer = _wait(client, job, deadline_s=None)
            job = answer.read_as(Job)
    if as_json:
        print_json(answer.json)
    elif not wait:
        console().print(job.id)
    elif job.status == "succeeded":
        _print_answer(job)
    if wait and job.status != "succeeded":
        raise CommandError(_why(job))


def get(
    job: JobId,
    wait: Annotated[
        float, typer.Option(min=0, metavar="S", help="Wait up to S seconds for its end.", show_default=False)
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Show a job: its state, what it waits for, and its answer once it has one."""
    with Client(Environment.load()) as client:
        answer = client.call("GET", f"/v1/jobs/{path_part(job)}")
        if wait and not answer.read_as(Job).finished:
            answer = _wait(client, answer.read_as(Job), deadline_s=time.monotonic() + wait)
    if as_json:
        print_json(answer.json)
        return
    shown = answer.read_as(Job)
    _describe(shown)
    if shown.answer is not None:
        console().print()
        _print_answer(shown)


def cancel(job: JobId, as_json: AsJson = False) -> None:
    """Cancel a job that has not ended; a waiting one costs nothing, a running one what it has used."""
    with Client(Environment.load()) as client:
        answer = client.call("POST", f"/v1/jobs/{path_part(job)}/cancel")
    if as_json:
        print_json(answer.json)
    else:
        shown = answer.read_as(Job)
        console().print(f"{shown.id} is {_state(shown)}")


def list_jobs(
    status: Annotated[
        Literal["queued", "running", "succeeded", "failed", "cancelled", "expired"] | None,
        typer.Option(help="Only jobs in this state.", show_default="all"),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List your jobs, newest first."""
    params: dict[str, str | int] = {"limit": limit}
    if status is not None:
        params["status"] = status
    with Client(Environment.load()) as client:
        answer = client.call("GET", "/v1/jobs", params=params)
    if as_json:
        print_json(answer.json)
        return
    page = answer.read_as(JobList)
    rows = [
        (
            job.id,
            job.status,
            job.model,
            moment(job.created_at),
            moment(job.finished_at),
            number(job.usage.total_tokens if job.usage else None),
        )
        for job in page.data
    ]
    if not rows:
        notices().print("no jobs")
        return
    console().print(
        table(("job", "status", "model", "created", "finished", "tokens"), rows, numbers=("tokens",))
    )
    if page.has_more:
        notices().print(f"there are more: --limit shows up to 100 instead of {limit}", style="dim")


def _text(prompt: str) -> str:
    if prompt == "-":
        prompt = sys.stdin.read()
    if not prompt.strip():
        raise CommandError("the prompt is empty; give it as the argument, or - to read it from stdin")
    return prompt


def _wait(client: Client, job: Job, *, deadline_s: float | None) -> Answer:
    """Long polls until the job has ended or the deadline (of the monotonic clock) is there."""
    while True:
        wait_s = LONGEST_WAIT_S
        if deadline_s is not None:
            wait_s = min(wait_s, max(0, round(deadline_s - time.monotonic())))
        answer = client.call("GET", f"/v1/jobs/{path_part(job.id)}", params={"wait": wait_s}, wait_s=wait_s)
        out_of_time = deadline_s is not None and time.monotonic() >= deadline_s - 0.5
        if answer.read_as(Job).finished or out_of_time:
            return answer


def _state(job: Job) -> str:
    """The state in words, with what a waiting job waits for."""
    if job.status != "queued":
        return job.status
    parts = ["queued"]
    if job.blocked_on:
        parts.append(f"waiting for {job.blocked_on}")
    if job.position:
        parts.append(f"{job.position} before it")
    if job.estimated_start_at and job.estimated_start_at > time.time() + 1:
        parts.append(f"about {duration(job.estimated_start_at - time.time())} to go")
    return ", ".join(parts)


def _describe(job: Job) -> None:
    facts = [
        ("job", job.id),
        ("status", _state(job)),
        ("model", job.model),
        ("created", moment(job.created_at)),
        ("finished", moment(job.finished_at)),
        ("attempts", str(job.attempts)),
    ]
    if job.usage:
        tokens = f"{job.usage.prompt_tokens:,} in, {job.usage.completion_tokens:,} out"
        facts += [("tokens", tokens), ("cost", f"{dollars(job.cost_usd)} (estimated)")]
    else:
        facts.append(("estimate", f"{job.estimated_tokens:,} tokens"))
    if job.error:
        facts.append(("error", f"{job.error.message} ({job.error.code})"))
    for name, value in facts:
        console().print(f"{name:<9} {printable(value)}")


def _print_answer(job: Job) -> None:
    if job.answer is None:
        notices().print(f"the answer of {job.id} has no text; see it with --json")
    else:
        print_text(job.answer)


def _why(job: Job) -> str:
    reason = f": {job.error.message} ({job.error.code})" if job.error else ""
    return f"{job.id} {'was ' if job.status == 'cancelled' else ''}{job.status}{reason}"
