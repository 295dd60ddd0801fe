"""What a configuration answers, and which values its settings take."""

import dataclasses
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.config import Config, Model, Pool, Provider, Tier

LOCAL = {"base_url": "http://127.0.0.1:8000/v1", "models": {"llama": {}, "gpt-4o": {}}}


def config(**parts: Any) -> Config:
    return Config.model_validate(parts)


def provider(**settings: Any) -> dict[str, Any]:
    return {"base_url": "https://api.example.com/v1", "models": {"m": {}}} | settings


def test_built_in_tiers() -> None:
    tiers = Config().tiers

    assert tiers == {
        "free": Tier(
            requests_per_minute=20,
            block_s=60,
            requests_per_day=None,
            tokens_per_day=50_000,
            max_concurrent=5,
            max_queued_jobs=1000,
            max_queued_tokens=5_000_000,
            weight=1,
        ),
        "pro": Tier(requests_per_minute=60, block_s=60, tokens_per_day=500_000, max_concurrent=20, weight=4),
        "enterprise": Tier(requests_per_minute=600, block_s=10, tokens_per_day=None, weight=16),
    }


def test_built_in_provider() -> None:
    (name, openai), *others = Config().providers.items()

    assert name == "openai"
    assert not others
    assert openai == Provider(
        base_url="https://api.openai.com/v1",
        api_key_env="OPENAI_API_KEY",
        accounting="openai",
        window="strict",
        window_margin_s=1,
        estimates="cap",
        tokens_per_minute=200_000,
        requests_per_minute=5000,
        models={
            "gpt-4o-mini": Model(
                tokens_per_minute=100_000,
                context_tokens=128_000,
                max_output_tokens=4096,
                encoding="o200k_base",
            ),
            "gpt-4o": Model(context_tokens=128_000, max_output_tokens=4096, encoding="o200k_base"),
        },
        timeout_s=120,
    )


def test_without_a_word_about_it_a_key_is_required_and_nobody_is_trusted() -> None:
    built_in = Config()

    assert built_in.anonymous is None
    assert built_in.trusted_proxies == ()
    assert built_in.open_metrics is False
    assert built_in.webhooks.allow_http is False
    assert built_in.webhooks.allow == ()


def test_a_given_part_replaces_the_built_in_one_as_a_whole() -> None:
    given = config(tiers={"one": {}}, providers={"p": provider()})

    assert list(given.tiers) == ["one"]
    assert list(given.providers) == ["p"]
    assert given.retention == Config().retention


def test_a_model_of_several_providers_is_served_by_all_in_the_files_order() -> None:
    given = config(providers={"b": LOCAL, "a": LOCAL})

    assert [pool.id for pool in given.pools("gpt-4o")] == ["b/gpt-4o", "a/gpt-4o"]


def test_a_route_is_served_by_its_pools_in_its_own_order() -> None:
    given = config(
        providers={"b": LOCAL, "a": LOCAL}, routes={"chat": ["a/gpt-4o", "b/llama"], "other": ["b/llama"]}
    )

    assert [pool.id for pool in given.pools("chat")] == ["a/gpt-4o", "b/llama"]
    assert given.served_names() == ("llama", "gpt-4o", "chat", "other")


def test_an_unknown_name_has_no_pools() -> None:
    assert Config().pools("gpt-5") == ()
    assert Config().pools("openai/gpt-4o") == ()


def test_a_pool_carries_the_settings_of_both_its_provider_and_its_model() -> None:
    given = config(providers={"local": LOCAL | {"models": {"org/llama:8b": {"context_tokens": 32_000}}}})

    (pool,) = given.all_pools()

    assert pool == Pool(
        provider="local",
        model="org/llama:8b",
        provider_settings=given.providers["local"],
        model_settings=Model(context_tokens=32_000),
    )
    assert pool.id == "local/org/llama:8b"


