"""An event loop whose time stands still while code runs and jumps to the next timer when there is none left to run.

Nothing in a simulation waits for a socket: Valkey is asked synchronously (wire.py), so that one thing happens after
another and a seed always gives the same schedule.
"""

import asyncio
import selectors


class DeadlockError(Exception):
    """Everything in the simulation waits for something that will never come."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` begins at 0 s; asyncio's own timers and timeouts go by it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_Jumping(self))
        # Of asyncio: after a year, a nanosecond is less than two floats lie apart, and no timer would ever be due.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self.now_s

    def jump(self, seconds: float) -> None:
        """Let time pass at once; the timers that were due meanwhile then run in their order."""
        self.now_s += seconds


class _Jumping(selectors.SelectSelector):
    """Looks at no socket: it lets the time pass until the next timer instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError("nothing is due any more, and yet somebody waits")
        if timeout > 0:
            self._loop.now_s += timeout
        return []
