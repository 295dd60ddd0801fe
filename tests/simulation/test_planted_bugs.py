"""The simulation is run against builds with a known bug put in, and must notice each. `make bugs` prints the list."""

from collections.abc import Iterator

import pytest

from tests.simulation.bugs import BUGS, Bug, hunt
from tests.simulation.wire import Wire
from tests.support.valkey import HOST, ValkeyProcess


@pytest.fixture(scope="module")
def wire(valkey: ValkeyProcess) -> Iterator[Wire]:
    connection = Wire(HOST, valkey.port)
    yield connection
    connection.close()


def test_there_are_enough_bugs_to_be_caught() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 20


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(wire: Wire, bug: Bug) -> None:
    catch = hunt(bug, wire)
    assert catch.outcome is not None, str(catch)
