"""`make fuzz`: many more cases than the tests send, by a seed that can be given."""

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

import structlog

from tests.fuzz.fuzzer import Fuzzer
from tests.fuzz.rig import running_rig
from tests.support.valkey import running_valkey


def main() -> int:
    """0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--drawn", type=float, default=0.2, help="the share that schemathesis draws anew")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    begun, cpu = time.monotonic(), time.process_time()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_valkey(Path(folder)) as valkey,
        running_rig(valkey.url) as rig,
    ):
        fuzzer = Fuzzer(rig, given.seed)
        fuzzer.cover()
        fuzzer.draw(round(given.cases * given.drawn))
        fuzzer.mix(max(0, given.cases - fuzzer.counts.total()))
    print(f"seed {given.seed}: {fuzzer.counts.total()} cases ({dict(fuzzer.counts)})")
    for label in fuzzer.labels:
        statuses = sorted(
            (status, count) for (named, status), count in fuzzer.answers.items() if named == label
        )
        print(f"  {label:45} " + "  ".join(f"{status}: {count}" for status, count in statuses))
    for kind, report in fuzzer.failures.items():
        print(f"\n== {kind[0]}: {kind[1]}\n{report[:3000]}")
    print(
        f"{len(fuzzer.failures)} findings, {time.monotonic() - begun:.0f} s, {time.process_time() - cpu:.0f} s of CPU"
    )
    return 1 if fuzzer.failures else 0


if __name__ == "__main__":
    sys.exit(main())
