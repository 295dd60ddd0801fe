"""Fault markers, rates and schedules: what is picked for which attempt, and errors that name the place."""

from pathlib import Path

import pytest

from simulator.errors import FaultsError
from simulator.faults import Fault, FaultInjector, FaultsConfig, parse_fault, parse_faults, read_faults


def injector(text: str = "", seed: int = 0) -> FaultInjector:
    return FaultInjector(parse_faults(text, "faults.yaml"), seed=seed, now_s=1000)


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("hang", Fault("hang")),
        ("fail:503", Fault("fail", "503")),
        ("fail:quota", Fault("fail", "quota")),
        ("fail:500x2", Fault("fail", "500", 2)),
        ("resetx1", Fault("reset", "", 1)),
        ("gzip-bomb", Fault("gzip-bomb")),
        ("slow:0.5", Fault("slow", "0.5")),
        ("usage:-5", Fault("usage", "-5")),
        ("usage:nan", Fault("usage", "nan")),
        ("retry-after:", Fault("retry-after")),
        ("retry-after:-1x3", Fault("retry-after", "-1", 3)),
        ("retry-after:Wed, 21 Oct 2026 07:28:00 GMT", Fault("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")),
    ],
)
def test_a_fault_is_read_from_its_name_value_and_number_of_attempts(spec: str, fault: Fault) -> None:
    assert parse_fault(spec) == fault


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("fail", "must be a status from 400 to 599"),
        ("fail:200", "must be a status from 400 to 599"),
        ("fail:5000000000", "must be a status from 400 to 599"),
        ("slow:soon", "must be a number of seconds"),
        ("slow:nan", "must be a number of seconds"),
        ("slow:-1", "must be a number of seconds"),
        ("usage", "needs a value"),
        ("hang:5", "takes no value"),
        ("retry-after:1\r\nx: y", "must be printable"),
        ("explode", "'explode' is no fault; there are cut, drip"),
        ("Fail 500", "is no fault; write one like"),
    ],
)
def test_a_wrong_fault_is_told_apart_with_its_reason(spec: str, complaint: str) -> None:
    with pytest.raises(FaultsError, match=complaint):
        parse_fault(spec)


def test_a_marker_is_found_anywhere_in_the_prompt() -> None:
    plan = injector().pick("Tell me\nabout [[fail:503]] pipes", 1000)
    assert plan.ending == Fault("fail", "503")
    assert plan.label == "fail:503"


def test_brackets_that_name_no_fault_are_left_alone() -> None:
    assert injector().pick("See [[Penstock]] and [[main page]] and [[", 1000).ending is None


def test_a_marker_with_an_impossible_value_is_an_error() -> None:
    with pytest.raises(FaultsError, match="fail: must be a status"):
        injector().pick("[[fail:teapot]]", 1000)


def test_a_counted_marker_acts_on_the_first_attempts_of_that_prompt_only() -> None:
    faults = injector()
    assert [faults.pick("a [[fail:500x2]]", 1000).label for _ in range(4)] == [
        "fail:500",
        "fail:500",
        None,
        None,
    ]
    assert faults.pick("b [[fail:500x2]]", 1000).label == "fail:500"


def test_counted_markers_follow_one_another() -> None:
    faults = injector()
    labels = [faults.pick("[[fail:500x2]] [[resetx1]] go", 1000).label for _ in range(4)]
    assert labels == ["fail:500", "fail:500", "reset", None]


def test_markers_of_latency_and_usage_go_together_with_one_that_ends_the_call() -> None:
    plan = injector().pick("[[slow:3]] [[usage:-5]] [[cut]] [[hang]]", 1000)
    assert plan.latency_s == 3
    assert plan.usage == "-5"
    assert plan.ending == Fault("cut")
    assert plan.label == "slow:3 usage:-5 cut"
    assert injector().pick("[[no-usage]]", 1000).without_usage


def test_a_schedule_acts_from_its_beginning_until_before_its_end() -> None:
    faults = injector("schedule: [{from_s: 10, to_s: 20, fault: 'fail:503'}]")
    picked = {at_s: faults.pick("hi", 1000 + at_s).label for at_s in (9.9, 10, 19.9, 20)}
    assert picked == {9.9: None, 10: "fail:503", 19.9: "fail:503", 20: None}


def test_a_marker_goes_before_the_schedule_and_the_schedule_before_the_rate() -> None:
    faults = injector("{rate: {reset: 1}, schedule: [{from_s: 0, to_s: 5, fault: hang}]}")
    assert faults.pick("[[fail:500]]", 1000).label == "fail:500"
    assert faults.pick("hi", 1000).label == "hang"
    assert faults.pick("hi", 1005).label == "reset"


def test_rates_hit_their_share_of_requests_and_the_seed_decides_which() -> None:
    text = "rate: {500: 0.05, reset: 0.2}"
    picks = [
        [faults.pick("hi", 1000).label for _ in range(4000)]
        for faults in (injector(text, 1), injector(text, 1))
    ]
    assert picks[0] == picks[1]
    assert picks[0].count("fail:500") == pytest.approx(200, abs=50)
    assert picks[0].count("reset") == pytest.approx(800, abs=100)
    other = injector(text, 2)
    assert [other.pick("hi", 1000).label for _ in range(4000)] != picks[0]


def test_a_replaced_schedule_counts_its_seconds_anew() -> None:
    faults = injector()
    faults.replace(parse_faults("schedule: [{from_s: 0, to_s: 1, fault: hang}]", "body"), 5000)
    assert faults.pick("hi", 5000.5).label == "hang"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("rate: [", "faults.yaml: not YAML: .* line 1"),
        ("[1, 2]", "faults.yaml: the file must be a mapping with rate and schedule"),
        ("rates: {}", "faults.yaml: the file: unknown key 'rates'; there are rate, schedule"),
        ("rate: 5", "faults.yaml: rate must be a mapping"),
        (
            "rate: {500: often}",
            r"faults.yaml: rate.500: the share of requests must be a number from 0 to 1, not 'often'",
        ),
        ("rate: {500: 1.5}", "rate.500: the share"),
        ("rate: {500: .nan}", "rate.500: the share"),
        ("rate: {200: 0.5}", "rate.200: fail: must be a status"),
        ("rate: {explode: 0.5}", "rate.explode: 'explode' is no fault"),
        ("rate: {500: 0.6, hang: 0.6}", "the shares add up to 1.2"),
        ("schedule: {}", "schedule must be a list"),
        ("schedule: [{from_s: 5, to_s: 5, fault: hang}]", r"schedule\[0\]: to_s \(5\) must be after from_s"),
        ("schedule: [{to_s: 5, fault: hang}]", r"schedule\[0\].from_s must be a number"),
        ("schedule: [{from_s: 0, to_s: 5}]", r"schedule\[0\].fault must be a fault like"),
        (
            "schedule: [{from_s: 0, to_s: 5, fault: 'fail:503x2'}]",
            r"schedule\[0\].fault: a number of attempts \(x2\)",
        ),
    ],
)
def test_a_wrong_file_gives_one_error_with_the_place_and_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(FaultsError, match=complaint) as error:
        parse_faults(text, "faults.yaml")
    assert "\n" not in str(error.value)


def test_an_empty_file_has_no_faults() -> None:
    assert parse_faults("", "faults.yaml") == FaultsConfig()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaultsError, match=r"missing.yaml: cannot be read: .*No such file"):
        read_faults(tmp_path / "missing.yaml")
