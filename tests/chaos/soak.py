"""`python -m tests.chaos.soak`: schedules one after the other until the time is up, or the one of a seed."""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.plan import draw
from tests.chaos.run import run

FAULTS_S = 75.0
"""More than a minute, so that the providers' windows turn."""


def main() -> None:
    """Exits with 1 at the first schedule in which something did not hold, and keeps its logs."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak")
    parser.add_argument("--minutes", type=float, default=0.0, help="go on with new seeds for so long")
    parser.add_argument("--seed", type=int, help="the first seed, or the only one without --minutes")
    parser.add_argument("--seconds", type=float, default=FAULTS_S, help="of faults in each schedule")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    until = time.monotonic() + options.minutes * 60
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"penstock-chaos-{seed}-"))
        report = asyncio.run(run(folder, draw(seed, options.seconds)))
        print(report, flush=True)  # noqa: T201  (a program's output)
        if report.violations:
            print(report.told())  # noqa: T201  (as above)
            print(f"logs are in {folder}; again: make chaos SEED={seed}")  # noqa: T201  (as above)
            sys.exit(1)
        if time.monotonic() > until:
            return
        seed += 1


if __name__ == "__main__":
    main()
