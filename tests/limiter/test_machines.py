"""The limiter beside plain models, step by step: most of it on a real Valkey, some on fakeredis."""

import contextlib
from dataclasses import dataclass

import pytest
from fakeredis import FakeRedis, FakeServer
from redis import Redis

from tests.limiter.budget_machine import BudgetMachine
from tests.limiter.machine import LimiterMachine, run
from tests.limiter.rate_machine import RateMachine
from tests.limiter.window_machine import MirrorWindowMachine, WindowMachine


@dataclass(frozen=True, slots=True)
class Share:
    """How much of the work one machine does, and the steps that must come of it."""

    machine: type[LimiterMachine]
    seeds: int
    steps: int


ON_VALKEY = (
    Share(RateMachine, 48, 41_000),
    Share(BudgetMachine, 30, 29_500),
    Share(WindowMachine, 25, 17_500),
    Share(MirrorWindowMachine, 15, 10_500),
)
ON_FAKEREDIS = (
    Share(RateMachine, 1, 800),
    Share(BudgetMachine, 1, 900),
    Share(WindowMachine, 1, 600),
    Share(MirrorWindowMachine, 1, 600),
)


def _name(share: Share) -> str:
    return share.machine.__name__


@pytest.mark.parametrize("share", ON_VALKEY, ids=_name)
def test_scripts_and_model_agree_on_valkey(share: Share, blocking: Redis) -> None:
    taken = run(share.machine, blocking, share.seeds)
    assert taken >= share.steps


@pytest.mark.parametrize("share", ON_FAKEREDIS, ids=_name)
def test_scripts_and_model_agree_on_fakeredis(share: Share) -> None:
    with contextlib.closing(FakeRedis(server=FakeServer())) as client:
        taken = run(share.machine, client, share.seeds)
    assert taken >= share.steps


def test_the_shares_are_a_hundred_thousand_steps() -> None:
    # Each share's test has counted its own, wherever it ran.
    assert sum(share.steps for share in (*ON_VALKEY, *ON_FAKEREDIS)) >= 100_000
