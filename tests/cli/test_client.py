"""The client commands and `keys` against a whole service that runs: `penstock up` and a simulator."""

import io
import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.cli.conftest import ADMIN_KEY, As, Run
from tests.cli.running import RunningUp
from tests.cli.waiting import wait_until
from tests.simulator.process import SimulatorProcess


def running(mine: As, job: str) -> Callable[[], bool]:
    return lambda: bool(json.loads(mine("get", job, "--json").out)["status"] == "running")


def test_an_answer_that_was_waited_for_is_all_of_the_output(mine: As) -> None:
    done = mine("submit", "Say\thello", "--wait", "--max-tokens", "30")
    assert done.status == 0
    assert done.out.startswith("echo: Say\thello")
    job = done.err.split()[0]
    usage = json.loads(mine("get", job, "--json").out)["usage"]
    assert usage["completion_tokens"] <= 30


def test_a_prompt_comes_from_stdin(mine: As, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a prompt in a file\n"))
    assert mine("submit", "-", "--wait").out.startswith("echo: a prompt in a file")


def test_an_empty_prompt_is_not_sent(mine: As) -> None:
    done = mine("submit", " ")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("penstock: the prompt is empty")
    assert json.loads(mine("list", "--json").out)["data"] == []


def test_a_job_can_be_followed(mine: As) -> None:
    submitted = mine("submit", "[[slow:1]] a question")
    assert (submitted.status, submitted.err) == (0, "")
    job = submitted.out.strip()
    assert job.startswith("job_")
    got = mine("get", job, "--wait", "30")
    lines = got.out.splitlines()
    assert [line.split()[0] for line in lines[:6]] == [
        "job",
        "status",
        "model",
        "created",
        "finished",
        "attempts",
    ]
    assert lines[1].split() == ["status", "succeeded"]
    assert "echo: [[slow:1]] a question" in got.out
    assert json.loads(mine("get", job, "--json").out)["id"] == job
    header, row = mine("list").out.splitlines()
    assert header.split() == ["job", "status", "model", "created", "finished", "tokens"]
    assert row.split()[:3] == [job, "succeeded", "gpt-4o-mini"]
    assert mine("list", "--status", "failed").err == "no jobs\n"


def test_waiting_ends_in_time(mine: As) -> None:
    job = mine("submit", "[[hang]]").out.strip()
    got = mine("get", job, "--wait", "1")
    assert got.status == 0
    assert got.out.splitlines()[1].split()[1] in ("queued", "running")
    mine("cancel", job)


def test_a_job_is_cancelled(mine: As) -> None:
    job = mine("submit", "[[hang]]").out.strip()
    wait_until(running(mine, job))
    assert mine("cancel", job).out == f"{job} is cancelled\n"
    again = mine("cancel", job)
    assert again.status == 1
    assert again.err.endswith("(job_finished)\n")


def test_a_job_that_fails_is_an_error_of_the_command_that_waits(mine: As) -> None:
    done = mine("submit", "[[fail:400]]", "--wait")
    assert (done.status, done.out) == (1, "")
    told, error = done.err.splitlines()
    assert error.startswith(f"penstock: {told.split()[0]} failed: ")
    assert error.endswith("(provider_rejected)")
    as_json = mine("submit", "[[fail:400]]", "--wait", "--json")
    assert as_json.status == 1
    assert json.loads(as_json.out)["error"]["code"] == "provider_rejected"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("submit", "x", "--model", "gpt-17"), "unknown_model"),
        (("get", "job_01ARZ3NDEKTSV4RRFFQ69G5FAV"), "not_found"),
        (("get", "../limits"), "not_found"),
        (("cancel", "nonsense"), "not_found"),
        (("usage", "--by", "hour"), "invalid_request"),
        (("usage", "--start", "yesterday"), "invalid_request"),
        (("usage", "somebody.else"), "forbidden"),
    ],
)
def test_a_refusal_is_one_line_with_the_reason(here: Run, arguments: tuple[str, ...], code: str) -> None:
    key = here("keys", "create", "--user", "refused", "--tier", "pro").out.strip()
    done = here(*arguments, PENSTOCK_KEY=key)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("penstock: ")
    assert done.err.endswith(f"({code})\n")
    assert done.err.count("\n") == 1


