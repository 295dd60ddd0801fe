"""The rules that span several parts of a configuration: what names something must name what is there.

They look at names alone, so that a file with a wrong value elsewhere still has all its problems
told at once.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

Location = tuple[str | int, ...]
"""Where a setting is: the keys and list positions from the top of the file."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """One name that leads nowhere, or to two things."""

    location: Location
    reason: str


def suggestion(name: str, known: Collection[str]) -> str:
    """`; did you mean "x"?` for the nearest known name, or nothing."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def crossings(
    *,
    tiers: Collection[str],
    anonymous_tier: str | None,
    models: Mapping[str, Collection[str]],
    routes: Mapping[str, Sequence[str]],
) -> tuple[Crossing, ...]:
    """Every rule broken between the parts; `models` are the model names of each provider."""
    return (*_anonymous(tiers, anonymous_tier), *_routes(models, routes))


def _anonymous(tiers: Collection[str], tier: str | None) -> Iterator[Crossing]:
    if tier is not None and tier not in tiers:
        known = ", ".join(tiers)
        reason = f'there is no tier "{tier}" (there are: {known}){suggestion(tier, tiers)}'
        yield Crossing(("anonymous", "tier"), reason)


def _routes(models: Mapping[str, Collection[str]], routes: Mapping[str, Sequence[str]]) -> Iterator[Crossing]:
    pools = [f"{provider}/{model}" for provider, names in models.items() for model in names]
    for name, route in routes.items():
        for provider, served in models.items():
            if name in served:
                reason = f'is also a model of the provider "{provider}"; give the route a name of its own'
                yield Crossing(("routes", name), reason)
                break
        for place, pool in enumerate(route):
            if pool not in pools:
                yield Crossing(("routes", name, place), _no_pool(pool, models, pools))
            elif pool in route[:place]:
                yield Crossing(("routes", name, place), f'names the pool "{pool}" a second time')


def _no_pool(pool: str, models: Mapping[str, Collection[str]], pools: Collection[str]) -> str:
    provider, slash, model = pool.partition("/")
    if not slash:
        reason = f'"{pool}" is not a pool: write provider/model'
    elif provider not in models:
        reason = f'there is no provider "{provider}"'
    else:
        reason = f'the provider "{provider}" has no model "{model}"'
    return reason + suggestion(pool, pools)
