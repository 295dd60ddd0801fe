"""One of Penstock's processes as a test sees it: started, killed, frozen, told to stop; its log kept in a file."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.chaos.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).parents[2]


class Process:
    """A command that can be started again under the same name; `bug`: run with that one planted (planted.py).

    `runs` names another module that runs the command, and what it takes before it.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        arguments: tuple[str, ...],
        environment: Mapping[str, str],
        *,
        lifeline: int,
        bug: str = "",
        runs: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self._folder = folder
        self._arguments = (*arguments, "--lifeline", str(lifeline))
        self._environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
        self._lifeline = lifeline
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._before_chars = 0
        self.bug = bug
        self._program = runs or (("tests.chaos.planted", bug) if bug else ("cli.main",))

    @property
    def pid(self) -> int:
        """Of the running one, or of the last one."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it is there; a frozen one is."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What all its runs have printed so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def has_said(self, text: str) -> bool:
        """Whether it has printed that since it was last started."""
        return text in self.log[self._before_chars :]

    def start(self) -> None:
        """Start it; it may take a while until it is ready."""
        assert not self.runs, f"{self.name} runs already"
        self._before_chars = len(self.log)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._program, *self._arguments],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self._lifeline,),
            )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self._process is not None:
            self._process.send_signal(number)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9, also of a frozen one; returns when it is gone."""
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(PATIENCE_S)

    async def ended(self, within_s: float = PATIENCE_S) -> int:
        """Its exit status, once it is over. Raises TimeoutError."""
        assert self._process is not None, f"{self.name} was never started"
        process = self._process
        await eventually(lambda: process.poll() is not None, within_s)
        return process.returncode