def test_pools_can_be_keys_of_a_dict() -> None:
    first, second = Config().all_pools()

    assert {first: 1, second: 2}[Config().all_pools()[1]] == 2


def test_lookups_are_made_once() -> None:
    given = Config()

    assert given.pools("gpt-4o") is given.pools("gpt-4o")
    assert given.all_pools() is given.all_pools()
    assert given.served_names() is given.served_names()
    assert given.digest() is given.digest()


def test_a_tier_is_found_by_name_and_a_missing_one_says_which_there_are() -> None:
    assert Config().tier("pro").weight == 4
    with pytest.raises(LookupError, match=r"there is no tier 'gold': .* free, pro, enterprise"):
        Config().tier("gold")


def test_the_longest_timeout_is_that_of_the_slowest_provider() -> None:
    given = config(providers={"a": provider(timeout_s=5), "b": provider(timeout_s=7.5)})

    assert given.longest_timeout_s() == 7.5


def test_digest_is_equal_for_what_means_the_same() -> None:
    implicit = config(tiers={"t": {}}, providers={"p": provider(base_url="https://api.example.com/v1/")})
    explicit = config(tiers={"t": {"weight": 1, "block_s": 60}}, providers={"p": provider(timeout_s=120.0)})

    assert implicit.digest() == explicit.digest()
    assert len(implicit.digest()) == 64


def test_digest_differs_for_any_other_value_and_for_another_order_of_preference() -> None:
    digests = {
        Config().digest(),
        config(open_metrics=True).digest(),
        config(providers={"a": LOCAL, "b": LOCAL}).digest(),
        config(providers={"b": LOCAL, "a": LOCAL}).digest(),
    }

    assert len(digests) == 4


def test_a_changed_copy_is_validated_and_answers_for_itself() -> None:
    given = config(providers={"local": LOCAL})
    given.pools("llama")

    changed = given.model_copy(update={"routes": {"chat": ["local/llama"]}})

    assert [pool.id for pool in changed.pools("chat")] == ["local/llama"]
    assert given.pools("chat") == ()
    with pytest.raises(ValidationError, match="routes"):
        given.model_copy(update={"routes": {"chat": ["local/none"]}})


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().open_metrics = True  # type: ignore[misc]  # that it is refused at run time too is the point
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().all_pools()[0].model = "x"  # type: ignore[misc]  # the same


