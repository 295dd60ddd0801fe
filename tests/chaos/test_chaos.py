"""Two schedules on every run of the tests, with most kinds of faults; `make soak` plays others as long as wanted."""

from pathlib import Path

import pytest

from tests.chaos.plan import draw
from tests.chaos.run import run

FAULTS_S = 15.0


@pytest.mark.parametrize("seed", [96, 231])
async def test_what_is_promised_holds_through_a_schedule_of_faults(seed: int, tmp_path: Path) -> None:
    report = await run(tmp_path / "system", draw(seed, FAULTS_S))
    print(report)  # noqa: T201  (how much there was to go wrong)
    assert not report.violations, report.told()
