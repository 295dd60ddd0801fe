"""What the limiter's tests drive it with: the real Limiter and scripts over a blocking client, time by hand.

The same class runs over fakeredis and Valkey, and with scripts into which a bug was planted.
"""

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from inspect import isfunction
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, TypeVar, cast

from redis import Redis

from limiter.limiter import Limiter
from limiter.limits import (
    LimiterState,
    RateDecision,
    Refusal,
    Refused,
    RequestLimits,
    Reserved,
    Scope,
    Settlement,
    WindowSpec,
)
from limiter.scripts import FOLDER, Script
from tests.support.windows import StoredWindow, stored_window

SECOND_MS = 1000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
DAY = "2026-02-21"
NEXT_DAY = "2026-02-22"
MIDNIGHT_MS = round(datetime(2026, 2, 22, tzinfo=UTC).timestamp() * 1000)
"""The end of DAY."""
NOON_MS = MIDNIGHT_MS - DAY_MS // 2
"""When a rig starts; also the start of a slice of the windows."""
SLICE_MS = 500

NO_WINDOWS = WindowSpec(())

_LUA = Path(__file__).parent / "lua"
SOURCES = (*sorted(FOLDER.glob("*.lua")), *sorted(_LUA.glob("*.lua")))
"""The limiter's scripts and fragments, and the scripts that are for tests only."""
SCRIPTS = tuple(Script(path, (FOLDER,)) for path in SOURCES if "\n-- ARGV" in path.read_text())
"""All scripts that a rig can run."""
_sweep, _overtake = (
    next(script for script in SCRIPTS if script.name == name) for name in ("sweep", "overtake")
)

_T = TypeVar("_T")


