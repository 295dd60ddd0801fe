"""The tests of this folder notice bugs: two of those in bugs.py on each run, all of them by `make chaos-bugs`."""

from pathlib import Path

import pytest

from tests.chaos.bugs import CAUGHT_BY, hunt
from tests.chaos.planted import IN_SCRIPTS, PLANTS
from tests.simulation.world import all_scripts


@pytest.mark.parametrize("bug", ["submitted_again_under_a_new_id", "redis_errors_are_500"])
async def test_a_planted_bug_is_caught(bug: str, tmp_path: Path) -> None:
    catch = await hunt(bug, tmp_path / "system", alone=True)
    assert catch.failure is not None, catch


def test_every_planted_bug_has_a_test_that_is_to_catch_it() -> None:
    assert set(PLANTS) == set(CAUGHT_BY)


@pytest.mark.parametrize("bug", IN_SCRIPTS)
def test_what_a_bug_replaces_is_still_there(bug: str) -> None:
    name, old, _ = IN_SCRIPTS[bug]
    assert old in all_scripts()[name].text, "the script has changed: plant the bug anew"