@pytest.mark.parametrize(
    "given",
    [
        {"tiers": {}},
        {"providers": {}},
        {"providers": {"p": provider(models={})}},
        {"routes": {"chat": []}},
        {"anonymous": {"tier": "none"}},
        {"anonymous": {}},
        {"routes": {"chat": ["openai/none"]}},
        {"routes": {"chat": ["none/gpt-4o"]}},
        {"routes": {"chat": ["gpt-4o"]}},
        {"routes": {"chat": ["openai/gpt-4o", "openai/gpt-4o"]}},
        {"routes": {"gpt-4o": ["openai/gpt-4o-mini"]}},
        {"open_metrics": 1},
        {"trusted_proxies": "10.0.0.0/8"},
        {"unknown": 1},
    ],
)
def test_refused_as_a_whole(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(**given)


LIMITS = [
    "requests_per_minute",
    "requests_per_day",
    "tokens_per_day",
    "max_concurrent",
    "max_queued_jobs",
    "max_queued_tokens",
]


@pytest.mark.parametrize("limit", [*LIMITS, "block_s", "weight"])
@pytest.mark.parametrize("value", ["5", 5.0, True, -1, 10**12 + 1, [], {}])
def test_no_number_of_a_tier_takes_anything_but_a_whole_number_in_range(limit: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Tier.model_validate({limit: value})


@pytest.mark.parametrize("limit", LIMITS)
def test_every_limit_of_a_tier_is_unlimited_when_null_or_left_out(limit: str) -> None:
    assert getattr(Tier(), limit) is None
    assert getattr(Tier.model_validate({limit: None}), limit) is None
    assert getattr(Tier.model_validate({limit: 10**12}), limit) == 10**12


@pytest.mark.parametrize("limit", [limit for limit in LIMITS if limit != "tokens_per_day"])
def test_a_limit_of_zero_is_refused(limit: str) -> None:
    assert getattr(Tier.model_validate({limit: 1}), limit) == 1
    with pytest.raises(ValidationError):
        Tier.model_validate({limit: 0})


def test_a_tier_may_have_no_tokens_and_no_block() -> None:
    tier = Tier(tokens_per_day=0, block_s=0)

    assert (tier.tokens_per_day, tier.block_s) == (0, 0)


@pytest.mark.parametrize(("weight", "good"), [(0, False), (1, True), (1000, True), (1001, False)])
def test_weights_are_1_to_1000(weight: int, good: bool) -> None:
    if good:
        assert Tier(weight=weight).weight == weight
    else:
        with pytest.raises(ValidationError):
            Tier(weight=weight)


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout_s": 0},
        {"timeout_s": 3601},
        {"timeout_s": True},
        {"timeout_s": "5"},
        {"timeout_s": float("inf")},
        {"window_margin_s": 0.09},
        {"window_margin_s": 10.1},
        {"window_margin_s": float("nan")},
        {"window_margin_s": None},
        {"accounting": "azure"},
        {"window": "loose"},
        {"estimates": "max"},
        {"tokens_per_minute": 0},
        {"requests_per_minute": 2.0},
        {"models": {"m": {"encoding": "p50k_base"}}},
        {"models": {"m": {"max_output_tokens": None}}},
        {"models": {"m": {"max_output_tokens": 0}}},
        {"models": {"m": None}},
        {"models": ["m"]},
        {"overshoot": 0.5},
    ],
)
def test_refused_settings_of_a_provider(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Provider.model_validate(provider(**wrong))


@pytest.mark.parametrize(
    "right",
    [
        {"timeout_s": 3600},
        {"timeout_s": 0.5},
        {"window_margin_s": 0.1},
        {"window_margin_s": 10},
        {"accounting": "anthropic", "window": "mirror", "estimates": "learned"},
        {"accounting": "actual"},
        {"tokens_per_minute": 10, "models": {"m": {"tokens_per_minute": 20, "encoding": "cl100k_base"}}},
    ],
)
def test_accepted_settings_of_a_provider(right: dict[str, Any]) -> None:
    accepted = Provider.model_validate(provider(**right))

    assert accepted.model_dump(include=set(right) - {"models"}) == {
        name: value for name, value in right.items() if name != "models"
    }


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1//", "https://api.openai.com/v1"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://[::1]:9000/", "http://[::1]:9000"),
    ],
)
def test_a_base_url_is_kept_without_a_slash_at_its_end(given: str, kept: str) -> None:
    assert Provider.model_validate(provider(base_url=given)).base_url == kept


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com/v1",
        "ftp://api.openai.com",
        "https://",
        "https:///v1",
        "https://user:secret@api.openai.com",
        "https://user@api.openai.com",
        "https://api.openai.com/v1?key=1",
        "https://api.openai.com/v1?",
        "https://api.openai.com/v1#x",
        "https://api.openai.com:99999/v1",
        "https://api.openai.com:0/v1",
        "https://api.openai.com/a b",
        "https://api.openai.com\\@evil.example",
        "https://exämple.com",
        "https://[::1/v1",
        " https://api.openai.com",
        "https://api.openai.com/v1\n",
        5,
    ],
)
def test_a_base_url_that_is_none_is_refused(url: object) -> None:
    with pytest.raises(ValidationError):
        Provider.model_validate(provider(base_url=url))


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcdefghijklmnop",
        "gsk_abcdefghijklmnop",
        "AIzaSyAbcdefghijklmnop",
        "hf_abcdefghijklmnop",
        "0123456789abcdef0123456789abcdef",
        "$OPENAI_API_KEY",
        "OPENAI_API_KEY\n",
        "",
    ],
)
def test_a_key_in_place_of_its_variables_name_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ValidationError, match="the name of the environment variable") as refusal:
        Provider.model_validate(provider(api_key_env=key))

    assert key == "" or key not in str(refusal.value)


