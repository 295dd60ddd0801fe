"""Thousands of schedules over the real scripts: nothing is lost, charged twice, or sent past a limit in any of them.

A failure names its seed: `make replay SEED=...` tells the whole story of that schedule.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from tests.simulation.bugs import told
from tests.simulation.plan import Plan
from tests.simulation.schedule import run
from tests.simulation.wire import Wire
from tests.support.valkey import HOST, ValkeyProcess

SCHEDULES, IN_ONE_TEST = 2000, 50


@pytest.fixture(scope="module")
def wire(valkey: ValkeyProcess) -> Iterator[Wire]:
    connection = Wire(HOST, valkey.port)
    yield connection
    connection.close()


@pytest.mark.parametrize("first", range(0, SCHEDULES, IN_ONE_TEST))
def test_every_schedule_keeps_what_is_promised(wire: Wire, first: int) -> None:
    outcomes = [run(seed, wire) for seed in range(first, first + IN_ONE_TEST)]
    assert [str(outcome) for outcome in outcomes if outcome.violation is not None] == []


def test_a_seed_gives_the_same_schedule_each_time(wire: Wire) -> None:
    seeds = range(15)
    forwards = {seed: run(seed, wire) for seed in seeds}
    # What ran before, and which scripts it left loaded, makes no difference.
    backwards = {seed: run(seed, wire) for seed in reversed(seeds)}
    assert backwards == forwards


def test_the_schedules_are_worth_their_name(wire: Wire) -> None:
    """Every fault and every end of a job comes up; a plan that avoided them would prove nothing."""
    missing = {
        "is killed", "is frozen", "gets SIGTERM", "has left", "loses the answer", "loses its connection",
        "SCRIPT FLUSH", "clock is set by", "Redis is away", "comes too late", "has succeeded", "has cancelled",
        "has expired", "failed outcome_unknown", "failed provider_rejected", "failed provider_failed",
        "failed worker_lost", "answered budget_exhausted", "answered replayed", "answered queue_full",
        "answered idempotency_key_reused", "erases", "s pass", "deliveries_settle of", "deliveries_prepare of",
        "delivered 204", "gone 410", "ours", ": silent", ": cut", "lets dlv", "only deliveries are left",
    }  # fmt: skip
    for bend, seed in product((as_drawn, poisonous, told), range(60)):
        trace = "\n".join(run(seed, wire, bend).trace)
        missing -= {event for event in missing if event in trace}
        if not missing:
            break
    assert missing == set()


def as_drawn(plan: Plan) -> Plan:
    return plan


def poisonous(plan: Plan) -> Plan:
    """Most jobs kill whatever runs them."""
    return replace(plan, faults=replace(plan.faults, poison=0.7))
