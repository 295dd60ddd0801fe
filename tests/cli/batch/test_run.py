"""How a batch is carried out: order, bounds, waiting, what it costs the service, and stops in between."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.batch.api import Api
from cli.batch.run import CALM_S, UnknownModelError
from cli.errors import CommandError
from tests.cli.batch.rig import Rig
from tests.cli.batch.service import FakeService, JumpingClock, problem


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, FakeService(JumpingClock()))


def prompts(count: int) -> list[str]:
    return [f"prompt {n}" for n in range(count)]


async def test_the_output_has_a_line_for_each_line_of_the_input_in_its_order(rig: Rig) -> None:
    rig.begin("one", "this will fail", "three")
    sums = await rig.run()
    assert (sums.succeeded, sums.failed, sums.tokens, sums.cost_usd) == (2, 1, 10, 1.0)
    first, failed, third = rig.lines
    assert first == {
        "id": min(rig.service.jobs),
        "custom_id": "line-1",
        "response": {"status_code": 200, "request_id": min(rig.service.jobs), "body": {"echo": "one"}},
        "error": None,
    }
    assert failed["response"] is None
    assert failed["error"] == {"code": "provider_failed", "message": "no"}
    assert third["custom_id"] == "line-3"


async def test_no_more_jobs_are_unfinished_than_was_asked_for(rig: Rig) -> None:
    rig.in_flight = 7
    rig.begin(*prompts(40))
    most = 0

    def refuse(body: dict[str, Any]) -> None:
        nonlocal most
        now_s, ends_s = rig.service.time.now_s, rig.service.ends_s
        most = max(most, sum(end_s > now_s for end_s in ends_s.values()) + 1)

    rig.service.refuse = refuse
    await rig.run()
    assert rig.echoes == prompts(40)
    assert most == 7


async def test_waiting_for_jobs_that_end_slowly_costs_about_a_request_for_each(rig: Rig) -> None:
    # 120 jobs of 3 s, one after the other: to ask for each one every second would be 21,780 requests.
    rig.service.one_by_one = True
    rig.in_flight = 120
    rig.begin(*prompts(120))
    await rig.run()
    assert rig.echoes == prompts(120)
    assert len(rig.service.submissions) == 120
    assert len(rig.service.asked) - 120 < 1.6 * 120


async def test_waiting_for_jobs_that_end_together_costs_less(rig: Rig) -> None:
    rig.in_flight = 220
    rig.begin(*prompts(220))
    await rig.run()
    assert rig.echoes == prompts(220)
    assert len(rig.service.asked) - 220 <= 20


async def test_a_job_that_hangs_hides_no_other_and_is_asked_for_less_and_less(rig: Rig) -> None:
    rig.begin("long", *prompts(30))
    asked_s: list[float] = []

    def step(what: str) -> None:
        rig.service.ends_s.update(dict.fromkeys(list(rig.service.jobs)[:1], 1000.0))
        asked_s.append(rig.service.time.now_s)

    rig.service.step = step
    sums = await rig.run()
    assert sums.succeeded == 31
    assert max(one["id"] for one in rig.lines) in rig.service.jobs
    # In pairs: before and after the answer. A held request and a page each time.
    assert len([at_s for at_s in asked_s if 100 < at_s < 1000]) / 2 <= 2 * (900 / CALM_S + 1)


async def test_the_request_limit_is_kept_rather_than_passed(rig: Rig) -> None:
    # Three in any 60 s, as the headers tell: a fourth would be refused and block the user.
    rig.service.requests_per_minute = 3
    rig.begin(*prompts(10))
    await rig.run()
    asked_s = rig.service.submissions
    assert len(asked_s) == 10
    assert all(later - first >= 60 for first, later in zip(asked_s, asked_s[3:], strict=False))
    assert rig.service.time.now_s < 190


@pytest.mark.parametrize(
    ("trouble", "waits_s"),
    [
        (problem(429, "rate_limited", retry_after="37"), 37),
        (problem(429, "budget_exhausted", retry_after="400"), 400),
        (problem(503, "unavailable", retry_after="5"), 5),
        (httpx2.Response(502, text="<html>"), 1),
    ],
    ids=["rate", "budget", "unavailable", "a proxy's"],
)
async def test_it_waits_as_long_as_it_is_told_and_says_why(
    rig: Rig, trouble: httpx2.Response, waits_s: float
) -> None:
    told: set[str] = set()
    rig.service.refuse = lambda body: trouble if rig.service.time.now_s < waits_s else None
    rig.begin("one", "two")

    def show(api: Api) -> None:
        left_s, why = api.waits
        if left_s:
            told.add(why)

    assert (await rig.run(show=show)).succeeded == 2
    assert [at_s for at_s in rig.service.submissions if 0 < at_s < waits_s] == []
    assert min(at_s for at_s in rig.service.submissions if at_s) == pytest.approx(waits_s, abs=0.01)
    assert len(told) == 1
    if trouble.status_code != 502:
        assert "it says (" in told.pop()


async def test_a_full_queue_is_asked_again_when_a_job_has_ended(rig: Rig) -> None:
    def refuse(body: dict[str, Any]) -> httpx2.Response | None:
        now_s = rig.service.time.now_s
        waiting = sum(end_s > now_s for end_s in rig.service.ends_s.values())
        return problem(429, "queue_full", retry_after="1") if waiting >= 4 else None

    rig.service.refuse, rig.service.takes_s = refuse, 100.0
    rig.begin(*prompts(12))
    assert (await rig.run()).succeeded == 12
    assert len(rig.service.submissions) < 12 + 8 * 20
    assert rig.service.time.now_s < 340


async def test_a_service_that_goes_away_and_comes_back_is_waited_for(rig: Rig) -> None:
    def step(what: str) -> None:
        if 1.0 <= rig.service.time.now_s < 90.0:
            raise httpx2.ConnectError("nobody there")

    rig.service.step = step
    rig.in_flight = 2
    rig.begin(*prompts(6))
    await rig.run()
    assert rig.echoes == prompts(6)
    assert len(rig.service.jobs) == 6


async def test_a_lost_answer_makes_no_second_job(rig: Rig) -> None:
    lost: list[str] = []

    def step(what: str) -> None:
        if what == "after POST" and len(lost) < 3:
            lost.append(what)
            raise httpx2.ReadError("the answer was lost")

    rig.service.step = step
    rig.begin(*prompts(5))
    await rig.run()
    assert (rig.echoes, len(rig.service.jobs)) == (prompts(5), 5)


async def test_a_line_that_is_refused_is_a_line_with_the_refusal(rig: Rig) -> None:
    rig.service.refuse = lambda body: (
        problem(422, "job_too_large", x_request_id="req_1") if body["custom_id"] == "line-2" else None
    )
    rig.begin(*prompts(3))
    sums = await rig.run()
    assert (sums.succeeded, sums.failed) == (2, 1)
    refused = rig.lines[1]
    assert refused["id"] == "line_2"
    assert refused["response"]["status_code"] == 422
    assert refused["response"]["request_id"] == "req_1"
    assert refused["error"] == {"code": "job_too_large", "message": "job_too_large, it says."}


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(422, "unknown_model"), UnknownModelError),
        (problem(401, "invalid_key"), CommandError),
        (problem(404, "not_found"), CommandError),
        (httpx2.Response(400, text="<html>"), CommandError),
    ],
)
async def test_what_would_meet_every_line_ends_the_run(
    rig: Rig, answer: httpx2.Response, kind: type[CommandError]
) -> None:
    rig.service.refuse = lambda body: answer
    rig.begin(*prompts(30))
    with pytest.raises(kind):
        await rig.run()
    assert len(rig.service.asked) <= 8
    assert rig.target.read_bytes() == b""


async def test_failed_lines_are_tried_again_as_new_jobs_and_take_the_place_of_the_old(rig: Rig) -> None:
    rig.begin("one", "fails at first", "three", "fails always")
    await rig.run()
    before = rig.lines
    rig.service.failing = False
    rig.service.refuse = lambda body: problem(422, "job_too_large") if body["custom_id"] == "line-4" else None
    assert rig.retry() == 2
    sums = await rig.run()
    assert (sums.succeeded, sums.failed, sums.lines) == (3, 1, 4)
    after = rig.lines
    assert [after[0], after[2]] == [before[0], before[2]]
    assert after[1]["response"]["body"] == {"echo": "fails at first"}
    assert after[1]["id"] != before[1]["id"]
    assert after[3]["error"]["code"] == "job_too_large"
    assert len(rig.service.jobs) == 5
    assert not (rig.folder / "out.jsonl.new").exists()


async def test_a_stop_loses_nothing_and_the_next_start_goes_on(rig: Rig) -> None:
    rig.in_flight = 4
    rig.service.one_by_one = True
    rig.begin(*prompts(20))
    sums = await rig.run(until=lambda: rig.service.time.now_s > 20)
    assert 0 < sums.ended < 20
    assert rig.echoes == prompts(len(rig.lines))
    submitted = len(rig.service.submissions)
    assert (await rig.run()).succeeded == 20
    assert rig.echoes == prompts(20)
    assert len(rig.service.jobs) == 20
    # What was stopped between a submission and its answer is asked again; nothing else is.
    assert len(rig.service.submissions) - submitted <= 20 - submitted + 8


async def test_a_job_whose_record_is_gone_is_told_and_not_submitted_again(rig: Rig) -> None:
    rig.begin("one", "two")
    await rig.run(until=lambda: len(rig.service.jobs) == 2 and rig.service.time.now_s > 1)
    forgotten = min(rig.service.jobs)
    del rig.service.jobs[forgotten]
    sums = await rig.run()
    assert (sums.succeeded, sums.failed) == (1, 1)
    assert rig.lines[0]["error"]["code"] == "result_gone"
    assert rig.lines[0]["id"] == forgotten
    assert len(rig.service.submissions) == 2
    assert rig.retry() == 1
    assert (await rig.run()).succeeded == 2
    assert rig.echoes == ["one", "two"]
