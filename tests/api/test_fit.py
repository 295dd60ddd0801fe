"""Which jobs could never run, and what would fit instead."""

from typing import Any

import pytest

from api.errors import Problem
from api.fit import check_fit
from jobs.config import Config
from jobs.tokens.estimate import Estimate, answer_count, output_cap
from tests.api.harness import CONFIG, config

ROUTED = config(routes={"both": ["sim/small", "sim/m"]})


def check(prompt_tokens: int, body: dict[str, Any], name: str = "m", configuration: Config = ROUTED) -> None:
    pools = configuration.pools(name)
    output = max(
        answer_count(body) * output_cap(body, pool.model_settings.max_output_tokens) for pool in pools
    )
    check_fit(body, Estimate(prompt_tokens, output), pools, prompt_limit_tokens=150_000)


def fits(prompt_tokens: int, body: dict[str, Any], name: str = "m", **more: Any) -> object:
    with pytest.raises(Problem) as caught:
        check(prompt_tokens, body, name, **more)
    assert caught.value.code == "job_too_large"
    return caught.value.extra["fits"]


def test_what_just_fits_is_taken() -> None:
    check(150_000 - 30_000, {"max_tokens": 4096})
    check(128_000 - 4096, {})
    check(4_000, {"max_tokens": 2_000}, "small")


def test_a_prompt_beyond_the_limit_is_refused() -> None:
    assert fits(150_001, {"max_tokens": 1}) == {"prompt_tokens": 150_000}


def test_more_than_a_minute_of_the_provider_is_refused() -> None:
    assert fits(120_000, {"n": 20, "max_tokens": 4_001}) == {"total_tokens": 200_000}
    assert fits(4_001, {"max_tokens": 2_000}, "small") == {"total_tokens": 6_000}


def test_more_than_the_context_is_refused() -> None:
    assert fits(127_990, {"max_tokens": 11}) == {"context_tokens": 128_000}
    assert fits(125_000, {}) == {"context_tokens": 128_000}


def test_answers_share_the_window_but_not_the_context() -> None:
    check(100_000, {"n": 20, "max_tokens": 4_096})


def test_a_cap_above_the_models_is_refused() -> None:
    assert fits(10, {"max_tokens": 4097}) == {"output_tokens": 4096}
    assert fits(10, {"max_completion_tokens": 2001}, "small") == {"output_tokens": 2000}


def test_a_route_takes_what_one_of_its_pools_takes() -> None:
    check(100_000, {"max_tokens": 2_000}, "both")
    assert fits(120_000, {"n": 100, "max_tokens": 1_000}, "both") == {"total_tokens": 200_000}


def test_a_routes_cap_suits_all_of_its_pools() -> None:
    assert fits(10, {"max_tokens": 2_001}, "both") == {"output_tokens": 2_000}


def test_without_limits_everything_fits() -> None:
    free = Config.model_validate(
        {**CONFIG, "providers": {"p": {"base_url": "http://p", "models": {"m": {}}}}}
    )
    check(149_000, {"n": 128, "max_tokens": 4_096}, configuration=free)
