"""The figures that operators watch, as the scripts keep them: one round trip tells them all, from any process."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jobs.runner import Runner, job_script

if TYPE_CHECKING:
    from redis.asyncio import Redis

_operations = job_script("operations")
_figures_add = job_script("figures_add")
_scaling_hold = job_script("scaling_hold")

NO_TIER: Final = "-"
"""Stands for the tier of a user who has none."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations that were observed: `counts` one for each of `bounds_s` and one for what is longer, `sum_s` of all."""

    bounds_s: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float


@dataclass(frozen=True, slots=True)
class NameFigures:
    """What waits for a served name, whose pools are in order of preference.

    `due_jobs` wait for a time (by not_before, backoff), `parked_jobs` for something of their user's (by user_budget,
    concurrency); what is left of `jobs` waits for `waits_for`, or, if that is "none", is about to start.
    """

    name: str
    pools: tuple[str, ...]
    jobs: int
    tokens: int
    due_jobs: Mapping[str, int]
    parked_jobs: Mapping[str, int]
    waits_for: str
    oldest_ms: int | None
    arriving_tokens_per_minute: float

    @property
    def ready_jobs(self) -> int:
        """Jobs that could start if workers and providers had room."""
        return max(0, self.jobs - sum(self.due_jobs.values()) - sum(self.parked_jobs.values()))

    @property
    def ready_tokens(self) -> float:
        """Their tokens, taking all jobs for equally large."""
        return self.tokens * self.ready_jobs / self.jobs if self.jobs else 0.0


@dataclass(frozen=True, slots=True)
class ScopeFigures:
    """One window. Limits are of a minute, None is unlimited; charged and in flight count against the one in force."""

    tokens_configured: int | None
    tokens_in_force: int | None
    tokens_charged: int
    tokens_in_flight: int
    requests_configured: int | None
    requests_in_force: int | None
    requests: int


@dataclass(frozen=True, slots=True)
class CallFigures:
    """What a usual call of a pool takes, after `seen` of them: moving averages. `held_tokens` is its estimate."""

    seen: int
    seconds: float
    prompt_tokens: float
    completion_tokens: float
    held_tokens: float


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """A pool: the windows of its provider and, if it has limits of its own, of its model; how its calls are."""

    pool: str
    accounting: str
    estimates: str
    scopes: tuple[ScopeFigures, ...]
    paused_until_ms: int | None
    call: CallFigures


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """A worker that lives."""

    slots: int
    running: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything at the moment `now_ms`. `counters` by the fields of figures.lua; `held`: see jobs/scaling.py.

    `due_soon`: jobs, and webhooks' receivers, that are due within a minute or being delivered to.
    """

    now_ms: int
    counters: Mapping[str, int]
    waits: Histogram
    calls: Histogram
    jobs: Histogram
    names: tuple[NameFigures, ...]
    pools: tuple[PoolFigures, ...]
    workers: tuple[WorkerFigures, ...]
    running: int
    due_soon: int
    held: str

    def labelled(self, what: str) -> dict[tuple[str, ...], int]:
        """The counters of one kind by their labels."""
        fields = ((field.split(" "), total) for field, total in self.counters.items())
        return {tuple(parts[1:]): total for parts, total in fields if parts[0] == what}


class FiguresStore:
    """Methods raise EpochChanged, and redis.exceptions.RedisError when Redis cannot serve."""

    def __init__(self, redis: "Redis", *, lease_ms: int, clock: Callable[[], int] | None = None) -> None:
        self._run = Runner(redis, clock)
        self._lease_ms = lease_ms

    async def start(self) -> None:
        """Remember the epoch of the data; call once per process, before anything else."""
        await self._run.start()

    async def read(self) -> Figures:
        """All figures; a worker that was silent for longer than a lease is not counted."""
        return _figures(json.loads(await self._run(_operations, self._lease_ms)))

    async def add(self, counted: Mapping[tuple[str, ...], int]) -> None:
        """Add what this process counted, by kind and labels."""
        pairs = [part for labels, n in counted.items() for part in (" ".join(labels), n)]
        await self._run(_figures_add, *pairs)

    async def hold(self, before: str, after: str) -> None:
        """Keep what was advised, unless another process kept something since `before` was read."""
        await self._run(_scaling_hold, before, after)


def _figures(v: dict[str, Any]) -> Figures:
    counters = dict(v["counters"])
    bounds_ms = tuple(v["bounds"])
    return Figures(
        now_ms=v["now"],
        counters=counters,
        waits=_histogram("wait", counters, bounds_ms),
        calls=_histogram("call", counters, bounds_ms),
        jobs=_histogram("job", counters, bounds_ms),
        names=tuple(_name(name) for name in v["names"]),
        pools=tuple(_pool(pool) for pool in v["pools"]),
        workers=tuple(WorkerFigures(one["slots"], one["running"]) for one in v["workers"]),
        running=v["running"],
        due_soon=v["soon"],
        held=v["held"],
    )


def _histogram(what: str, counters: Mapping[str, int], bounds_ms: tuple[int, ...]) -> Histogram:
    return Histogram(
        tuple(bound / 1000 for bound in bounds_ms),
        tuple(counters.get(f"{what} {bucket}", 0) for bucket in range(1, len(bounds_ms) + 2)),
        counters.get(f"{what} sum", 0) / 1000,
    )


def _name(v: dict[str, Any]) -> NameFigures:
    return NameFigures(
        name=v["name"],
        pools=tuple(v["pools"]),
        jobs=v["jobs"],
        tokens=v["tokens"],
        due_jobs={why: round(jobs) for why, jobs in v["due"].items()},
        parked_jobs={why: round(jobs) for why, jobs in v["parked"].items()},
        waits_for=v["why"],
        oldest_ms=v.get("c"),
        arriving_tokens_per_minute=v["r"],
    )


def _pool(v: dict[str, Any]) -> PoolFigures:
    seen, call_ms, prompt, completion, held = v["call"]
    return PoolFigures(
        pool=v["pool"],
        accounting=v["accounting"],
        estimates=v["estimates"],
        scopes=tuple(_scope(scope) for scope in v["scopes"]),
        paused_until_ms=v.get("pu"),
        call=CallFigures(round(seen), call_ms / 1000, prompt, completion, held),
    )


def _scope(v: dict[str, Any]) -> ScopeFigures:
    return ScopeFigures(
        tokens_configured=v.get("kt"),
        tokens_in_force=v.get("lt"),
        tokens_charged=v["t"],
        tokens_in_flight=v["f"],
        requests_configured=v.get("kr"),
        requests_in_force=v.get("lr"),
        requests=v["r"],
    )