def test_a_provider_may_need_no_key() -> None:
    assert Provider.model_validate(provider()).api_key_env is None


@pytest.mark.parametrize("name", ["a", "A9._-x", "9", "x" * 64])
def test_names_of_tiers_and_providers(name: str) -> None:
    given = config(tiers={name: {}}, providers={name: provider()})

    assert given.tier(name) == Tier()
    assert given.all_pools()[0].provider == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "_a", "a b", "a/b", "a:b", "ä", "x" * 65, "a\n", "{a}"])
def test_refused_names_of_tiers_and_providers(name: str) -> None:
    with pytest.raises(ValidationError):
        config(tiers={name: {}})
    with pytest.raises(ValidationError):
        config(providers={name: provider()})


@pytest.mark.parametrize("name", ["gpt-4.1", "meta-llama/Llama-3:8b@latest", "模型", "x" * 128])
def test_names_of_models_and_routes(name: str) -> None:
    as_model = config(providers={"p": provider(models={name: {}})}, routes={"r": [f"p/{name}"]})
    as_route = config(routes={name: ["openai/gpt-4o"]})

    assert [pool.model for pool in as_model.pools(name)] == [name]
    assert as_model.pools("r") == as_model.pools(name)
    assert [pool.id for pool in as_route.pools(name)] == ["openai/gpt-4o"]


@pytest.mark.parametrize("name", ["", "a b", "a\tb", "a\n", "a\u00a0b", "a\u200bb", "a\x00", "x" * 129])
def test_refused_names_of_models_and_routes(name: str) -> None:
    with pytest.raises(ValidationError):
        config(providers={"p": provider(models={name: {}})})
    with pytest.raises(ValidationError):
        config(routes={name: ["openai/gpt-4o"]})


@pytest.mark.parametrize("url", ["/pricing", "https://example.com/pricing?from=penstock"])
def test_upgrade_urls(url: str) -> None:
    assert config(upgrade_url=url).upgrade_url == url


@pytest.mark.parametrize(
    "url", ["", "pricing", "//evil.example", "javascript:alert(1)", "/a b", "/a\r\nSet-Cookie: x"]
)
def test_refused_upgrade_urls(url: str) -> None:
    with pytest.raises(ValidationError):
        config(upgrade_url=url)


def test_trusted_proxies_are_kept_as_networks() -> None:
    given = config(trusted_proxies=["10.0.0.1", "fd00::/8"])

    assert given.trusted_proxies == ("10.0.0.1/32", "fd00::/8")
    assert [str(network) for network in given.trusted_networks()] == ["10.0.0.1/32", "fd00::/8"]


@pytest.mark.parametrize(
    "entry", ["", "proxy.internal", "10.0.0.1/8", "10.1", "fe80::1%eth0", "10.0.0.0/33", 5]
)
def test_refused_trusted_proxies(entry: object) -> None:
    with pytest.raises(ValidationError):
        config(trusted_proxies=[entry])


@pytest.mark.parametrize("part", ["jobs_s", "ledger_days", "usage_days", "dead_days"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "7", None, 10**11])
def test_refused_retention(part: str, value: object) -> None:
    with pytest.raises(ValidationError):
        config(retention={part: value})


@pytest.mark.parametrize("part", ["body_bytes", "prompt_tokens"])
@pytest.mark.parametrize("value", [0, 1.0, None])
def test_refused_limits(part: str, value: object) -> None:
    with pytest.raises(ValidationError):
        config(limits={part: value})
