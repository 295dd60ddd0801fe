"""What every benchmark's command line takes, and what that means for it."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from bench.environments import FOLDER
from bench.report import RESULTS


@dataclass(frozen=True, slots=True)
class Arguments:
    """`quick` is for those who change a benchmark: short, and not kept."""

    quick: bool
    repetitions: int = 1

    @property
    def results(self) -> Path:
        """Where the report belongs."""
        return FOLDER / "quick" if self.quick else RESULTS


def parsed(description: str | None, *, repetitions: int = 5) -> Arguments:
    """The arguments of this process; `description` is the module's docstring, `repetitions` what is usual for it."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short repetition, kept in .bench/quick")
    parser.add_argument("--repetitions", type=int, help=f"how often all is measured ({repetitions})")
    chosen = parser.parse_args()
    return Arguments(chosen.quick, chosen.repetitions or (1 if chosen.quick else repetitions))
