"""The state of pools as an operator sees it, and the one thing he may do about it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.runner import Runner, job_script

if TYPE_CHECKING:
    from redis.asyncio import Redis

_pools = job_script("pools")
_resume = job_script("resume")


@dataclass(frozen=True, slots=True)
class ScopeState:
    """One window: a provider's or a model's own. Tokens and requests per minute; None is unlimited.

    `in_force` limits are the configured ones or lower learned ones (`lowered_because`); `had_less`: by how much the
    provider told that less remained than we thought. `margin_deviations` and `windows_passed` are of learned estimates.
    """

    name: str
    tokens_configured: int | None
    tokens_in_force: int | None
    tokens_charged: int
    tokens_in_flight: int
    tokens_had_less: int
    requests_configured: int | None
    requests_in_force: int | None
    requests: int
    requests_had_less: int
    lowered_because: str | None
    usual_call_ms: int | None
    margin_deviations: float | None
    windows_passed: int


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool; `paused_until_ms` (Unix ms) and `paused_because` only while it is paused.

    `alarm_level`: 0, or how often it was tried in vain since an alarm. `mean_answer_tokens` of `answers_seen`.
    """

    pool: str
    provider: str
    accounting: str
    window: str
    estimates: str
    scopes: tuple[ScopeState, ...]
    paused_until_ms: int | None
    paused_because: str | None
    alarm_level: int
    answers_seen: int
    mean_answer_tokens: int | None


class Pools:
    """Methods raise EpochChanged, and redis.exceptions.RedisError when Redis cannot serve."""

    def __init__(self, redis: "Redis", *, clock: Callable[[], int] | None = None) -> None:
        self._run = Runner(redis, clock)

    async def start(self) -> None:
        """Remember the epoch of the data; call once per process, before anything else."""
        await self._run.start()

    async def states(self, pools: Sequence[str]) -> list[PoolState]:
        """The state of each of these pools ('provider/model') that is configured."""
        return [_state(json.loads(one)) for one in await self._run(_pools, *pools)]

    async def resume(self, pools: Sequence[str]) -> int:
        """End every pause of these pools and forget what was learned of their limits; how many were paused."""
        return int(await self._run(_resume, *pools))


def _state(v: dict[str, Any]) -> PoolState:
    return PoolState(
        pool=v["pool"],
        provider=v["provider"],
        accounting=v["accounting"],
        window=v["mode"],
        estimates=v["estimates"],
        scopes=tuple(_scope(scope) for scope in v["scopes"]),
        paused_until_ms=v.get("pu"),
        paused_because=v.get("pr"),
        alarm_level=v["pl"],
        answers_seen=v["an"],
        mean_answer_tokens=v.get("am"),
    )


def _scope(v: dict[str, Any]) -> ScopeState:
    return ScopeState(
        name=v["name"],
        tokens_configured=v.get("kt"),
        tokens_in_force=v.get("lt"),
        tokens_charged=v["t"],
        tokens_in_flight=v["f"],
        tokens_had_less=v["dt"],
        requests_configured=v.get("kr"),
        requests_in_force=v.get("lr"),
        requests=v["r"],
        requests_had_less=v["dr"],
        lowered_because=v.get("w"),
        usual_call_ms=v.get("d"),
        margin_deviations=v.get("z"),
        windows_passed=v["p"],
    )
