"""Replays schedules, or hunts the planted bugs: python -m tests.simulation SEED | FIRST-LAST | bugs."""

import sys
import tempfile
import time
from pathlib import Path

from tests.simulation.bugs import BUGS, hunt
from tests.simulation.schedule import run
from tests.simulation.wire import Wire
from tests.support.valkey import HOST, running_valkey


def main(what: str) -> int:
    """What happened goes to stdout; 0 if all held, or every bug was caught."""
    with tempfile.TemporaryDirectory() as folder, running_valkey(Path(folder)) as valkey:
        wire = Wire(HOST, valkey.port)
        if what == "bugs":
            return _bugs(wire)
        first, _, last = what.partition("-")
        return _schedules(wire, int(first), int(last or first))


def _schedules(wire: Wire, first: int, last: int) -> int:
    failed, begun = 0, time.monotonic()
    for seed in range(first, last + 1):
        outcome = run(seed, wire)
        failed += outcome.violation is not None
        if first == last:
            _say("\n".join(outcome.trace))
        if first == last or outcome.violation is not None:
            _say(str(outcome))
    played = last - first + 1
    _say(f"{played} schedules, {failed} failed, {played / (time.monotonic() - begun):.1f} a second")
    return int(failed > 0)


def _bugs(wire: Wire) -> int:
    catches = []
    for bug in BUGS:
        catches.append(hunt(bug, wire))
        _say(str(catches[-1]))
    missed = sum(catch.outcome is None for catch in catches)
    _say(f"{len(catches) - missed} of {len(catches)} bugs caught")
    return int(missed > 0)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