def day_of(ms: int) -> str:
    """The UTC day of a time, YYYY-MM-DD."""
    return datetime.fromtimestamp(ms // 1000, UTC).date().isoformat()


def midnight_after(ms: int) -> int:
    """The first ms of the next UTC day."""
    return (ms // DAY_MS + 1) * DAY_MS


def tokens_per_minute(tokens: int | None, requests: int | None = None) -> WindowSpec:
    """One strict window of one provider that counts as OpenAI does, with a margin of a second."""
    return WindowSpec((Scope("one", tokens, requests),))


def scope_of_pool(tokens: int | None, model_tokens: int | None) -> WindowSpec:
    """A provider's window and, within it, that of one of its models."""
    return WindowSpec((Scope("one", tokens), Scope("one/small", model_tokens)))


def _at_once(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The result of a coroutine that never waits, since what it awaits is a blocking client."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast(_T, done.value)
    raise AssertionError("the limiter waited for something that is not Redis")


class _Blocking:
    """limiter.scripts.Commands over a blocking client; `instead` puts another script in a script's place."""

    def __init__(self, client: Redis, instead: Mapping[str, Script]) -> None:
        self._client = client
        self._shas = {sha: script.sha for sha, script in instead.items()}
        originals = {script.sha: script.text for script in SCRIPTS}
        self._texts = {originals[sha]: script.text for sha, script in instead.items()}

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        return self._client.evalsha(self._shas.get(sha, sha), numkeys, *keys_and_args)

    async def script_load(self, script: str) -> Any:
        return self._client.script_load(self._texts.get(script, script))


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did, and whether the tokens asked for right after it would fit (None) or what refused them."""

    receipts: int
    reason: str | None
    wait_ms: int | None


Contents = dict[str, object]


@dataclass(slots=True)
class Rig:
    """A limiter on a server of its own, at `now` (Unix ms), which only the test moves."""

    client: Redis
    instead: Mapping[str, Script] = field(default_factory=dict)
    now: int = NOON_MS
    _commands: _Blocking = field(init=False)
    _limiter: Limiter = field(init=False)

    def __post_init__(self) -> None:
        self._commands = _Blocking(self.client, self.instead)
        self._limiter = Limiter(self._commands)

    def hit(self, limits: RequestLimits, user: str = "ana") -> RateDecision:
        """Limiter.hit at `now`."""
        return _at_once(self._limiter.hit(user, limits, now_ms=self.now))

    def reserve(
        self,
        job: str,
        tokens: int = 0,
        output: int = 0,
        *,
        user: str = "ana",
        budget: int | None = None,
        windows: WindowSpec = NO_WINDOWS,
        day: str = "",
        ends_in_ms: int = DAY_MS,
        deadline_in_ms: int = 2 * MINUTE_MS,
    ) -> Reserved | Refused:
        """Limiter.reserve at `now`; `tokens` are the input's."""
        return _at_once(
            self._limiter.reserve(
                user,
                job,
                input_tokens=tokens,
                output_tokens=output,
                budget_tokens=budget,
                windows=windows,
                latest_end_ms=self.now + ends_in_ms,
                deadline_ms=self.now + deadline_in_ms,
                day=day,
                now_ms=self.now,
            )
        )

    def takes(
        self, job: str, tokens: int = 0, output: int = 0, *, windows: WindowSpec, budget: int | None = None
    ) -> None:
        """A reservation that must be granted."""
        answer = self.reserve(job, tokens, output, windows=windows, budget=budget)
        assert isinstance(answer, Reserved), f"{job}: {answer}"

    def refused(
        self, job: str, tokens: int = 0, output: int = 0, *, windows: WindowSpec, budget: int | None = None
    ) -> Refused:
        """A reservation that must be refused, and change nothing but what time has changed anyway."""
        self.state(windows)
        before = self.contents()
        answer = self.reserve(job, tokens, output, windows=windows, budget=budget)
        assert isinstance(answer, Refused), f"{job}: {answer}"
        assert self.contents() == before, f"a refusal changed something: {answer}"
        return answer

    def wait(
        self,
        job: str,
        tokens: int = 0,
        output: int = 0,
        *,
        windows: WindowSpec,
        reason: Refusal = "provider_tokens",
    ) -> int:
        """The ms that a reservation that must be refused is told to wait."""
        answer = self.refused(job, tokens, output, windows=windows)
        assert answer.reason == reason
        assert answer.wait_ms is not None
        return answer.wait_ms

    def served_after_exactly(self, wait_ms: int, job: str, tokens: int, *, windows: WindowSpec) -> None:
        """It is refused a ms before the wait is over, and granted when it is."""
        self.now += wait_ms - 1
        assert self.refused(job, tokens, windows=windows).wait_ms == 1
        self.now += 1
        self.takes(job, tokens, windows=windows)
        self.windows_add_up()

    def settle(
        self,
        job: str,
        tokens: int = 0,
        output: int = 0,
        *,
        how: Settlement = "charged",
        user: str = "ana",
        day: str = DAY,
    ) -> int | None:
        """Limiter.settle at `now`; `tokens` are the input's."""
        return _at_once(
            self._limiter.settle(
                user, day, job, input_tokens=tokens, output_tokens=output, how=how, now_ms=self.now
            )
        )

    def release(self, job: str, *, user: str = "ana", day: str = DAY) -> int | None:
        """Limiter.release at `now`."""
        return _at_once(self._limiter.release(user, day, job, now_ms=self.now))

    def state(self, windows: WindowSpec = NO_WINDOWS, *, user: str = "ana", day: str = DAY) -> LimiterState:
        """Limiter.state at `now`."""
        return _at_once(self._limiter.state(user, windows, day=day, now_ms=self.now))

    def budget(self, user: str = "ana", day: str = DAY) -> tuple[int, int]:
        """Used plus held, and held, of a user's day."""
        state = self.state(user=user, day=day)
        return state.budget_tokens, state.held_tokens

    def window(self, windows: WindowSpec) -> tuple[int, int, int]:
        """Of the first window: tokens charged, tokens in flight, requests."""
        first = self.state(windows).windows[0]
        return first.tokens_charged, first.tokens_in_flight, first.requests

    def sweep(self, windows: WindowSpec = NO_WINDOWS, tokens: int = 0, most: int = 50) -> Swept:
        """receipt.sweep at `now`, and window.refusal in the same script."""
        swept, reason, wait_ms = _at_once(_sweep(self._commands, self.now, most, windows.encode(), tokens))
        return Swept(swept, reason.decode() or None, None if wait_ms < 0 else wait_ms)

    def overtake(
        self,
        step: Literal["keep_for", "overtook", "free", "kept_from"],
        windows: WindowSpec,
        job: str,
        tokens: int,
    ) -> str:
        """One step of overtaking.lua; for 'kept_from' the window that is kept, or ''."""
        answer = _at_once(_overtake(self._commands, self.now, step, windows.encode(), job, tokens))
        return cast(bytes, answer).decode()

    def contents(self) -> Contents:
        """Every key with its value."""
        return {key: self.value(key) for key in self.key_names()}

    def key_names(self) -> list[str]:
        """The names of all keys, in order."""
        return sorted(key.decode() for key in cast(list[bytes], self.client.keys("*")))

    def value(self, key: str) -> object:
        """The value of a key of any of the types that the limiter uses."""
        kind = cast(bytes, self.client.type(key)).decode()
        if kind == "hash":
            return self.client.hgetall(key)
        if kind == "list":
            return self.client.lrange(key, 0, -1)
        if kind == "zset":
            return self.client.zrange(key, 0, -1, withscores=True)
        return self.client.get(key)

    def stored(self, scope: str) -> StoredWindow | None:
        """A window as it was last written; None if it never was."""
        state = cast(bytes | None, self.client.get(f"window:{scope}"))
        slices = cast(list[bytes], self.client.lrange(f"slices:{scope}", 0, -1))
        return None if state is None else stored_window(state, slices)

    def left_ms(self, key: str) -> int:
        """How long a key will live; -1 for ever, -2 if it is not there."""
        return cast(int, self.client.pttl(key))

    def windows_add_up(self) -> None:
        """The running sums of every window are those of its slices, and what is in flight is what receipts say."""
        flying: dict[str, int] = {}
        for receipt in cast(dict[bytes, bytes], self.client.hgetall("receipts")).values():
            for taken in json.loads(receipt)["w"]:
                flying[taken[0]] = flying.get(taken[0], 0) + taken[3]
        for key in self.key_names():
            if key.startswith("window:"):
                scope = key.removeprefix("window:")
                window = self.stored(scope)
                assert window is not None
                window.check(scope)
                assert window.flying == flying.get(scope, 0), f"{key}: {window}"


Check: TypeAlias = Callable[[Rig], None]
"""Shows one behaviour of the limiter on a rig; raises AssertionError where it is not so."""


def checks_of(module: ModuleType) -> list[Check]:
    """The behaviours that a module shows: its public functions, in the order they are written."""
    return [
        value
        for name, value in vars(module).items()
        if isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