def test_the_request_limit_is_told_with_the_time_to_wait(here: Run) -> None:
    key = here("keys", "create", "--user", "hasty", "--tier", "free").out.strip()
    answers = [here("submit", "x", PENSTOCK_KEY=key) for _ in range(4)]
    assert [answer.status for answer in answers] == [0, 0, 0, 1]
    assert "60 s" in answers[3].err
    assert answers[3].err.endswith("(rate_limited)\n")
    assert "blocked for" in here("limits", PENSTOCK_KEY=key).out


def test_without_a_key_and_with_a_wrong_one_it_says_what_to_do(here: Run) -> None:
    without = here("limits")
    assert (without.status, without.err.count("\n")) == (1, 1)
    assert without.err.endswith("set PENSTOCK_KEY to a key, which `penstock keys create` makes\n")
    wrong = here("limits", PENSTOCK_KEY="pk_wrong")
    assert wrong.err.endswith("the key in PENSTOCK_KEY is not valid here\n")


def test_an_address_where_nobody_listens_is_told(mine: As) -> None:
    done = mine("limits", PENSTOCK_URL="http://127.0.0.1:9")
    assert done.status == 1
    assert done.err.startswith(
        "penstock: no Penstock answers at http://127.0.0.1:9; start one with `penstock up`"
    )


def test_an_address_of_something_else_is_told(mine: As, simulator: SimulatorProcess) -> None:
    done = mine("limits", PENSTOCK_URL=simulator.url)
    assert done.err == f"penstock: {simulator.url} answered 404; is that a Penstock? See PENSTOCK_URL\n"


def test_a_web_page_is_no_answer(mine: As) -> None:
    page = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>"
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(page.encode())

        serving = pool.submit(serve)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        done = mine("limits", PENSTOCK_URL=url)
        serving.result()
    assert done.err == f"penstock: {url} answered something that is no Penstock answer; check PENSTOCK_URL\n"


def test_usage_is_what_the_jobs_report(mine: As, here: Run) -> None:
    for prompt in ("one", "two"):
        assert mine("submit", prompt, "--wait").status == 0
    jobs = json.loads(mine("list", "--json").out)["data"]
    spent = sum(job["usage"]["total_tokens"] for job in jobs)
    report = json.loads(mine("usage", "--json").out)
    assert (report["total"]["jobs"], report["total"]["total_tokens"]) == (2, spent)
    header, row, total, *rest = mine("usage").out.splitlines()
    assert header.split() == ["day", "model", "jobs", "tokens", "in", "tokens", "out", "total", "cost"]
    assert row.split()[1:3] == ["gpt-4o-mini", "2"]
    assert total.split()[:2] == ["total", "2"]
    assert rest == []
    everybody = here("usage", "usage_is_what_the_jobs_report", "--by", "user", PENSTOCK_KEY=ADMIN_KEY)
    assert everybody.out.splitlines()[1].split()[:2] == ["usage_is_what_the_jobs_report", "2"]


def test_limits_show_what_is_left(mine: As) -> None:
    job = mine("submit", "[[hang]]", "--max-tokens", "50").out.strip()
    wait_until(running(mine, job))
    view = json.loads(mine("limits", "--json").out)
    shown = {line[:14].strip(): line[14:].split() for line in mine("limits").out.splitlines()[2:]}
    held = view["tokens"]["reserved"]
    assert held > 50
    assert shown["submissions"][0] == "unlimited"
    assert shown["tokens today"][:3] == ["500,000", str(held), f"{500_000 - held:,}"]
    assert shown["running jobs"][:2] == ["unlimited", "1"]
    mine("cancel", job)


