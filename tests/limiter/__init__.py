"""The limiter's tests. What they share outside of test modules shall tell why an assertion failed, too."""

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in (
            "budget_behaviour",
            "machines",
            "mirror_behaviour",
            "rate_behaviour",
            "reserve_behaviour",
            "rig",
            "window_behaviour",
            "window_machine",
        )
    )
)
