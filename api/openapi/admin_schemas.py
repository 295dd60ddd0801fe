"""Users, keys, providers, and what autoscalers and probes read."""

from typing import Final

from api.openapi.schema import (
    COUNT,
    INT,
    KEY_ID,
    MAYBE_INT,
    TEXT,
    USER,
    JSONSchema,
    list_schema,
    object_schema,
    ref,
)
from jobs.config import Tier


def _overrides() -> JSONSchema:
    limits = Tier.model_json_schema()["properties"]
    plain = ("anyOf", "type", "minimum", "maximum")
    return {
        "type": "object",
        "properties": {
            name: {key: limit[key] for key in plain if key in limit} for name, limit in limits.items()
        },
        "additionalProperties": False,
        "description": "Single limits of this user; null is unlimited, and what is left out is the tier's.",
    }


_OVERRIDES: Final[JSONSchema] = _overrides()
_USER_FIELDS: Final[dict[str, JSONSchema]] = {
    "object": {"const": "user"},
    "user": USER,
    "tier": TEXT,
    "overrides": _OVERRIDES,
    "created_at": INT,
}
_SCOPES: Final[JSONSchema] = {
    "type": "array",
    "minItems": 1,
    "items": {"enum": ["jobs", "usage", "webhooks", "metrics", "admin"]},
}
_EXPIRES_AT: Final[JSONSchema] = {
    "type": ["integer", "null"],
    "minimum": 0,
    "maximum": 253_402_300_799,
    "description": "Unix seconds, in the future; null: never.",
}

ADMIN_SCHEMAS: Final[dict[str, JSONSchema]] = {
    "NewUser": object_schema({"user": USER, "tier": TEXT, "overrides": _OVERRIDES}, ["user", "tier"]),
    "UserChange": object_schema(
        {
            "tier": {"type": ["string", "null"]},
            "overrides": _OVERRIDES,
            "remove_overrides": {
                "type": "array",
                "items": {"enum": list(Tier.model_fields)},
                "description": "Names of overrides to take away, so that the tier's limits count again.",
            },
        },
        [],
    ),
    "User": object_schema(_USER_FIELDS),
    "UserWithLimits": object_schema({**_USER_FIELDS, "limits": ref("Limits")}),
    "Limit": object_schema(
        {
            "name": TEXT,
            "tokens_configured": MAYBE_INT,
            "tokens_in_force": MAYBE_INT,
            "tokens_charged": COUNT,
            "tokens_in_flight": COUNT,
            "tokens_had_less": COUNT,
            "requests_configured": MAYBE_INT,
            "requests_in_force": MAYBE_INT,
            "requests": COUNT,
            "requests_had_less": COUNT,
            "lowered_because": {"type": ["string", "null"]},
            "usual_call_ms": MAYBE_INT,
            "margin_deviations": {"type": ["number", "null"]},
            "windows_passed": COUNT,
        }
    ),
    "Pool": object_schema(
        {
            "id": TEXT,
            "accounting": {"enum": ["openai", "anthropic", "actual"]},
            "window": {"enum": ["strict", "mirror"]},
            "estimates": {"enum": ["cap", "learned"]},
            "paused_until": MAYBE_INT,
            "paused_because": {"type": ["string", "null"]},
            "alarm_level": COUNT,
            "answers_seen": COUNT,
            "mean_answer_tokens": MAYBE_INT,
            "limits": {"type": "array", "items": ref("Limit")},
        }
    ),
    "Provider": object_schema(
        {
            "object": {"const": "provider"},
            "id": TEXT,
            "status": {"enum": ["active", "partly_paused", "paused"]},
            "pools": {"type": "array", "items": ref("Pool")},
        }
    ),
    "ProviderList": object_schema(
        {"object": {"const": "list"}, "data": {"type": "array", "items": ref("Provider")}}
    ),
    "Scaling": object_schema(
        {
            "workers": object_schema({"current": COUNT, "recommended": COUNT, "useful_max": MAYBE_INT}),
            "bound_by": {"enum": [None, "provider_tokens", "provider_requests", "provider_paused", "demand"]},
            "reason": TEXT,
            "pools": {
                "type": "array",
                "items": object_schema(
                    {
                        "provider": TEXT,
                        "model": TEXT,
                        "tokens_per_minute": object_schema({"limit": MAYBE_INT, "used": COUNT}),
                        "queued_jobs": COUNT,
                        "queued_tokens": COUNT,
                        "drain_seconds": MAYBE_INT,
                    }
                ),
            },
        }
    ),
    "Metrics": TEXT,
    "UserList": list_schema("User"),
    "NewKey": object_schema(
        {
            "user": USER,
            "tier": {"type": ["string", "null"], "description": "Registers a user that is new on this tier."},
            "scopes": {**_SCOPES, "default": ["jobs", "usage", "webhooks"]},
            "expires_at": _EXPIRES_AT,
        },
        ["user"],
    ),
    "Rotation": object_schema(
        {
            "overlap_s": {"type": "integer", "minimum": 0, "maximum": 2_592_000, "default": 0},
            "expires_at": {**_EXPIRES_AT, "description": "Of the new key; left out, it is the old key's."},
        },
        [],
    ),
    "Key": object_schema(
        {
            "id": KEY_ID,
            "object": {"const": "key"},
            "user": USER,
            "scopes": _SCOPES,
            "created_at": INT,
            "expires_at": MAYBE_INT,
            "last_used_at": MAYBE_INT,
            "key": {
                "type": "string",
                "pattern": "^pk_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$",
                "description": "Only in the answer that makes it.",
            },
        },
        ["id", "object", "user", "scopes", "created_at", "expires_at", "last_used_at"],
    ),
    "KeyList": list_schema("Key"),
    "Health": object_schema({"status": TEXT}),
}
