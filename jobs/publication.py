"""The configuration in the form the scripts read: what publish.lua writes. All values are text, '' is unlimited."""

import json

from jobs.config import Config, Pool
from limiter.limits import MINUTE_MS


def _text(value: float | None) -> str:
    return "" if value is None else str(value)


def _pool(pool: Pool) -> dict[str, str]:
    provider, model = pool.provider_settings, pool.model_settings
    margin_ms = round(provider.window_margin_s * 1000)
    return {
        "provider": pool.provider,
        "accounting": provider.accounting,
        "mode": provider.window,
        "estimates": provider.estimates,
        "span": _text(MINUTE_MS + margin_ms),
        "margin": _text(margin_ms),
        "timeout": _text(round(provider.timeout_s * 1000)),
        "tokens": _text(provider.tokens_per_minute),
        "requests": _text(provider.requests_per_minute),
        "model_tokens": _text(model.tokens_per_minute),
        "model_requests": _text(model.requests_per_minute),
    }


def publication(config: Config) -> str:
    """The JSON argument of publish.lua."""
    tiers = {
        name: {
            "requests_per_minute": _text(tier.requests_per_minute),
            "block_s": _text(tier.block_s),
            "requests_per_day": _text(tier.requests_per_day),
            "tokens_per_day": _text(tier.tokens_per_day),
            "max_concurrent": _text(tier.max_concurrent),
            "max_queued_jobs": _text(tier.max_queued_jobs),
            "max_queued_tokens": _text(tier.max_queued_tokens),
            "weight": _text(tier.weight),
        }
        for name, tier in config.tiers.items()
    }
    anonymous = config.anonymous
    return json.dumps(
        {
            "tiers": tiers,
            "names": {name: [pool.id for pool in config.pools(name)] for name in config.served_names()},
            "pools": {pool.id: _pool(pool) for pool in config.all_pools()},
            "anonymous": {}
            if anonymous is None
            else {"tier": anonymous.tier, "tokens_per_day": _text(anonymous.tokens_per_day)},
            "retention": {
                "jobs": _text(config.retention.jobs_s * 1000),
                "ledger": _text(config.retention.ledger_days),
                "usage": _text(config.retention.usage_days),
                "dead": _text(config.retention.dead_days),
            },
        }
    )
