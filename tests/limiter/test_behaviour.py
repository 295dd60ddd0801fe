"""Every behaviour of the limiter, on fakeredis and on a real Valkey."""

import pytest

from tests.limiter import (
    budget_behaviour,
    mirror_behaviour,
    rate_behaviour,
    reserve_behaviour,
    window_behaviour,
)
from tests.limiter.rig import Check, Rig, checks_of

CHECKS = [
    pytest.param(check, id=f"{module.__name__.rpartition('.')[2].removesuffix('_behaviour')}-{check.__name__}")
    for module in (budget_behaviour, mirror_behaviour, rate_behaviour, reserve_behaviour, window_behaviour)
    for check in checks_of(module)
]


@pytest.mark.parametrize("check", CHECKS)
def test_limiter(check: Check, rig: Rig) -> None:
    check(rig)
