"""The limiter's tests under test: with a bug in the scripts, the very checks that the real ones pass must fail."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis.errors import FlakyFailure
from redis import Redis

from limiter.scripts import Script
from tests.limiter.machine import LimiterMachine, run
from tests.limiter.planted_bugs import BUGS, Bug
from tests.limiter.rig import SCRIPTS, SOURCES, Check, Rig

SEEDS = 6
"""What a machine has to find a bug in."""


def _with(bug: Bug, folder: Path) -> Mapping[str, Script]:
    """The scripts that have the bug now, by the digest of those that they replace."""
    found = 0
    for path in SOURCES:
        text = path.read_text()
        found += text.count(bug.text)
        (folder / path.name).write_text(text.replace(bug.text, bug.planted))
    assert found == 1, f"plant {bug.name!r} anew: its text occurs {found} times"
    planted = {script.sha: Script(folder / f"{script.name}.lua", (folder,)) for script in SCRIPTS}
    return {sha: script for sha, script in planted.items() if script.sha != sha}


def _id(bug: Bug) -> str:
    return bug.name.replace(" ", "_")


@pytest.mark.parametrize(
    ("bug", "check"),
    [pytest.param(bug, check, id=f"{_id(bug)}-{check.__name__}") for bug in BUGS for check in bug.checks],
)
def test_the_behaviour_finds_it(bug: Bug, check: Check, blocking: Redis, tmp_path: Path) -> None:
    rig = Rig(blocking, _with(bug, tmp_path))
    with pytest.raises(bug.raises):
        check(rig)


@pytest.mark.parametrize(
    ("bug", "machine"),
    [
        pytest.param(bug, machine, id=f"{_id(bug)}-{machine.__name__}")
        for bug in BUGS
        for machine in bug.machines
    ],
)
def test_the_machine_finds_it(
    bug: Bug, machine: type[LimiterMachine], blocking: Redis, tmp_path: Path
) -> None:
    # A bug in a key's life shows in real time: it may be found once and not again, which Hypothesis calls flaky.
    with pytest.raises((bug.raises, FlakyFailure)):
        run(machine, blocking, SEEDS, instead=_with(bug, tmp_path))
