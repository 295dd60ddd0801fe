"""`penstock demo`: the whole of it as a process, its reckoning by tables, and what makes it fail."""

import re
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from cli import demo as module
from cli.demo_jobs import DemoUser, Prompt, read_prompts
from cli.demo_progress import Progress
from cli.demo_report import Check, Spending, Stats, check
from cli.errors import CommandError
from cli.wire import Job, Usage
from tests.cli.conftest import Run
from tests.cli.running import running

TPM, RPM = 1000, 10


def prompt(text: str) -> Prompt:
    return Prompt(
        custom_id=text,
        body={"model": "gpt-4o-mini", "max_tokens": 20, "messages": [{"role": "user", "content": text}]},
    )


def test_it_runs_reckons_and_stays_up_until_ctrl_c(directory: Path, penstock: Run) -> None:
    with running(directory, "demo", "--port", "0") as demo:
        demo.says("^It stays up until Ctrl-C")
        report = demo.output
        # Not anywhere in it: a key may hold any two letters.
        assert not [line for line in report.splitlines() if line.strip().startswith("NO ")]
        assert report.count("  yes  ") == 5
        assert "  yes  40 of 40 jobs succeeded" in report
        assert re.search(r"^  echo: ", report, re.MULTILINE)
        spent = dict(re.findall(r"^demo-(free|pro)-\w+ +\w+ +20 +([\d,]+) ", report, re.MULTILINE))
        assert spent.keys() == {"free", "pro"}

        exported = demo.says(r"^  export (.*)$")[1]
        settings = dict(setting.split("=", 1) for setting in exported.split())
        assert penstock("submit", "One more", "--wait", **settings).out.startswith("echo: One more")
        curl = shlex.split(demo.says(r"^  (curl .*)$")[1])
        assert curl[2] == "$PENSTOCK_URL/v1/jobs"

        second = penstock("demo", "--exit")
        assert second.status == 1
        assert second.err.startswith("penstock: a demo is running in .penstock/demo already")
        demo.interrupt()
        assert demo.ends() == 0


def test_with_exit_it_ends_by_itself_and_a_job_that_fails_fails_it(
    penstock: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "read_prompts", lambda: [prompt("one"), prompt("[[fail:400]]")])
    done = penstock("demo", "--exit", "--workers", "1")
    assert done.status == 1
    assert "  NO   1 of 2 jobs succeeded" in done.out
    assert done.out.count("  yes  ") == 4
    assert "Go on with" not in done.out


def test_without_its_prompts_it_says_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"prompts\.jsonl: they come with a checkout"):
        read_prompts(tmp_path / "prompts.jsonl")


def test_the_prompts_that_come_with_the_project_make_two_halves_of_what_free_may_send() -> None:
    prompts = read_prompts()
    assert len(prompts) == 2 * 20
    assert len({one.custom_id for one in prompts}) == len(prompts)
    assert all(one.question != one.custom_id for one in prompts)


def job(status: str, tokens: int | None = None) -> Job:
    usage = None if tokens is None else Usage(prompt_tokens=tokens, completion_tokens=0, total_tokens=tokens)
    return Job(
        id=f"job_{status}_{tokens}",
        status=status,
        model="m",
        created_at=0,
        estimated_tokens=9,
        attempts=1,
        usage=usage,
    )


def user(*jobs: Job) -> DemoUser:
    return DemoUser("u1", "free", "k", [prompt("x")] * len(jobs), jobs={job.id: job for job in jobs})


def spending(**changes: int) -> Spending:
    amounts = {"used": 50, "today": 50, "counter": 50, "reserved": 0, "provider": 50} | changes
    return Spending("u1", budget=1000, cost_usd=0.1, **amounts)


def stats(**changes: int) -> Stats:
    figures = {
        "requests": 2, "status_429": 0, "tokens_charged": 80, "greatest_tokens_in_60s": TPM,
        "greatest_requests_in_60s": RPM,
    }  # fmt: skip
    return Stats(**(figures | changes))


def failed(checks: list[Check]) -> list[int]:
    return [place for place, one in enumerate(checks) if not one.holds]


GOOD = user(job("succeeded", 20), job("succeeded", 30))


def test_all_is_as_it_should_be() -> None:
    assert failed(check([GOOD], [spending()], stats(), TPM, RPM)) == []


@pytest.mark.parametrize("status", ["failed", "expired", "cancelled"])
def test_a_job_without_success_is_found(status: str) -> None:
    assert failed(check([user(job("succeeded", 50), job(status))], [spending()], stats(), TPM, RPM)) == [0]


@pytest.mark.parametrize(
    "changes", [{"provider": 51}, {"used": 49}, {"counter": 49}, {"counter": 51}, {"today": 40}]
)
def test_sums_that_differ_are_found(changes: dict[str, int]) -> None:
    assert failed(check([GOOD, GOOD], [spending(), spending(**changes)], stats(), TPM, RPM)) == [1]


def test_midnight_in_the_middle_of_a_run_is_no_difference() -> None:
    assert failed(check([GOOD], [spending(today=20, counter=20)], stats(), TPM, RPM)) == []


def test_tokens_still_held_are_found() -> None:
    assert failed(check([GOOD], [spending(reserved=1)], stats(), TPM, RPM)) == [2]


def test_a_refusal_by_the_provider_is_found() -> None:
    assert failed(check([GOOD], [spending()], stats(status_429=1), TPM, RPM)) == [3]


@pytest.mark.parametrize(
    "changes", [{"greatest_tokens_in_60s": TPM + 1}, {"greatest_requests_in_60s": RPM + 1}]
)
def test_a_minute_over_the_limit_is_found(changes: dict[str, int]) -> None:
    assert failed(check([GOOD], [spending()], stats(**changes), TPM, RPM)) == [4]


def test_progress_off_a_terminal_is_a_line_for_each_change_once_a_second(
    capsys: pytest.CaptureFixture[str],
) -> None:
    busy = user(job("succeeded", 20), job("running"))
    progress = Progress(Console(width=200, highlight=False), [busy])
    with progress.shown():
        progress.show()
        progress.show()
        busy.jobs[job("running").id] = job("succeeded", 30).model_copy(update={"id": job("running").id})
        progress.show()
    first, last = capsys.readouterr().out.splitlines()
    assert first.endswith("u1: 1 running, 1 succeeded, 20 tokens")
    assert last.endswith("u1: 2 succeeded, 50 tokens")


def test_progress_on_a_terminal_is_a_table_that_stays(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(Console(width=100, force_terminal=True, color_system=None), [GOOD])
    with progress.shown():
        progress.show()
    table = capsys.readouterr().out
    assert re.search(r"u1 +free +0 +0 +2 +0 +50", table)
