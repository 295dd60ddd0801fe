"""The limiter's tests. What they share outside of test modules shall tell why an assertion failed, too."""

import pytest

for _module in (
    "budget_behaviour",
    "budget_machine",
    "mirror_behaviour",
    "rate_behaviour",
    "rate_machine",
    "reserve_behaviour",
    "rig",
    "settlement_behaviour",
    "window_behaviour",
    "window_machine",
):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")
