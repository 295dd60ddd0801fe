"""What a seed decides before anything happens: the limits, who takes part, and which faults there will be.

Every kind of fault is left out of about half of the schedules, so that each is also seen without the others.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from jobs.config import Config
from jobs.webhooks import EVENT_TYPES

Accounting = Literal["openai", "anthropic", "actual"]
Fate = Literal[
    "ok", "no_usage", "over_cap", "server_error", "throttled", "too_large", "unauthorized", "quota", "forbidden",
    "rejected", "rejected_usage", "silence", "reset", "reset_charged", "garbled", "refused",
]  # fmt: skip

DAY_MS = 86_400_000
MIDNIGHT_MS = int(datetime(2031, 3, 1, tzinfo=UTC).timestamp() * 1000)
"""A midnight (UTC), the end of a February, that schedules begin near to or far from."""

HOOKED = 0.25
"""The share of schedules with webhooks: they take a third longer than others."""

NETWORK_S = 0.02
"""The longest way from a worker to a provider."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of calls that go wrong (0 to 1), and how often the rest happens in the schedule."""

    lost_requests: float
    lost_answers: float
    slow_calls: float
    slow_connects: float
    lost_messages: float
    poison: float
    kills: int
    freezes: int
    overtakings: int
    drains: int
    flushes: int
    clock_steps: int
    outages: int


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who wants to hear of the ends of jobs, and what becomes of that.

    `own`: the share of jobs with a URL of their own; `endpoints`: id, user, URL and types of those that are registered;
    `troubled`: the share of attempts that go wrong; `dead`: URLs where nobody ever answers well; `cuts`: how often a
    worker dies or is frozen just where a delivery has got to; `acts`: what users do to endpoints and deliveries.
    """

    own: float
    endpoints: tuple[tuple[str, str, str, tuple[str, ...]], ...]
    troubled: float
    dead: frozenset[str]
    cuts: int
    acts: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One schedule. Times in seconds from its beginning; `start_ms` is Redis's time then (Unix ms).

    `users`: the tier of each; `workers`: the slots of each; `names`: what jobs ask for; `waiting`: the share of
    jobs that wait for a budget; `hooks`: None where nobody wants to hear of an end.
    """

    seed: int
    start_ms: int
    length_s: float
    config: Config
    users: dict[str, str]
    workers: tuple[int, ...]
    operations: int
    names: tuple[str, ...]
    waiting: float
    lease_ms: int
    sweep_s: float
    idle_stretch: float
    drain_s: float
    margin_s: float
    fates: dict[Fate, float]
    answer_s: float
    faults: Faults
    clock_slack_s: float
    hooks: Hooks | None

    def random(self, name: str) -> random.Random:
        """A source of its own for each part, so that one part's choices do not move another's."""
        return random.Random(f"{self.seed} {name}")

    def tier(self, user: str) -> str:
        return self.users[user]

    @property
    def registered(self) -> tuple[str, ...]:
        return tuple(user for user in self.users if not user.startswith("ip:"))


