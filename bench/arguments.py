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

    @property
    def repetitions(self) -> int:
        return 1 if self.quick else 5

    @property
    def results(self) -> Path:
        """Where the report belongs."""
        return FOLDER / "quick" if self.quick else RESULTS


def parsed(description: str | None) -> Arguments:
    """The arguments of this process; `description` is the module's docstring."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short repetition, kept in .bench/quick")
    return Arguments(quick=parser.parse_args().quick)
