"""What an operator can set: tiers, providers with their models, routes, and the rest of penstock.yaml.

Every submission asks a `Config` which pools serve a name, and every claim which limits a pool has; both
answers are worked out once per configuration.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from jobs.config import text
from jobs.config.addresses import IPNetwork, parse_network
from jobs.config.crossing import Crossing, crossings

MAX_COUNT = 10**12
"""No count or limit may be greater: sums of them stay whole numbers in Lua, whose numbers are doubles."""

Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
CountOrZero = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Days = Annotated[int, Field(ge=1, le=36_500)]
PlainName = Annotated[str, AfterValidator(text.plain_name)]
ServedName = Annotated[str, AfterValidator(text.served_name)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Tier(_Settings):
    """The limits of each user on this tier; None is unlimited."""

    requests_per_minute: Count | None = None
    block_s: CountOrZero = 60
    requests_per_day: Count | None = None
    # 0 is a tier whose users may read and cancel but start nothing: a way to suspend them without moving
    # them off the file. For the other limits a 0 would only be a less honest way to say the same.
    tokens_per_day: CountOrZero | None = None
    max_concurrent: Count | None = None
    max_queued_jobs: Count | None = None
    max_queued_tokens: Count | None = None
    weight: Annotated[int, Field(ge=1, le=1000)] = 1


class Anonymous(_Settings):
    """Requests without a key: the tier each address is on, and the tokens a day of all of them together."""

    tier: str
    tokens_per_day: CountOrZero | None = None


class Model(_Settings):
    """One model of a provider, with its own limits where it has any besides the provider's."""

    tokens_per_minute: Count | None = None
    requests_per_minute: Count | None = None
    context_tokens: Count | None = None
    max_output_tokens: Count = 4096
    encoding: Literal["o200k_base", "cl100k_base"] = "o200k_base"


class Provider(_Settings):
    """One provider: where it is, how it counts, and the limits that all its models share."""

    base_url: Annotated[str, AfterValidator(text.base_url)]
    api_key_env: Annotated[str, AfterValidator(text.variable_name)] | None = None
    accounting: Literal["openai", "anthropic", "actual"] = "openai"
    window: Literal["strict", "mirror"] = "strict"
    window_margin_s: Annotated[float, Field(ge=0.1, le=10, allow_inf_nan=False)] = 1.0
    estimates: Literal["cap", "learned"] = "cap"
    tokens_per_minute: Count | None = None
    requests_per_minute: Count | None = None
    models: Annotated[dict[ServedName, Model], Field(min_length=1)]
    timeout_s: Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)] = 120.0


class Webhooks(_Settings):
    """Where deliveries may go besides https on public addresses, and through which proxy, if any.

    `forward_proxy_env` names the environment variable that holds the proxy's URL.
    """

    allow_http: bool = False
    allow: Annotated[tuple[Annotated[str, AfterValidator(text.allow_entry)], ...], Field(strict=False)] = ()
    forward_proxy_env: Annotated[str, AfterValidator(text.proxy_variable)] | None = None


class Retention(_Settings):
    """How long what is finished is kept."""

    jobs_s: Annotated[int, Field(ge=1, le=36_500 * 86_400)] = 86_400
    ledger_days: Days = 7
    usage_days: Days = 90
    dead_days: Days = 30


class Limits(_Settings):
    """The largest submission that is read and counted."""

    body_bytes: Count = 1_048_576
    prompt_tokens: Count = 200_000


@dataclass(frozen=True, slots=True)
class Pool:
    """A provider's model with the settings of both: what a job is admitted to."""

    provider: str
    model: str
    provider_settings: Provider = field(hash=False)
    model_settings: Model = field(hash=False)

    @property
    def id(self) -> str:
        """`provider/model`, unique in a configuration."""
        return f"{self.provider}/{self.model}"


def _built_in_tiers() -> dict[str, Tier]:
    return {
        "free": Tier(
            requests_per_minute=20,
            tokens_per_day=50_000,
            max_concurrent=5,
            max_queued_jobs=1000,
            max_queued_tokens=5_000_000,
        ),
        "pro": Tier(requests_per_minute=60, tokens_per_day=500_000, max_concurrent=20, weight=4),
        "enterprise": Tier(requests_per_minute=600, block_s=10, weight=16),
    }


