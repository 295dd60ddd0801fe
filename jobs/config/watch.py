"""Follows the configuration file of a running process, and hands over what changed.

The file is read twice a second and judged by its content: time stamps miss an edit within their resolution
and some ways of replacing a file; a few kilobytes are as cheap as a stat. Content counts once two readings in
a row agree, so that a file in the middle of being written is not taken for a short one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from jobs.config.document import Problem
from jobs.config.load import ConfigError, MissingConfigError, locate, parse, read_file
from jobs.config.model import Config

INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one look at the file gave: its content, or why it could not be read; neither if it is absent."""

    content: bytes | None = None
    error: str | None = None


_ABSENT = _Reading()


class ConfigWatcher:
    """Keeps `current` up to date with a file while `run` runs.

    `on_change` is called with each new configuration, after `current` has it; `on_error` once for each state
    of the file that cannot be used (wrong, unreadable, vanished), while the last good one stays in force.
    Both are called on the event loop and must not block; what they raise ends `run`.

    `configured` is as for `load`. Without a file at the start, one that appears later is picked up.
    """

    def __init__(
        self,
        current: Config,
        configured: Path | None,
        *,
        on_change: Callable[[Config], None],
        on_error: Callable[[ConfigError], None],
        interval_s: float = INTERVAL_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.current = current
        self._path = locate(configured)
        self._on_change = on_change
        self._on_error = on_error
        self._interval_s = interval_s
        self._sleep = sleep
        # Nothing counts as judged yet: the first reading is compared by its meaning with `current`, so that
        # an edit between the load at the start and this moment is not lost.
        self._last = self._judged = _ABSENT

    async def run(self) -> None:
        """Follows the file until cancelled."""
        while True:
            await self.check()
            await self._sleep(self._interval_s)

    async def check(self) -> None:
        """Looks at the file once."""
        reading = await asyncio.to_thread(_look, self._path)
        settled = reading == self._last
        self._last = reading
        if settled and reading != self._judged:
            self._judged = reading
            await self._judge(reading)

    async def _judge(self, reading: _Reading) -> None:
        try:
            if reading.content is None:
                reason = reading.error or "has vanished; what it last said stays in force"
                raise ConfigError(self._path, (Problem(None, (), reason),))
            config = await asyncio.to_thread(parse, reading.content, self._path)
        except ConfigError as error:
            self._on_error(error)
            return
        if config.digest() != self.current.digest():
            self.current = config
            self._on_change(config)


def _look(path: Path) -> _Reading:
    try:
        return _Reading(content=read_file(path))
    except MissingConfigError:
        return _ABSENT
    except ConfigError as error:
        return _Reading(error=error.problems[0].reason)
