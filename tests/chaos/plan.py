"""What a seed means: which faults hit whom, and when. A seed gives the same schedule each time, not the same ends."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from tests.chaos.system import LEASE_S, Shape

Kind = Literal[
    "kill worker", "freeze worker", "terminate worker",
    "kill api", "freeze api", "terminate api",
    "kill valkey", "freeze valkey", "full valkey", "read-only valkey", "full disk",
    "cut", "half-cut", "deaf", "slow", "frozen line",
    "provider faults", "freeze provider",
]  # fmt: skip

APIS, WORKERS = 2, 3
FIRST_S = 1.0

_LASTS: Final[Mapping[Kind, tuple[float, float]]] = {
    "kill worker": (0.0, 2.0),
    "freeze worker": (LEASE_S * 0.5, LEASE_S * 2.5),
    "terminate worker": (0.0, 1.0),
    "kill api": (0.0, 2.0),
    "freeze api": (0.5, 2.5),
    "terminate api": (0.0, 1.0),
    "kill valkey": (0.1, 2.0),
    "freeze valkey": (0.5, LEASE_S * 2),
    "full valkey": (0.5, LEASE_S * 2),
    "read-only valkey": (0.5, LEASE_S * 2),
    "full disk": (0.5, LEASE_S * 2),
    "cut": (0.0, 0.0),
    "half-cut": (0.1, 0.8),
    "deaf": (0.3, 2.0),
    "slow": (1.0, 3.0),
    "frozen line": (0.5, LEASE_S * 1.5),
    "provider faults": (1.0, 4.0),
    "freeze provider": (0.5, 1.5),
}
"""How long each takes, in seconds from the least to the most: until what was killed is started again, and so on."""

_ALWAYS: Final[tuple[Kind, ...]] = (
    "kill worker", "freeze worker", "terminate worker", "kill api", "kill valkey", "half-cut", "provider faults",
)  # fmt: skip
_RATES: Final[tuple[str, ...]] = ("500", "429", "reset", "cut", "garbage", "hang", "503")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, at a time from the start and for so long; `target` is the place of an API or a worker."""

    at_s: float
    kind: Kind
    lasts_s: float
    target: int = 0
    rates: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        whom = f" {self.target}" if self.kind.endswith(("worker", "api")) else ""
        rates = " " + " ".join(f"{name}={share:.2f}" for name, share in self.rates) if self.rates else ""
        return f"{self.at_s:5.1f} s  {self.kind}{whom} for {self.lasts_s:.1f} s{rates}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A schedule: faults for `lasts_s` seconds, then none."""

    seed: int
    lasts_s: float
    faults: tuple[Fault, ...]
    shape: Shape


def draw(seed: int, lasts_s: float) -> Plan:
    """The schedule of a seed: the usual faults all once, more of any kind for a longer one, spread over its time."""
    chance = random.Random(f"plan {seed}")
    kinds = list(_ALWAYS)
    kinds += chance.choices(list(_LASTS), k=max(5, round(lasts_s / 2) - len(kinds)))
    chance.shuffle(kinds)
    share_s = (lasts_s - FIRST_S) / len(kinds)
    faults = [
        _fault(kind, FIRST_S + share_s * (place + chance.random()), chance.uniform)
        for place, kind in enumerate(kinds)
    ]
    shape = Shape(
        apis=APIS,
        workers=WORKERS,
        tight=(chance.randrange(600, 1500), chance.randrange(10, 25)),
        drain_s=float(chance.choice((1, 3))),
        slots=chance.choice((3, 8)),
        latency_s=0.2,
        latency_jitter_s=0.15,
    )
    return Plan(seed, lasts_s, tuple(sorted(faults, key=lambda one: one.at_s)), shape)


def _fault(kind: Kind, at_s: float, uniform: Callable[[float, float], float]) -> Fault:
    lasts_s = uniform(*_LASTS[kind])
    target = int(uniform(0, APIS if kind.endswith("api") else WORKERS))
    rates: tuple[tuple[str, float], ...] = ()
    if kind == "provider faults":
        rates = tuple((name, uniform(0.0, 0.15)) for name in _RATES)
    return Fault(at_s, kind, lasts_s, target, rates)
