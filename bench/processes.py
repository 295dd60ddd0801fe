"""Processes under measurement: started, waited for, ended; what they take of the processor and of memory (Linux)."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cli.ports import claim_port

ROOT = Path(__file__).parent.parent
START_S = 240.0
STOP_S = 10.0

_TICKS_A_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    port: int | None = None,
    log: Path | None = None,
) -> Iterator[int]:
    """The process id of a command that runs until the block ends; with `port`, from when that is listened on.

    `log` gets what it prints. Raises RuntimeError if it ends by itself first.
    """
    with open(log or os.devnull, "wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        if port is not None:
            _until_listening(process, port, command)
        yield process.pid
    finally:
        _end(process)


def module(name: str, *arguments: str) -> list[str]:
    """The command of one of our modules."""
    return [sys.executable, "-m", name, *arguments]


def _until_listening(process: "subprocess.Popen[bytes]", port: int, command: Sequence[object]) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{command} does not listen on {port} (status {process.returncode})")
        time.sleep(0.05)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        for pid in _family(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """A port that nothing listens on at the moment."""
    return claim_port("127.0.0.1", 0)


def cpu_s(pid: int) -> float:
    """Seconds of processor that a process and its children have taken so far."""
    # The third and fourth are those of children that have ended.
    return sum(
        sum(int(ticks) for ticks in fields[11:15]) / _TICKS_A_S
        for one in _family(pid)
        if (fields := _stat(one))
    )


def resident_bytes(pid: int) -> int:
    """Memory of a process and its children, what they share counted for each."""
    return sum(int(fields[21]) * _PAGE_BYTES for one in _family(pid) if (fields := _stat(one)))


def _family(pid: int) -> list[int]:
    parents = {
        int(entry.name): int(fields[1])
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and (fields := _stat(int(entry.name)))
    }
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name, the state first; none if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
