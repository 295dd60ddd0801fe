"""Every behaviour of the limiter, on fakeredis and on a real Valkey."""

import pytest

from tests.limiter import (
    budget_behaviour,
    mirror_behaviour,
    rate_behaviour,
    reserve_behaviour,
    settlement_behaviour,
    window_behaviour,
)
from tests.limiter.rig import Check, Rig, checks_of

MODULES = {
    "rate": rate_behaviour,
    "budget": budget_behaviour,
    "window": window_behaviour,
    "settlement": settlement_behaviour,
    "mirror": mirror_behaviour,
    "reserve": reserve_behaviour,
}
CHECKS = [
    pytest.param(check, id=f"{name}-{check.__name__}")
    for name, module in MODULES.items()
    for check in checks_of(module)
]


@pytest.mark.parametrize("check", CHECKS)
def test_limiter(check: Check, rig: Rig) -> None:
    check(rig)
