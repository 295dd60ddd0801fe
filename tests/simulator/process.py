"""Starting a simulator as a process of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEADLINE_S = 20


@dataclass(frozen=True)
class SimulatorProcess:
    """A running process and the address it has told."""

    url: str
    process: subprocess.Popen[str]


@contextmanager
def started(arguments: str = "") -> Iterator[SimulatorProcess]:
    """Run `SimulatorSettings(arguments)` in a new process until the context ends."""
    code = (
        "from simulator.serve import run; from simulator.settings import Accounting, SimulatorSettings; "
        f"run(SimulatorSettings({arguments}))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("simulator listening on http://127.0.0.1:"), line
            yield SimulatorProcess(line.split()[-1], process)
        finally:
            process.kill()
