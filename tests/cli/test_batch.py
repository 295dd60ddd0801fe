"""`penstock batch` against a whole service that runs."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from cli.batch.journal import Journal
from tests.cli.conftest import As
from tests.cli.running import RunningCommand, RunningUp
from tests.cli.waiting import PATIENCE_S, wait_until


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "in.jsonl"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def write(source: Path, *lines: object) -> None:
    source.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines))


def read(target: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in target.read_text().splitlines()]


def text_of(line: dict[str, Any]) -> str:
    return str(line["response"]["body"]["choices"][0]["message"]["content"])


def jobs_of(mine: As) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(mine("list", "--limit", "100", "--json").out)["data"]
    return listed


def test_a_file_of_all_kinds_of_lines_is_answered_and_can_be_retried(
    mine: As, source: Path, target: Path
) -> None:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "four"}], "max_tokens": 30}
    write(
        source,
        '"one"',
        {"prompt": "[[fail:400]]", "custom_id": "second"},
        "",
        {"messages": [{"role": "user", "content": "three"}]},
        {"custom_id": "last", "method": "POST", "url": "/v1/chat/completions", "body": body},
    )
    done = mine("batch", str(source), "-o", str(target), "--json", "--max-tokens", "40")
    assert done.status == 1
    assert done.err.splitlines()[-1] == f"penstock: 1 line without an answer; {target} says why"
    summary = json.loads(done.out)
    assert (summary["lines"], summary["succeeded"], summary["failed"]) == (4, 3, 1)
    lines = read(target)
    assert [line["custom_id"] for line in lines] == ["line-1", "second", "line-4", "last"]
    assert text_of(lines[0]).startswith("echo: one")
    assert lines[1]["error"]["code"] == "provider_rejected"
    jobs = {job["id"]: job for job in jobs_of(mine)}
    assert {job["priority"] for job in jobs.values()} == {"batch"}
    assert summary["total_tokens"] == sum(
        job["usage"]["total_tokens"] for job in jobs.values() if job["usage"]
    )
    assert lines[3]["response"]["body"] == jobs[lines[3]["id"]]["result"]

    again = mine("batch", str(source), "-o", str(target), "--max-tokens", "40")
    assert (again.status, len(jobs_of(mine)), read(target)) == (1, 4, lines)
    assert again.out.startswith("4 lines: 3 succeeded, 1 failed; ")
    retried = mine("batch", str(source), "-o", str(target), "--max-tokens", "40", "--retry-failed")
    assert (retried.status, len(jobs_of(mine))) == (1, 5)
    assert read(target)[1]["id"] not in (lines[1]["id"], None)
    # Without its state it is another run of the same lines: the same jobs.
    other = target.with_name("other.jsonl")
    assert mine("batch", str(source), "-o", str(other), "--max-tokens", "40").status == 1
    assert (read(other), len(jobs_of(mine))) == (lines, 5)
    assert mine("batch", str(source), "-o", f"{other}2", "--max-tokens", "40", "--run", "2").status == 1
    assert len(jobs_of(mine)) == 9


def test_a_batch_that_is_killed_and_started_again_submits_nothing_twice(
    mine: As, source: Path, target: Path, service: tuple[Path, RunningUp], tmp_path: Path
) -> None:
    write(source, *(json.dumps(f"[[slow:1]] prompt {n}") for n in range(40)))
    key = json.loads(mine("keys", "create", "--user", "killed", "--tier", "pro", "--json").out)["key"]
    settings = {"PENSTOCK_URL": service[1].url, "PENSTOCK_KEY": key}
    command = RunningCommand(
        tmp_path, "batch", str(source), "-o", str(target), "--in-flight", "6", **settings
    )
    wait_until(lambda: target.exists() and target.stat().st_size > 0)
    os.kill(command.process.pid, signal.SIGKILL)
    command.process.wait(PATIENCE_S)
    before = target.read_bytes()
    assert before.count(b"\n") < 40
    stopped = RunningCommand(
        tmp_path, "batch", str(source), "-o", str(target), "--in-flight", "6", **settings
    )
    wait_until(lambda: target.stat().st_size > len(before))
    stopped.interrupt()
    assert stopped.ends() == 130
    assert "the same command goes on from here" in stopped.output
    done = mine("batch", str(source), "-o", str(target), PENSTOCK_KEY=key)
    assert done.status == 0, done.err
    assert done.out.startswith("40 lines: 40 succeeded; ")
    assert [text_of(line).split(" prompt ")[1].split()[0] for line in read(target)] == [*map(str, range(40))]
    listed = json.loads(mine("list", "--limit", "100", "--json", PENSTOCK_KEY=key).out)["data"]
    assert len(listed) == 40
    assert {line["id"] for line in read(target)} == {job["id"] for job in listed}


def test_lines_that_cannot_be_read_are_told_before_anything_is_submitted(
    mine: As, source: Path, target: Path
) -> None:
    write(source, '"one"', "Say hello", {"prompt": "x"}, {"promt": "y", "custom_id": "typo"})
    done = mine("batch", str(source), "-o", str(target))
    assert (done.status, jobs_of(mine)) == (2, [])
    assert done.err.startswith(f"penstock: {source}:2 is not JSON: ")
    assert f"penstock: {source}:4 must have one of" in done.err
    assert [path.name for path in target.parent.glob("out*")] == []
    skipped = mine("batch", str(source), "-o", str(target), "--skip-bad")
    assert skipped.status == 1
    lines = read(target)
    assert [line["custom_id"] for line in lines] == ["line-1", "line-2", "line-3", "typo"]
    assert [line["error"] and line["error"]["code"] for line in lines] == [
        None, "invalid_line", None, "invalid_line",
    ]  # fmt: skip
    assert lines[3]["error"]["message"].startswith("line 4 must have one of")
    assert len(jobs_of(mine)) == 2


def test_a_custom_id_that_comes_twice_is_refused_with_both_lines(
    mine: As, source: Path, target: Path
) -> None:
    write(source, {"prompt": "x", "custom_id": "a"}, '"y"', {"prompt": "z", "custom_id": "a"})
    for options in ((), ("--skip-bad",)):
        done = mine("batch", str(source), "-o", str(target), *options)
        assert done.status == 2
        assert f'penstock: {source}:3 has the custom_id "a" of line 1\n' in done.err
    assert jobs_of(mine) == []


def test_a_batch_goes_on_only_as_it_was_begun(mine: As, source: Path, target: Path) -> None:
    write(source, '"one"')
    assert mine("batch", str(source), "-o", str(target)).status == 0

    def complaint(*options: str, **environment: str) -> str:
        done = mine("batch", str(source), "-o", str(target), *options, **environment)
        assert done.status == 2
        return done.err

    assert "was begun with --priority batch: call it as before" in complaint("--priority", "standard")
    assert "was begun with --model gpt-4o-mini" in complaint("--model", "other")
    key = mine("keys", "create", "--user", "somebody.else", "--tier", "pro").out.strip()
    assert "PENSTOCK_KEY is a key of somebody.else" in complaint(PENSTOCK_KEY=key)
    journal = Journal.open(target.with_name("out.jsonl.state"))
    assert (
        "another penstock batch is at work on this output"
        in mine("batch", str(source), "-o", str(target)).err
    )
    journal.close()
    source.write_text('"two"\n')
    assert "with another input, or" in complaint()
    target.with_name("out.jsonl.state").unlink()
    assert "is there already" in complaint()
    assert len(read(target)) == 1


def test_a_model_that_is_not_served_leaves_nothing_behind(mine: As, source: Path, target: Path) -> None:
    write(source, '"one"', '"two"')
    done = mine("batch", str(source), "-o", str(target), "--model", "gpt-17")
    assert done.status == 1
    assert done.err.splitlines()[-1].endswith("Choose another with --model")
    assert mine("batch", str(source), "-o", str(target)).status == 0


def test_files_that_cannot_be_used_are_told_and_left_alone(mine: As, source: Path, target: Path) -> None:
    write(source, '"one"')
    for file in (target, target.with_name("out.jsonl.state")):
        file.write_text("something else\n" * 100)
        done = mine("batch", str(source), "-o", str(target))
        assert done.status != 0
        assert done.err.startswith(f"penstock: {file} is ")
        assert file.read_text().startswith("something else")
    missing = mine("batch", "nowhere.jsonl", "-o", str(target))
    assert (missing.status, missing.err) == (2, "penstock: there is no file nowhere.jsonl\n")
    same = mine("batch", str(source), "-o", str(source))
    assert same.err == "penstock: the output would overwrite the input; choose another file with -o\n"