def draw(seed: int) -> Plan:
    """The plan of a seed, always the same."""
    chance = random.Random(f"{seed} plan")

    def sometimes(most: float, likely: float = 0.5) -> float:
        return chance.random() * most if chance.random() < likely else 0.0

    def count(most: int, likely: float = 0.5) -> int:
        return chance.randint(1, most) if chance.random() < likely else 0

    # A few go on for longer than a minute and press on the windows for all of it.
    pressed = chance.random() < 0.1
    length_s = chance.uniform(75, 100) if pressed else chance.uniform(6, 25)
    near = chance.random() < 0.4
    start_ms = MIDNIGHT_MS - (round(chance.uniform(0.5, length_s) * 1000) if near else DAY_MS // 2)
    margin_s = chance.choice((1.0, 1.0, 2.0))
    tiers = {"small": _tier(chance, tight=True), "large": _tier(chance, tight=False)}
    users = {f"user{n}": chance.choice(("small", "small", "large")) for n in range(chance.randint(1, 4))}
    anonymous = None
    if chance.random() < 0.3:
        users |= {f"ip:10.0.0.{n}": "small" for n in range(chance.randint(1, 3))}
        budget = tiers["small"]["tokens_per_day"]
        anonymous = {
            "tier": "small",
            "tokens_per_day": None if budget is None else round(budget * chance.uniform(1.0, 2.0)),
        }
    faults = Faults(
        lost_requests=sometimes(0.15),
        lost_answers=0.2 if pressed else sometimes(0.2),
        slow_calls=0.2 if pressed else sometimes(0.1),
        slow_connects=0.5 if pressed else sometimes(0.1),
        lost_messages=chance.choice((0.0, 0.3, 1.0)),
        poison=sometimes(0.1, 0.15),
        kills=count(3),
        freezes=count(3),
        overtakings=count(3, 0.3),
        drains=count(3),
        flushes=count(2, 0.2),
        clock_steps=count(4, 0.4),
        outages=count(2, 0.25),
    )
    config = Config.model_validate(
        {
            "tiers": tiers,
            "anonymous": anonymous,
            "providers": _providers(chance, margin_s, pressed),
            "routes": {"route": ["q/c", "p/a"]},
            "retention": {
                "jobs_s": chance.choice((30, 86_400, 5 * 86_400)),
                "ledger_days": 60,
                "usage_days": 60,
                "dead_days": 30,
            },
        }
    )
    return Plan(
        seed=seed,
        start_ms=start_ms,
        length_s=length_s,
        config=config,
        users=users,
        workers=tuple(chance.randint(1, 4) for _ in range(chance.randint(1, 4))),
        names=chance.choice((("a",), ("a", "b"), ("a", "a", "b", "c", "route"), ("route", "c"))),
        waiting=chance.choice((0.2, 0.5, 0.9)),
        operations=chance.randint(35, 50) if pressed else chance.randint(12, 45),
        lease_ms=chance.choice((3000, 6000, 6000)),
        sweep_s=chance.choice((1.0, 4.0, 6.0)),
        idle_stretch=chance.choice((1.0, 2.0, 4.0)),
        margin_s=margin_s,
        drain_s=chance.choice((1.0, 4.0)),
        fates=_fates(chance),
        answer_s=chance.choice((0.3, 1.5, 4.0, 8.0)),
        faults=faults,
        clock_slack_s=0.3 if faults.clock_steps else 0.0,
        hooks=hooks(seed, users) if random.Random(f"{seed} hooks?").random() < HOOKED else None,
    )


def own_url(user: str, number: int) -> str:
    """A URL that a user's jobs bring along."""
    return f"https://own{number}.example.com/{user}"


def hooks(seed: int, users: Iterable[str]) -> Hooks:
    """The webhooks of a schedule that has some."""
    chance = random.Random(f"{seed} hooks")
    registered = [user for user in users if not user.startswith("ip:")]
    endpoints = []
    for user in registered:
        for number in range(chance.choice((0, 0, 1, 2))):
            types = EVENT_TYPES if chance.random() < 0.6 else tuple(chance.sample(EVENT_TYPES, 2))
            endpoints.append((f"we_{user}_{number}", user, f"https://hook{number}.example.com/{user}", types))
    urls = [url for _, _, url, _ in endpoints] + [own_url(user, n) for user in registered for n in (1, 2)]
    return Hooks(
        own=chance.choice((0.0, 0.3, 0.8)) if endpoints else chance.choice((0.3, 0.8)),
        endpoints=tuple(endpoints),
        troubled=chance.choice((0.0, 0.3, 0.7)),
        dead=frozenset({chance.choice(urls)} if chance.random() < 0.15 else ()),
        cuts=chance.randint(0, 3),
        acts=chance.randint(0, 4),
    )


def _tier(chance: random.Random, *, tight: bool) -> dict[str, Any]:
    return {
        "tokens_per_day": chance.randint(150, 1500) if tight or chance.random() < 0.4 else None,
        "max_concurrent": chance.choice((None, 1, 2, 3)),
        "max_queued_jobs": chance.choice((None, None, 5)),
        "max_queued_tokens": chance.choice((None, None, 1000)),
        "weight": chance.choice((1, 4)),
    }


def _providers(chance: random.Random, margin_s: float, pressed: bool) -> dict[str, Any]:
    accountings: Sequence[Accounting] = ("openai", "anthropic", "actual")

    def limits(tokens: tuple[int, int], likely: float) -> dict[str, Any]:
        return {
            "tokens_per_minute": chance.randint(*tokens) if pressed or chance.random() < likely else None,
            "requests_per_minute": chance.randint(2, 12) if chance.random() < 0.4 else None,
        }

    def provider(models: dict[str, Any]) -> dict[str, Any]:
        common = {
            "base_url": "http://127.0.0.1:9/v1",
            "accounting": chance.choice(accountings),
            "window_margin_s": margin_s,
            "timeout_s": chance.choice((3.0, 8.0, 12.0)),
            "models": models,
        }
        return common | limits((250, 1200), 0.7)

    return {"p": provider({"a": {}, "b": limits((200, 500), 0.5)}), "q": provider({"c": {}})}


def _fates(chance: random.Random) -> dict[Fate, float]:
    rare: Sequence[Fate] = (
        "no_usage", "over_cap", "server_error", "throttled", "too_large", "unauthorized", "quota", "forbidden",
        "rejected", "rejected_usage", "silence", "reset", "reset_charged", "garbled", "refused",
    )  # fmt: skip
    drawn: dict[Fate, float] = {fate: chance.random() for fate in rare if chance.random() < 0.35}
    troubled = chance.choice((0.05, 0.3, 0.6))
    total = sum(drawn.values()) or 1.0
    return {"ok": 1.0 - troubled, **{fate: troubled * share / total for fate, share in drawn.items()}}
