"""Keeps the processes of `penstock up` and `penstock demo` running, and ends them in order.

Each child is this same program with another command, in a process group of its own: a Ctrl-C in the terminal reaches
only the parent, which passes it on as a drain.
"""

import asyncio
import contextlib
import os
import signal
import sys
import sysconfig
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cli.errors import CommandError
from cli.lifeline import Lifeline

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
# A child that ran so long had started well: its next death is a new trouble, not the same one.
STEADY_S = 60.0
# What a child has besides a drain, to settle the last outcomes or to answer the last requests, and leave.
LEAVE_S = 15.0


@dataclass(frozen=True, slots=True)
class Program:
    """One child: `arguments` of the penstock command; `log` takes its output (None: the parent's terminal).

    Children of a later `stage` are only told to end when those of the earlier ones have ended.
    """

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path | None = None
    stage: int = 0


@dataclass(slots=True)
class _Child:
    program: Program
    process: Process
    keeper: asyncio.Task[None] | None = None
    leaving: bool = False


class Supervisor:
    """Starts children; until `steady` the death of one is the end of all, afterwards it is started again.

    `report` gets a line for each death and restart.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._lifeline = Lifeline()
        self._children: list[_Child] = []
        self._steady = False
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self, program: Program) -> None:
        """Starts one more child."""
        child = _Child(program, await self._spawn(program))
        self._children.append(child)
        child.keeper = asyncio.create_task(self._keep(child))

    @property
    def pids(self) -> dict[str, int]:
        """The processes that the children are at present, by their names."""
        return {child.program.name: child.process.pid for child in self._children if not child.leaving}

    def retire(self, name: str, drain_s: float) -> None:
        """Let one child go: it has `drain_s` for what runs, and is not started again. LookupError if there is none."""
        child = next(
            (each for each in self._children if each.program.name == name and not each.leaving), None
        )
        if child is None:
            raise LookupError(f"no child is called {name}")
        child.leaving = True
        keeper = child.keeper
        if keeper is not None:
            keeper.cancel()
        # At once: whoever stops all of them in the next moment asks only those that were not asked yet.
        _signal([child], signal.SIGTERM)
        child.keeper = asyncio.create_task(self._let_go(child, keeper, drain_s))

    async def until_lost(self) -> None:
        """Returns never, or raises CommandError once a child has died before `steady`."""
        await asyncio.shield(self._lost)

    def steady(self) -> None:
        """From now on a child that dies is started again, after a pause that grows while it keeps dying."""
        self._steady = True

    async def stop(self, drain_s: float, hurry: asyncio.Event) -> None:
        """Ends all children, stage by stage: SIGTERM, time to finish, SIGTERM again, SIGKILL.

        The first stage has `drain_s` for what runs, or until `hurry` is set.
        """
        for child in self._children:
            if child.keeper is not None:
                child.keeper.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await child.keeper
        for stage in sorted({child.program.stage for child in self._children}):
            children = [child for child in self._children if child.program.stage == stage]
            # Whoever drains already would take another one for a wish to hurry.
            _signal([child for child in children if not child.leaving], signal.SIGTERM)
            if await _gone(children, LEAVE_S + (drain_s if stage == 0 else 0), hurry if stage == 0 else None):
                continue
            _signal(children, signal.SIGTERM)
            if not await _gone(children, LEAVE_S):
                _signal(children, signal.SIGKILL)
                await _gone(children, LEAVE_S)
        self._lost.cancel()
        # Ends also a child that was being started just now.
        self._lifeline.close()

    async def _let_go(self, child: _Child, keeper: asyncio.Task[None] | None, drain_s: float) -> None:
        if keeper is not None:
            await asyncio.gather(keeper, return_exceptions=True)
        if not await _gone([child], drain_s + LEAVE_S):
            for number in (signal.SIGTERM, signal.SIGKILL):
                _signal([child], number)
                if await _gone([child], LEAVE_S):
                    break
        self._children.remove(child)

    async def _keep(self, child: _Child) -> None:
        loop = asyncio.get_running_loop()
        pause_s = FIRST_BACKOFF_S
        while True:
            since_s = loop.time()
            code = await child.process.wait()
            if not self._steady:
                self._give_up(child.program, code)
                return
            if loop.time() - since_s >= STEADY_S:
                pause_s = FIRST_BACKOFF_S
            self._report(f"{child.program.name} {_ended(code)}; starting it again in {pause_s:g} s")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_BACKOFF_S)
            # Out of processes or of file descriptors: the next round tries again.
            with contextlib.suppress(OSError):
                child.process = await self._spawn(child.program)

    def _give_up(self, program: Program, code: int) -> None:
        reason = f"{_last_line(program.log)}; see {program.log}" if program.log else "its reason is above"
        if not self._lost.done():
            self._lost.set_exception(CommandError(f"{program.name} {_ended(code)}: {reason}"))
            # Whoever stops without asking has a reason of its own to give.
            self._lost.exception()

    async def _spawn(self, program: Program) -> Process:
        log = program.log.open("ab") if program.log else None
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                # Without the current directory, which may hold an `api` or a `jobs` of somebody else's.
                "-P",
                "-m",
                "cli.main",
                *program.arguments,
                "--lifeline",
                str(self._lifeline.child_fd),
                env=_importable(program.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log or sys.stderr.fileno(),
                stderr=log or sys.stderr.fileno(),
                pass_fds=[self._lifeline.child_fd],
                process_group=0,
            )
        finally:
            if log:
                log.close()


def _importable(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a child finds this package where this process found it, installed or not."""
    root = str(Path(__file__).parents[1])
    if root == sysconfig.get_path("purelib"):
        return dict(environment)
    given = environment.get("PYTHONPATH")
    return {**environment, "PYTHONPATH": f"{root}{os.pathsep}{given}" if given else root}


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next(
        (line.removeprefix("penstock: ") for line in reversed(lines) if line.strip()), "it said nothing"
    )


def _signal(children: list[_Child], number: signal.Signals) -> None:
    for child in children:
        if child.process.returncode is None:
            # It may have gone since the loop last looked.
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(number)


async def _gone(children: list[_Child], within_s: float, hurry: asyncio.Event | None = None) -> bool:
    """Whether all have ended within the time, or before `hurry` is set."""
    waits: list[asyncio.Task[object]] = [asyncio.create_task(_all_gone(children))]
    if hurry is not None:
        waits.append(asyncio.create_task(hurry.wait()))
    await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    gone = waits[0].done()
    for task in waits:
        task.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    return gone


async def _all_gone(children: list[_Child]) -> None:
    for child in children:
        await child.process.wait()


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