def _built_in_providers() -> dict[str, Provider]:
    return {
        "openai": Provider(
            base_url="https://api.openai.com/v1",
            api_key_env="OPENAI_API_KEY",
            tokens_per_minute=200_000,
            requests_per_minute=5000,
            models={
                "gpt-4o-mini": Model(tokens_per_minute=100_000, context_tokens=128_000),
                "gpt-4o": Model(context_tokens=128_000),
            },
        )
    }


Route = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


class Config(_Settings):
    """One whole configuration. Without arguments: the built-in one.

    A part that is given replaces the built-in part as a whole; tiers and providers are never merged.
    """

    tiers: dict[PlainName, Tier] = Field(min_length=1, default_factory=_built_in_tiers)
    anonymous: Anonymous | None = None
    upgrade_url: Annotated[str, AfterValidator(text.upgrade_url)] | None = None
    providers: dict[PlainName, Provider] = Field(min_length=1, default_factory=_built_in_providers)
    routes: dict[ServedName, Route] = Field(default_factory=dict)
    webhooks: Webhooks = Webhooks()
    retention: Retention = Retention()
    limits: Limits = Limits()
    trusted_proxies: Annotated[
        tuple[Annotated[str, AfterValidator(text.network)], ...], Field(strict=False)
    ] = ()
    open_metrics: bool = False

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        found = self.crossings()
        if found:
            reasons = "; ".join(f"{'.'.join(map(str, one.location))}: {one.reason}" for one in found)
            raise PydanticCustomError("crossing", "{reasons}", {"reasons": reasons})
        return self

    def crossings(self) -> tuple[Crossing, ...]:
        """Where one part names what another part does not have."""
        return crossings(
            tiers=self.tiers,
            anonymous_tier=self.anonymous.tier if self.anonymous else None,
            models={name: tuple(provider.models) for name, provider in self.providers.items()},
            routes=self.routes,
        )

    def model_copy(self, *, update: Mapping[str, object] | None = None, deep: bool = False) -> Self:
        """A copy with changes, validated like any other; pydantic's own would keep the old lookups."""
        del deep  # frozen all the way down: nothing that could be shared can change
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate(fields | dict(update or {}))

    def served_names(self) -> tuple[str, ...]:
        """Every name a job may ask for: models in the file's order, then routes."""
        return self._served_names

    def pools(self, name: str) -> tuple[Pool, ...]:
        """The pools behind a served name in order of preference; none for an unknown name."""
        return self._pools_by_name.get(name, ())

    def all_pools(self) -> tuple[Pool, ...]:
        """Every pool once, in the file's order."""
        return self._all_pools

    def tier(self, name: str) -> Tier:
        """The limits of a tier; LookupError if the configuration does not have it (any more)."""
        try:
            return self.tiers[name]
        except KeyError:
            known = ", ".join(self.tiers)
            raise LookupError(
                f"there is no tier {name!r}: add it to tiers, or move its users to one of {known}"
            ) from None

    def trusted_networks(self) -> tuple[IPNetwork, ...]:
        """`trusted_proxies`, parsed."""
        return self._trusted_networks

    def longest_timeout_s(self) -> float:
        """The longest a call to any provider may take."""
        return max(provider.timeout_s for provider in self.providers.values())

    def digest(self) -> str:
        """The sha256 of what is in force, in hex: equal for files that differ in comments or layout only.

        The order of entries counts, since the order of providers is one of preference.
        """
        return self._digest

    @cached_property
    def _all_pools(self) -> tuple[Pool, ...]:
        return tuple(
            Pool(provider=name, model=model, provider_settings=provider, model_settings=settings)
            for name, provider in self.providers.items()
            for model, settings in provider.models.items()
        )

    @cached_property
    def _pools_by_name(self) -> dict[str, tuple[Pool, ...]]:
        by_id = {pool.id: pool for pool in self._all_pools}
        models = {
            model: tuple(pool for pool in self._all_pools if pool.model == model)
            for model in _distinct(pool.model for pool in self._all_pools)
        }
        return models | {name: tuple(by_id[pool] for pool in pools) for name, pools in self.routes.items()}

    @cached_property
    def _served_names(self) -> tuple[str, ...]:
        return tuple(self._pools_by_name)

    @cached_property
    def _trusted_networks(self) -> tuple[IPNetwork, ...]:
        return tuple(parse_network(entry) for entry in self.trusted_proxies)

    @cached_property
    def _digest(self) -> str:
        whole = json.dumps(self.model_dump(mode="json"), separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(whole.encode()).hexdigest()


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
