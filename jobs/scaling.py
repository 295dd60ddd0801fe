"""How many workers are worth running: a pure function from figures to advice. jobs/steady.py keeps it from flapping.

One worker carries `slots * 60 / call seconds` calls a minute. What a call takes of the provider's window depends on
what the provider counts, and when (docs/limits.md). `useful_max` workers carry the provider's whole limit;
`recommended` ones carry what arrives and what waits, drained within DRAIN_S, as far as the limit lets them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from jobs.figures import Figures, NameFigures, PoolFigures
from jobs.steady import Steady

DRAIN_S: Final = 60.0
"""What waits should have started within this time."""
LEAST_CALL_S: Final = 0.01
"""No worker is taken to carry more calls than those of this length."""

Bound = Literal["provider_tokens", "provider_requests", "provider_paused", "demand"]


@dataclass(frozen=True, slots=True)
class PoolAdvice:
    """A pool, and what waits for it first (a route's other pools may take it).

    Tokens are a minute's: the limit in force (None is unlimited), and used, which is charged and in flight. `drain_s`:
    how long the limit takes for what waits and could start; None without one.
    """

    provider: str
    model: str
    limit_tokens: int | None
    used_tokens: int
    queued_jobs: int
    queued_tokens: int
    drain_s: float | None


@dataclass(frozen=True, slots=True)
class Advice:
    """`useful_max` None: no limit binds, or no call has told yet how long they take. `bound_by` None: nothing to do.

    `held` is what the next advice is to be given; see jobs.figures.FiguresStore.hold.
    """

    current: int
    recommended: int
    useful_max: int | None
    bound_by: Bound | None
    reason: str
    pools: tuple[PoolAdvice, ...]
    held: str


@dataclass(slots=True)
class _Load:
    """A pool while it is looked at. Calls are of a minute; `most`: what its own windows and its provider's allow."""

    figures: PoolFigures
    worker_calls: float
    paused: bool
    most: float | None
    most_by: Bound
    calls: float = 0.0

    @property
    def known(self) -> bool:
        return self.figures.call.seen > 0

    @property
    def workers(self) -> float:
        return self.calls / self.worker_calls

    @property
    def most_workers(self) -> float | None:
        return None if self.most is None else self.most / self.worker_calls


def advise(figures: Figures, *, slots: int) -> Advice:
    """Advice by these figures. `slots`: of a worker, where none is there to tell and none was before."""
    steady = Steady.read(figures.held)
    workers = figures.workers
    slots = round(sum(each.slots for each in workers) / len(workers)) if workers else steady.slots or slots
    loads = {pool.pool: _load(pool, slots, figures.now_ms) for pool in figures.pools}
    waiting = _share_out(figures.names, loads)
    need = sum(load.workers for load in loads.values()) + (min(1.0, waiting / slots) if waiting else 0.0)
    limit = _limit(loads.values())
    need = max(need, figures.running / slots)
    active = _active(figures)
    if active:
        need = max(need, 1.0)
    steady = steady.after(figures.now_ms, need if active else 0.0, limit, slots)
    bound_by, reason = _why(figures, loads, slots) if active else (None, "nothing waits, runs or comes due")
    return Advice(
        current=len(workers),
        recommended=steady.recommended,
        useful_max=steady.useful_max,
        bound_by=bound_by,
        reason=reason,
        pools=tuple(_pool_advice(pool, figures.names) for pool in figures.pools),
        held=steady.written(),
    )


def _active(figures: Figures) -> bool:
    """Whether anything is there for a worker, or will be within a minute."""
    waits = any(name.ready_jobs or name.parked_jobs.get("concurrency") for name in figures.names)
    return bool(waits or figures.running or figures.due_soon)


def window_tokens(pool: PoolFigures) -> float:
    """What a usual call takes of a minute's tokens: what it is charged, and its share of what is held in flight."""
    call = pool.call
    used = call.prompt_tokens + call.completion_tokens
    if pool.accounting == "openai":
        return call.held_tokens
    learned = pool.estimates == "learned"
    held = used if learned else max(call.held_tokens, used)
    flying = held - call.prompt_tokens if pool.accounting == "anthropic" else held
    return used + flying * call.seconds / 60


def _load(pool: PoolFigures, slots: int, now_ms: int) -> _Load:
    each = window_tokens(pool)
    most: float | None = None
    by: Bound = "provider_tokens"
    for scope in pool.scopes:
        if scope.tokens_in_force is not None and each > 0:
            calls = scope.tokens_in_force / each
            if most is None or calls < most:
                most, by = calls, "provider_tokens"
        if scope.requests_in_force is not None and (most is None or scope.requests_in_force < most):
            most, by = float(scope.requests_in_force), "provider_requests"
    return _Load(
        figures=pool,
        worker_calls=slots * 60 / max(pool.call.seconds, LEAST_CALL_S),
        paused=pool.paused_until_ms is not None and pool.paused_until_ms > now_ms,
        most=most,
        most_by=by,
    )


def _share_out(names: Iterable[NameFigures], loads: dict[str, _Load]) -> int:
    """Gives each name's calls to its pools, in their order, as far as their limits go. How many jobs wait for pools of
    whose calls nothing is known yet.
    """
    unknown = 0
    for name in names:
        pools = [loads[pool] for pool in name.pools if pool in loads and not loads[pool].paused]
        if pools and not pools[0].known:
            unknown += name.ready_jobs
        tokens = name.arriving_tokens_per_minute + name.ready_tokens * 60 / DRAIN_S
        for load in (pool for pool in pools if pool.known and pool.figures.call.held_tokens > 0):
            each = load.figures.call.held_tokens
            left = None if load.most is None else max(0.0, load.most - load.calls)
            calls = tokens / each if left is None else min(left, tokens / each)
            load.calls += calls
            tokens -= calls * each
    for provider in {load.figures.pool.partition("/")[0] for load in loads.values()}:
        _within_provider([each for pool, each in loads.items() if pool.partition("/")[0] == provider])
    return unknown


def _within_provider(loads: Sequence[_Load]) -> None:
    """Models that share their provider's limits get their shares of them."""
    scope = loads[0].figures.scopes[0]
    tokens = sum(load.calls * window_tokens(load.figures) for load in loads)
    calls = sum(load.calls for load in loads)
    fits = 1.0
    if scope.tokens_in_force is not None and tokens > 0:
        fits = min(fits, scope.tokens_in_force / tokens)
    if scope.requests_in_force is not None and calls > 0:
        fits = min(fits, scope.requests_in_force / calls)
    for load in loads:
        load.calls *= fits


def _limit(loads: Iterable[_Load]) -> float | None:
    """The workers that carry all limits together; None where one is missing, or nothing is known."""
    known = [load for load in loads if load.known]
    if not known or any(load.most is None for load in known):
        return None
    total = 0.0
    for provider in dict.fromkeys(load.figures.pool.partition("/")[0] for load in known):
        of_it = [load for load in known if load.figures.pool.partition("/")[0] == provider]
        total += min(sum(load.most_workers or 0.0 for load in of_it), _shared(of_it))
    return total


def _shared(loads: Sequence[_Load]) -> float:
    """The workers that carry the limits which these models of one provider share, by the mix of their calls."""
    scope = loads[0].figures.scopes[0]
    wanted = sum(load.calls for load in loads)
    weights = [load.calls / wanted if wanted else 1 / len(loads) for load in loads]
    mixed = list(zip(weights, loads, strict=True))
    worker_calls = 1 / sum(weight / load.worker_calls for weight, load in mixed)
    tokens = sum(weight * window_tokens(load.figures) for weight, load in mixed)
    carried = [float("inf")]
    if scope.tokens_in_force is not None and tokens > 0:
        carried.append(scope.tokens_in_force / (tokens * worker_calls))
    if scope.requests_in_force is not None:
        carried.append(scope.requests_in_force / worker_calls)
    return min(carried)


def _why(figures: Figures, loads: dict[str, _Load], slots: int) -> tuple[Bound, str]:
    """What binds the pool that takes most workers, and how that was reckoned."""
    waiting = [name for name in figures.names if name.ready_jobs]
    firsts = [loads[name.pools[0]] for name in waiting if name.pools and name.pools[0] in loads]
    if firsts and all(loads[pool].paused for name in waiting for pool in name.pools if pool in loads):
        return "provider_paused", f"{firsts[0].figures.pool} is paused: what waits cannot be sent"
    load = max(loads.values(), key=lambda each: each.workers, default=None)
    if load is None or load.calls == 0:
        if firsts and not firsts[0].known:
            return (
                "demand",
                f"no call of {firsts[0].figures.pool} has ended yet: one worker finds out how long they take",
            )
        return "demand", "what runs, or is due within a minute, needs a worker"
    call, each = load.figures.call, window_tokens(load.figures)
    bound_by: Bound = load.most_by if load.most is not None and load.calls > 0.99 * load.most else "demand"
    carried = load.worker_calls * each
    wanted = f"{load.calls * each:,.0f} tokens/min can be sent"
    if load.most is not None:
        unit, most = (
            ("requests", load.most) if load.most_by == "provider_requests" else ("tokens", load.most * each)
        )
        wanted += f" of {most:,.0f} {unit}/min" if unit == "requests" else f" of {most:,.0f}"
    return bound_by, (
        f"{load.figures.pool}: {wanted}; a worker with {slots} slot{'' if slots == 1 else 's'} carries {carried:,.0f} "
        f"at {call.seconds:,.1f} s and {each:,.0f} tokens a job"
    )


def _pool_advice(pool: PoolFigures, names: Iterable[NameFigures]) -> PoolAdvice:
    provider, _, model = pool.pool.partition("/")
    mine = [name for name in names if name.pools and name.pools[0] == pool.pool]
    limited = [scope for scope in pool.scopes if scope.tokens_in_force is not None]
    narrowest = min(limited, key=lambda scope: scope.tokens_in_force or 0, default=pool.scopes[-1])
    limit = narrowest.tokens_in_force
    ready = sum(name.ready_tokens for name in mine)
    return PoolAdvice(
        provider=provider,
        model=model,
        limit_tokens=limit,
        used_tokens=narrowest.tokens_charged + narrowest.tokens_in_flight,
        queued_jobs=sum(name.jobs for name in mine),
        queued_tokens=sum(name.tokens for name in mine),
        drain_s=ready * 60 / limit if limit else None,
    )
