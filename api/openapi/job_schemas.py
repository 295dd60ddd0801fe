"""Jobs, limits and usage."""

from typing import Final, get_args

from api.openapi.schema import (
    COUNT,
    DAY,
    INT,
    JOB_ID,
    MAYBE_COUNT,
    MAYBE_INT,
    TEXT,
    JSONSchema,
    list_schema,
    object_schema,
    ref,
)
from jobs.record import BlockedOn, OnBudget, Priority, RetryPolicy, State, UsageSource

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
    "priority": {"enum": [*get_args(Priority)], "default": "standard"},
    "webhook_url": {
        "type": ["string", "null"],
        "maxLength": 2048,
        "description": "Where the end of the job is told instead of at the registered endpoints.",
    },
    "not_before": {"type": ["integer", "null"], "minimum": 0, "description": "Unix seconds."},
    "expires_after": {"type": "integer", "minimum": 1, "maximum": 604_800, "default": 86_400},
    "retry": {"enum": [*get_args(RetryPolicy)], "default": "safe"},
    "on_budget": {"enum": [*get_args(OnBudget)], "default": "reject"},
}
_SUMS: Final[dict[str, JSONSchema]] = {
    "jobs": COUNT,
    "prompt_tokens": COUNT,
    "completion_tokens": COUNT,
    "total_tokens": COUNT,
    "cached_tokens": COUNT,
    "cost_usd": {"type": ["number", "null"]},
}

JOB_SCHEMAS: Final[dict[str, JSONSchema]] = {
    "Submission": object_schema(_SUBMISSION_FIELDS, ["body"]),
    "Job": object_schema(
        {
            "id": JOB_ID,
            "object": {"const": "job"},
            "status": {"enum": [state.value for state in State]},
            "endpoint": TEXT,
            "model": TEXT,
            "priority": {"enum": [*get_args(Priority)]},
            "custom_id": {"type": ["string", "null"]},
            "metadata": {"type": "object", "additionalProperties": TEXT},
            "created_at": INT,
            "started_at": MAYBE_INT,
            "finished_at": MAYBE_INT,
            "expires_at": INT,
            "attempts": COUNT,
            "blocked_on": {"enum": [*get_args(BlockedOn), None]},
            "position": MAYBE_INT,
            "estimated_start_at": MAYBE_INT,
            "estimated_tokens": COUNT,
            "usage": {"anyOf": [ref("JobUsage"), {"type": "null"}]},
            "cost_usd": {"type": ["number", "null"]},
            "result": {"description": "The provider's response body, unchanged."},
            "error": {"anyOf": [ref("JobError"), {"type": "null"}]},
            "webhook": object_schema(
                {
                    "status": {"enum": ["none", "pending", "delivered", "failed"]},
                    "attempts": COUNT,
                    "last_status_code": MAYBE_INT,
                    "next_attempt_at": MAYBE_INT,
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
            "prompt_tokens": COUNT,
            "completion_tokens": COUNT,
            "total_tokens": COUNT,
            "cached_tokens": COUNT,
            "source": {"enum": [*get_args(UsageSource)]},
        }
    ),
    "JobError": object_schema(
        {"code": TEXT, "message": TEXT, "attempt": MAYBE_INT, "provider_status": MAYBE_INT}
    ),
    "JobList": list_schema("Job"),
    "Limits": object_schema(
        {
            "user": TEXT,
            "tier": {"type": ["string", "null"]},
            "requests": object_schema(
                {
                    "limit": MAYBE_COUNT,
                    "window_s": COUNT,
                    "remaining": MAYBE_COUNT,
                    "blocked_until": MAYBE_INT,
                    "block_s": COUNT,
                }
            ),
            "tokens": object_schema(
                {
                    "limit": MAYBE_COUNT,
                    "used": COUNT,
                    "reserved": COUNT,
                    "remaining": MAYBE_COUNT,
                    "resets_at": INT,
                }
            ),
            "concurrent": object_schema({"limit": MAYBE_COUNT, "running": COUNT}),
            "queued": object_schema({"jobs": COUNT, "tokens": COUNT, "max_jobs": MAYBE_COUNT}),
        },
        description="null is unlimited.",
    ),
    "Usage": object_schema(
        {
            "object": {"const": "list"},
            "data": {
                "type": "array",
                "items": object_schema({"day": DAY, "model": TEXT, "user": TEXT, **_SUMS}, list(_SUMS)),
            },
            "total": object_schema(_SUMS),
        }
    ),
}