def test_keys_are_made_as_the_admin_api_makes_them(here: Run, service: tuple[Path, RunningUp]) -> None:
    made = json.loads(
        here("keys", "create", "--user", "u7", "--tier", "pro", "--expires", "1h", "--json").out
    )
    with httpx2.Client(
        base_url=service[1].url,
        headers={"authorization": f"Bearer {ADMIN_KEY}"},
        trust_env=False,
    ) as admin:
        answer = admin.post("/v1/admin/keys", json={"user": "u7", "expires_at": made["expires_at"]})
        listed = admin.get("/v1/admin/keys", params={"user": "u7"}).json()["data"]
    assert answer.status_code == 201
    by_api = answer.json()
    assert made.keys() == by_api.keys()
    own = {"id", "key", "created_at"}
    assert {name: made[name] for name in made.keys() - own} == {
        name: by_api[name] for name in by_api.keys() - own
    }
    by_command = json.loads(here("keys", "list", "--user", "u7", "--json").out)["data"]
    assert by_command == listed


def test_a_key_is_rotated_with_an_overlap_and_revoked_at_once(here: Run) -> None:
    old = here("keys", "create", "--user", "u8", "--tier", "pro").out.strip()
    new = here("keys", "rotate", old, "--overlap", "1h").out.strip()
    assert new != old
    assert [here("limits", PENSTOCK_KEY=key).status for key in (old, new)] == [0, 0]
    old_id = old.split("_")[1]
    assert here("keys", "revoke", old_id).err == f"{old_id} is revoked\n"
    assert [here("limits", PENSTOCK_KEY=key).status for key in (old, new)] == [1, 0]
    assert here("keys", "rotate", new, "--overlap", "0s").status == 0
    assert here("limits", PENSTOCK_KEY=new).status == 1


def test_a_mistyped_key_is_not_repeated(here: Run) -> None:
    key = here("keys", "create", "--user", "u9", "--tier", "pro").out.strip()
    done = here("keys", "revoke", key + "x")
    # What identifies it is left, and finds it.
    assert done.status == 0
    done = here("keys", "revoke", key + "x")
    assert done.status == 1
    assert key.split("_")[2] not in done.err


def test_the_tier_changes_only_when_it_is_given(here: Run) -> None:
    assert here("keys", "create", "--user", "u10").status == 2
    key = here("keys", "create", "--user", "u10", "--tier", "pro").out.strip()
    here("keys", "create", "--user", "u10")
    assert json.loads(here("limits", "--json", PENSTOCK_KEY=key).out)["tier"] == "pro"
    moved = here("keys", "create", "--user", "u10", "--tier", "free")
    assert "was on the tier pro and is on free now" in moved.err
    assert json.loads(here("limits", "--json", PENSTOCK_KEY=key).out)["tier"] == "free"


def key_ids(here: Run) -> list[str]:
    return [key["id"] for key in json.loads(here("keys", "list", "--json").out)["data"]]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--user", "u1", "--tier", "gold"), 'there is no tier "gold"; there are free, pro'),
        (("--user", "a new one", "--tier", "free"), 'a user cannot be called "a new one": letters'),
        (("--user", "nobody.yet"), '"nobody.yet" is a new user: say on which --tier (free, pro)'),
        (
            ("--user", "u1", "--tier", "free", "--scopes", "jobs,root"),
            'there is no scope "root"; there are jobs,',
        ),
        (("--user", "u1", "--tier", "free", "--scopes", ","), "a key needs a scope"),
        (
            ("--user", "u1", "--tier", "free", "--expires", "2001-01-01"),
            '--expires cannot be "2001-01-01": that is',
        ),
    ],
)
def test_a_key_that_cannot_be_made_is_told(here: Run, options: tuple[str, ...], complaint: str) -> None:
    before = key_ids(here)
    done = here("keys", "create", *options)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"penstock: {complaint}")
    assert key_ids(here) == before


def test_scopes_hold(here: Run) -> None:
    key = here("keys", "create", "--user", "u11", "--tier", "pro", "--scopes", "usage").out.strip()
    assert here("usage", PENSTOCK_KEY=key).status == 0
    assert here("submit", "x", PENSTOCK_KEY=key).err.endswith("(forbidden)\n")


def test_the_doctor_finds_nothing_wrong(here: Run) -> None:
    done = here("doctor", "--json")
    findings = json.loads(done.out)
    assert done.status == 0, findings
    assert {one["about"] for one in findings} == {
        "configuration", "secrets", "redis", "tokenizer", "provider simulator",
    }  # fmt: skip
    assert {one["level"] for one in findings} == {"ok", "note"}
