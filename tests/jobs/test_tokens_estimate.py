"""The estimate is the most a job can be charged, because the body goes out with the cap it was made with."""

import pytest

from jobs.config import Config, Model, Pool, Provider
from jobs.tokens.estimate import Estimate, answer_count, estimate, output_cap, with_output_cap
from jobs.tokens.prompt import prompt_tokens

HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello"}]}
HELLO_TOKENS = 9
NO_CAPS: list[object] = [None, 0, -1, "64", 64.0, True, [64], {}]


def _pools(**models: Model) -> tuple[Pool, ...]:
    config = Config(
        providers={
            name: Provider(base_url="https://llm.example/v1", models={name: model})
            for name, model in models.items()
        },
        routes={"any": tuple(f"{name}/{name}" for name in models)},
    )
    return config.pools("any")


def test_estimate_is_the_prompt_and_the_cap_of_its_answer() -> None:
    made = estimate(HELLO | {"max_tokens": 64}, _pools(one=Model()))

    assert made == Estimate(prompt_tokens=HELLO_TOKENS, output_tokens=64)
    assert made.total_tokens == HELLO_TOKENS + 64


def test_without_a_cap_of_the_caller_the_model_s_counts() -> None:
    assert estimate(HELLO, _pools(one=Model(max_output_tokens=512))) == Estimate(HELLO_TOKENS, 512)


def test_each_answer_asked_for_counts() -> None:
    assert estimate(HELLO | {"max_tokens": 64, "n": 3}, _pools(one=Model())) == Estimate(HELLO_TOKENS, 192)


def test_a_route_is_estimated_by_the_pool_that_can_cost_most() -> None:
    pools = _pools(
        small=Model(max_output_tokens=100, encoding="cl100k_base"),
        large=Model(max_output_tokens=900, encoding="o200k_base"),
        middle=Model(max_output_tokens=500, encoding="o200k_base"),
    )
    greek = HELLO | {"messages": [{"role": "user", "content": "Πόσο κοστίζει ένα εισιτήριο για την Πάτρα;"}]}
    of_small, of_large = prompt_tokens(greek, "cl100k_base"), prompt_tokens(greek, "o200k_base")

    assert of_small > of_large
    assert estimate(greek, pools) == Estimate(of_large, 900)
    assert estimate(greek | {"max_tokens": 50}, pools) == Estimate(of_small, 50)


def test_a_prompt_over_the_limit_is_known_to_be_without_counting_it_whole() -> None:
    long = HELLO | {"messages": [{"role": "user", "content": "word " * 200_000}] * 3}

    made = estimate(long, _pools(one=Model()), stop_above_tokens=1_000)

    assert 1_000 < made.prompt_tokens < 20_000


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_caller_s_cap_counts_even_above_the_model_s(field: str) -> None:
    assert output_cap({field: 32}, 4_096) == 32
    assert output_cap({field: 9_999}, 4_096) == 9_999


def test_of_two_caps_the_greater_counts() -> None:
    assert output_cap({"max_tokens": 32, "max_completion_tokens": 64}, 4_096) == 64
    assert output_cap({"max_tokens": 64, "max_completion_tokens": None}, 4_096) == 64


@pytest.mark.parametrize("value", NO_CAPS)
def test_what_is_no_positive_integer_is_no_cap_and_no_number_of_answers(value: object) -> None:
    assert output_cap({"max_tokens": value, "max_completion_tokens": value}, 4_096) == 4_096
    assert answer_count({"n": value}) == 1


@pytest.mark.parametrize(
    ("model", "field"),
    [
        ("gpt-4o-mini", "max_tokens"),
        ("llama-3.1-8b-instruct", "max_tokens"),
        ("openai/gpt-oss-20b", "max_tokens"),
        ("olmo-2", "max_tokens"),
        ("o3", "max_completion_tokens"),
        ("o4-mini-2025-04-16", "max_completion_tokens"),
        ("gpt-5-nano", "max_completion_tokens"),
        ("openai/gpt-5", "max_completion_tokens"),
        ("ft:o4-mini:acme::a1b2", "max_completion_tokens"),
    ],
)
def test_a_body_without_a_cap_gets_one_in_the_field_its_model_takes(model: str, field: str) -> None:
    body = HELLO | {"model": model, "max_tokens": None}

    assert with_output_cap(body, 77) == HELLO | {"model": model, field: 77}


@pytest.mark.parametrize("model", ["gpt-4o-mini", "o3"])
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_cap_of_the_caller_stays_as_it_is(field: str, model: str) -> None:
    body = HELLO | {"model": model, field: 12}

    assert with_output_cap(body, 77) == body


@pytest.mark.parametrize("value", NO_CAPS)
def test_no_body_goes_out_with_a_cap_that_was_not_counted(value: object) -> None:
    assert with_output_cap(HELLO | {"max_tokens": value}, 77) == HELLO | {"max_tokens": 77}
    mixed = HELLO | {"max_completion_tokens": 12, "max_tokens": value}
    assert with_output_cap(mixed, 77) == HELLO | {"max_completion_tokens": 12}


def test_the_caller_s_body_is_not_changed() -> None:
    body = dict(HELLO)

    with_output_cap(body, 77)

    assert body == HELLO
