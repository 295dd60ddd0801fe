"""`penstock up` and `penstock demo` as processes of their own, watched through what they print."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.cli.waiting import PATIENCE_S, wait_until

_UP = r"^Penstock is up at (\S+), .*\(processes: (.*)\)$"
AnyCommand = TypeVar("AnyCommand", bound="RunningCommand")


class RunningCommand:
    """A command in a directory of its own; what it prints is in `output`."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        self._log = directory / f"{arguments[0]}-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", *arguments],
                cwd=directory,
                env=_clean(os.environ) | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """Everything so far."""
        return self._log.read_text(errors="replace")

    def says(self, pattern: str) -> re.Match[str]:
        """Waits for a line that matches."""
        compiled = re.compile(pattern, re.MULTILINE)
        wait_until(lambda: compiled.search(self.output) is not None or self.process.poll() is not None)
        match = compiled.search(self.output)
        assert match is not None, f"it ended with {self.process.poll()} and said: {self.output}"
        return match

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def ends(self) -> int:
        """Its exit status, once it is over."""
        return self.process.wait(PATIENCE_S)


class RunningUp(RunningCommand):
    """`penstock up` on a free port; `running_up` makes one."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        super().__init__(directory, "up", "--port", "0", *arguments, **environment)
        self.url = ""
        self.pids: dict[str, int] = {}

    def wait_until_ready(self) -> None:
        """Returns once it says where it is and which processes it has."""
        ready = self.says(_UP)
        self.url = ready[1]
        self.pids = {name: int(pid) for name, pid in re.findall(r"([a-z]+(?: \d+)?) (\d+)(?:, |$)", ready[2])}


@contextmanager
def running(directory: Path, *arguments: str, **environment: str) -> Iterator[RunningCommand]:
    """A command that is ended with the block, whatever happened in it."""
    with _ended(RunningCommand(directory, *arguments, **environment)) as command:
        yield command


@contextmanager
def running_up(directory: Path, *arguments: str, **environment: str) -> Iterator[RunningUp]:
    """`penstock up`, ready, and ended with the block."""
    with _ended(RunningUp(directory, *arguments, **environment)) as up:
        up.wait_until_ready()
        yield up


@contextmanager
def _ended(command: AnyCommand) -> Iterator[AnyCommand]:
    try:
        yield command
    finally:
        for _ in range(2):
            if command.process.poll() is None:
                command.process.send_signal(signal.SIGTERM)
        command.process.wait(PATIENCE_S)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one whose new parent does not ask after it has."""
    try:
        os.kill(pid, 0)
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(") ")[2].startswith("Z")
    except ProcessLookupError:
        return True
    except FileNotFoundError:
        # No /proc on this system, or gone just now.
        return Path("/proc/self").exists()


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environment.items() if not name.startswith("PENSTOCK_")}
    kept.pop("REDIS_URL", None)
    return kept
