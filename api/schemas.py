"""The OpenAPI description of what goes in and out, written by hand: the routes take raw requests, so nothing could be
read off them. documentation.py describes the routes with it.
"""

from typing import Any, Final

from jobs.config import Tier

JSONSchema = dict[str, Any]

JOB_ID: Final[JSONSchema] = {"type": "string", "pattern": "^job_[0-7][0-9A-HJKMNP-TV-Z]{25}$"}
KEY_ID: Final[JSONSchema] = {"type": "string", "pattern": "^[0-9A-Za-z]{12}$"}
USER: Final[JSONSchema] = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"}
DAY: Final[JSONSchema] = {
    "type": "string",
    "format": "date",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    "minLength": 10,
    "maxLength": 10,
}
_INT: Final[JSONSchema] = {"type": "integer"}
_MAYBE_INT: Final[JSONSchema] = {"type": ["integer", "null"]}
_COUNT: Final[JSONSchema] = {"type": "integer", "minimum": 0}
_MAYBE_COUNT: Final[JSONSchema] = {"type": ["integer", "null"], "minimum": 0}
_TEXT: Final[JSONSchema] = {"type": "string"}


def object_schema(
    properties: dict[str, JSONSchema], required: list[str] | None = None, **more: Any
) -> JSONSchema:
    """An object that has all these properties, or the `required` ones, and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
        **more,
    }


def ref(name: str) -> JSONSchema:
    """Refers to one of SCHEMAS."""
    return {"$ref": f"#/components/schemas/{name}"}


def list_schema(name: str) -> JSONSchema:
    return object_schema(
        {
            "object": {"const": "list"},
            "data": {"type": "array", "items": ref(name)},
            "has_more": {"type": "boolean"},
            "first_id": {"type": ["string", "null"]},
            "last_id": {"type": ["string", "null"]},
        }
    )


_SUBMISSION_FIELDS: Final[dict[str, JSONSchema]] = {
    "endpoint": {"const": "/v1/chat/completions", "default": "/v1/chat/completions"},
    "body": object_schema(
        {
            "model": {"type": "string", "minLength": 1, "maxLength": 128},
            "messages": {
                "type": "array",
                "minItems": 1,
                "items": object_schema(
                    {"role": {"type": "string", "minLength": 1}}, additionalProperties=True
                ),
            },
            "max_tokens": {"type": ["integer", "null"], "minimum": 1, "maximum": 1_000_000_000},
            "max_completion_tokens": {"type": ["integer", "null"], "minimum": 1, "maximum": 1_000_000_000},
            "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 128},
            "stream": {"enum": [False, None]},
        },
        ["model", "messages"],
        additionalProperties=True,
        maxProperties=256,
        description="The provider's own request body; fields that steer the connection are refused.",
    ),
    "custom_id": {"type": ["string", "null"], "maxLength": 256},
    "metadata": {
        "type": ["object", "null"],
        "maxProperties": 16,
        "propertyNames": {"type": "string", "maxLength": 64},
        "additionalProperties": {"type": "string", "maxLength": 512},
    },
    "priority": {"enum": ["interactive", "standard", "batch"], "default": "standard"},
    "webhook_url": {
        "type": ["string", "null"],
        "maxLength": 2048,
        "description": "Where the end of the job is told instead of at the registered endpoints.",
    },
    "not_before": {"type": ["integer", "null"], "minimum": 0, "description": "Unix seconds."},
    "expires_after": {"type": "integer", "minimum": 1, "maximum": 604_800, "default": 86_400},
    "retry": {"enum": ["safe", "never"], "default": "safe"},
    "on_budget": {"enum": ["reject", "wait"], "default": "reject"},
}


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
    "tier": _TEXT,
    "overrides": _OVERRIDES,
    "created_at": _INT,
}
_SUMS: Final[dict[str, JSONSchema]] = {
    "jobs": _COUNT,
    "prompt_tokens": _COUNT,
    "completion_tokens": _COUNT,
    "total_tokens": _COUNT,
    "cached_tokens": _COUNT,
    "cost_usd": {"type": ["number", "null"]},
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

SCHEMAS: Final[dict[str, JSONSchema]] = {
    "Submission": object_schema(_SUBMISSION_FIELDS, ["body"]),
    "Job": object_schema(
        {
            "id": JOB_ID,
            "object": {"const": "job"},
            "status": {"enum": ["queued", "running", "succeeded", "failed", "cancelled", "expired"]},
            "endpoint": _TEXT,
            "model": _TEXT,
            "priority": {"enum": ["interactive", "standard", "batch"]},
            "custom_id": {"type": ["string", "null"]},
            "metadata": {"type": "object", "additionalProperties": _TEXT},
            "created_at": _INT,
            "started_at": _MAYBE_INT,
            "finished_at": _MAYBE_INT,
            "expires_at": _INT,
            "attempts": _COUNT,
            "blocked_on": {
                "enum": [
                    "not_before",
                    "user_budget",
                    "provider_tokens",
                    "provider_requests",
                    "provider_paused",
                    "concurrency",
                    "backoff",
                    None,
                ]
            },
            "position": _MAYBE_INT,
            "estimated_start_at": _MAYBE_INT,
            "estimated_tokens": _COUNT,
            "usage": {"anyOf": [ref("JobUsage"), {"type": "null"}]},
            "cost_usd": {"type": ["number", "null"]},
            "result": {"description": "The provider's response body, unchanged."},
            "error": {"anyOf": [ref("JobError"), {"type": "null"}]},
            "webhook": object_schema(
                {
                    "status": {"enum": ["none", "pending", "delivered", "failed"]},
                    "attempts": _COUNT,
                    "last_status_code": _MAYBE_INT,
                    "next_attempt_at": _MAYBE_INT,
                }
            ),
        }
    ),
    "JobEvent": object_schema(
        {
            "event": {
                "enum": ["status", "done"],
                "description": "`status` now and on each change, then `done`.",
            },
            "id": {
                "type": "string",
                "pattern": r"^[0-9]+(\.done)?$",
                "description": "What Last-Event-ID takes.",
            },
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": ref("Job"),
            },
        },
        description="One of the server-sent events.",
    ),
    "JobUsage": object_schema(
        {
            "prompt_tokens": _COUNT,
            "completion_tokens": _COUNT,
            "total_tokens": _COUNT,
            "cached_tokens": _COUNT,
            "source": {"enum": ["provider", "estimated"]},
        }
    ),
    "JobError": object_schema(
        {"code": _TEXT, "message": _TEXT, "attempt": _MAYBE_INT, "provider_status": _MAYBE_INT}
    ),
    "JobList": list_schema("Job"),
    "Limits": object_schema(
        {
            "user": _TEXT,
            "tier": {"type": ["string", "null"]},
            "requests": object_schema(
                {
                    "limit": _MAYBE_COUNT,
                    "window_s": _COUNT,
                    "remaining": _MAYBE_COUNT,
                    "blocked_until": _MAYBE_INT,
                    "block_s": _COUNT,
                }
            ),
            "tokens": object_schema(
                {
                    "limit": _MAYBE_COUNT,
                    "used": _COUNT,
                    "reserved": _COUNT,
                    "remaining": _MAYBE_COUNT,
                    "resets_at": _INT,
                }
            ),
            "concurrent": object_schema({"limit": _MAYBE_COUNT, "running": _COUNT}),
            "queued": object_schema({"jobs": _COUNT, "tokens": _COUNT, "max_jobs": _MAYBE_COUNT}),
        },
        description="null is unlimited.",
    ),
    "Usage": object_schema(
        {
            "object": {"const": "list"},
            "data": {
                "type": "array",
                "items": object_schema({"day": DAY, "model": _TEXT, "user": _TEXT, **_SUMS}, list(_SUMS)),
            },
            "total": object_schema(_SUMS),
        }
    ),
    "NewUser": object_schema({"user": USER, "tier": _TEXT, "overrides": _OVERRIDES}, ["user", "tier"]),
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
            "name": _TEXT,
            "tokens_configured": _MAYBE_INT,
            "tokens_in_force": _MAYBE_INT,
            "tokens_charged": _COUNT,
            "tokens_in_flight": _COUNT,
            "tokens_had_less": _COUNT,
            "requests_configured": _MAYBE_INT,
            "requests_in_force": _MAYBE_INT,
            "requests": _COUNT,
            "requests_had_less": _COUNT,
            "lowered_because": {"type": ["string", "null"]},
            "usual_call_ms": _MAYBE_INT,
            "margin_deviations": {"type": ["number", "null"]},
            "windows_passed": _COUNT,
        }
    ),
    "Pool": object_schema(
        {
            "id": _TEXT,
            "accounting": {"enum": ["openai", "anthropic", "actual"]},
            "window": {"enum": ["strict", "mirror"]},
            "estimates": {"enum": ["cap", "learned"]},
            "paused_until": _MAYBE_INT,
            "paused_because": {"type": ["string", "null"]},
            "alarm_level": _COUNT,
            "answers_seen": _COUNT,
            "mean_answer_tokens": _MAYBE_INT,
            "limits": {"type": "array", "items": ref("Limit")},
        }
    ),
    "Provider": object_schema(
        {
            "object": {"const": "provider"},
            "id": _TEXT,
            "status": {"enum": ["active", "partly_paused", "paused"]},
            "pools": {"type": "array", "items": ref("Pool")},
        }
    ),
    "ProviderList": object_schema(
        {"object": {"const": "list"}, "data": {"type": "array", "items": ref("Provider")}}
    ),
    "Scaling": object_schema(
        {
            "workers": object_schema({"current": _COUNT, "recommended": _COUNT, "useful_max": _MAYBE_INT}),
            "bound_by": {"enum": [None, "provider_tokens", "provider_requests", "provider_paused", "demand"]},
            "reason": _TEXT,
            "pools": {
                "type": "array",
                "items": object_schema(
                    {
                        "provider": _TEXT,
                        "model": _TEXT,
                        "tokens_per_minute": object_schema({"limit": _MAYBE_INT, "used": _COUNT}),
                        "queued_jobs": _COUNT,
                        "queued_tokens": _COUNT,
                        "drain_seconds": _MAYBE_INT,
                    }
                ),
            },
        }
    ),
    "Metrics": _TEXT,
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
            "created_at": _INT,
            "expires_at": _MAYBE_INT,
            "last_used_at": _MAYBE_INT,
            "key": {
                "type": "string",
                "pattern": "^pk_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$",
                "description": "Only in the answer that makes it.",
            },
        },
        ["id", "object", "user", "scopes", "created_at", "expires_at", "last_used_at"],
    ),
    "KeyList": list_schema("Key"),
    "Health": object_schema({"status": _TEXT}),
    "Problem": object_schema(
        {
            "type": {"type": "string", "pattern": "^urn:penstock:error:"},
            "title": _TEXT,
            "status": _INT,
            "detail": {"type": "string", "minLength": 1},
            "instance": _TEXT,
            "code": _TEXT,
            "error": object_schema(
                {"message": _TEXT, "type": _TEXT, "code": _TEXT, "param": {"type": ["string", "null"]}}
            ),
            "errors": {
                "type": "array",
                "minItems": 1,
                "maxItems": 20,
                "items": object_schema({"pointer": _TEXT, "message": _TEXT}),
                "description": "A JSON pointer into the body, `?name` for a query parameter, or a header's name.",
            },
            "retry_after": {"type": "integer", "minimum": 1},
            "limit": _MAYBE_COUNT,
            "window_s": _COUNT,
            "remaining": _MAYBE_COUNT,
            "reset_at": {"type": "string", "format": "date-time"},
            "estimated_tokens": _COUNT,
            "upgrade_url": _TEXT,
            "fits": {"type": "object", "additionalProperties": _COUNT},
            "models": {"type": "array", "items": _TEXT},
            "rule": {"type": "string", "description": "Which rule for addresses of webhooks refused it."},
            "limit_bytes": _COUNT,
            "limit_fields": _COUNT,
            "silence_s": {"type": "number"},
            "total_s": {"type": "number"},
        },
        ["type", "title", "status", "detail", "instance", "code", "error"],
        description="RFC 9457, with the member `error` that OpenAI's clients read.",
    ),
    "Event": object_schema(
        {
            "id": {"type": "string", "pattern": "^evt_[^.]+$"},
            "object": {"const": "event"},
            "type": {"enum": ["job.succeeded", "job.failed", "job.cancelled", "job.expired"]},
            "created_at": _INT,
            "timestamp": {"type": "string", "format": "date-time"},
            "data": {
                "type": "object",
                "description": "The job object without `webhook`; where the body would pass 256 KiB, with "
                "`result_url` instead of `result`.",
            },
        }
    ),
}

SECURITY_SCHEMES: Final[JSONSchema] = {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "pk_…"}}
