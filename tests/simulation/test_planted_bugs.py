"""The simulation is run against builds with a known bug put in, and must notice each. `make bugs` prints the list."""

from collections.abc import Callable, Iterator

import pytest

from tests.simulation.bugs import BUGS, Bug, hunt
from tests.simulation.plan import Plan
from tests.simulation.schedule import run
from tests.simulation.wire import Wire
from tests.support.valkey import HOST, ValkeyProcess


@pytest.fixture(scope="module")
def wire(valkey: ValkeyProcess) -> Iterator[Wire]:
    connection = Wire(HOST, valkey.port)
    yield connection
    connection.close()


def test_there_are_enough_bugs_to_be_caught() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 20


def test_every_bug_can_be_planted_still() -> None:
    for bug in BUGS:
        with bug.plant():
            pass


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(wire: Wire, bug: Bug) -> None:
    catch = hunt(bug, wire)
    assert catch.outcome is not None, str(catch)


@pytest.mark.parametrize("bend", dict.fromkeys(bug.bend for bug in BUGS))
def test_what_is_changed_for_the_hunt_is_no_violation_itself(
    wire: Wire, bend: Callable[[Plan], Plan]
) -> None:
    outcomes = [run(seed, wire, bend) for seed in range(10)]
    assert [str(outcome) for outcome in outcomes if outcome.violation is not None] == []
