"""An example of each body of the OpenAPI document. Tests send those of requests to a real API, and hold those of
answers against what it answers.
"""

from typing import Any, Final

_JOB_ID: Final = "job_01M8FFKSEPNJ3VSKD5EQYQCTMW"
_KEY_ID: Final = "Yp8ZR2swglvU"

_JOB: Final[dict[str, Any]] = {
    "id": _JOB_ID,
    "object": "job",
    "status": "succeeded",
    "endpoint": "/v1/chat/completions",
    "model": "gpt-4o-mini",
    "priority": "standard",
    "custom_id": "row-17",
    "metadata": {"team": "search"},
    "created_at": 1_795_435_200,
    "started_at": 1_795_435_201,
    "finished_at": 1_795_435_203,
    "expires_at": 1_795_438_800,
    "attempts": 1,
    "blocked_on": None,
    "position": None,
    "estimated_start_at": None,
    "estimated_tokens": 73,
    "usage": {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "total_tokens": 12,
        "cached_tokens": 0,
        "source": "provider",
    },
    "cost_usd": 3.15e-06,
    "result": {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}}],
    },
    "error": None,
    "webhook": {"status": "none", "attempts": 0, "last_status_code": None, "next_attempt_at": None},
}
_LIMITS: Final[dict[str, Any]] = {
    "user": "ann",
    "tier": "free",
    "requests": {"limit": 20, "window_s": 60, "remaining": 19, "blocked_until": None, "block_s": 60},
    "tokens": {
        "limit": 50_000,
        "used": 12,
        "reserved": 0,
        "remaining": 49_988,
        "resets_at": 1_795_478_400,
    },
    "concurrent": {"limit": 5, "running": 0},
    "queued": {"jobs": 0, "tokens": 0, "max_jobs": 1000},
}
_SUMS: Final[dict[str, Any]] = {
    "jobs": 1,
    "prompt_tokens": 9,
    "completion_tokens": 3,
    "total_tokens": 12,
    "cached_tokens": 0,
    "cost_usd": 3.15e-06,
}
_USER: Final[dict[str, Any]] = {
    "object": "user",
    "user": "ann",
    "tier": "free",
    "overrides": {"tokens_per_day": 60_000},
    "created_at": 1_795_435_200,
}
_KEY: Final[dict[str, Any]] = {
    "id": _KEY_ID,
    "object": "key",
    "user": "ann",
    "scopes": ["jobs", "usage", "webhooks"],
    "created_at": 1_795_435_200,
    "expires_at": None,
    "last_used_at": None,
}
_ENDPOINT: Final[dict[str, Any]] = {
    "id": "we_01M8FFKSEPNJ3VSKD5EQYQCTMW",
    "object": "webhook_endpoint",
    "url": "https://hooks.example.com/penstock",
    "event_types": ["job.succeeded", "job.failed"],
    "name": "production",
    "description": "production",
    "status": "enabled",
    "disabled_because": None,
    "created_at": 1_795_435_200,
    "updated_at": 1_795_435_200,
    "signing_secret_hint": "whsec_…o5rv",
}
_PROVIDER: Final[dict[str, Any]] = {
    "object": "provider",
    "id": "openai",
    "status": "active",
    "pools": [
        {
            "id": "openai/gpt-4o-mini",
            "accounting": "openai",
            "window": "strict",
            "estimates": "cap",
            "paused_until": None,
            "paused_because": None,
            "alarm_level": 0,
            "answers_seen": 0,
            "mean_answer_tokens": None,
            "limits": [
                {
                    "name": "openai",
                    "tokens_configured": 200_000,
                    "tokens_in_force": 200_000,
                    "tokens_charged": 59,
                    "tokens_in_flight": 0,
                    "tokens_had_less": 0,
                    "requests_configured": 500,
                    "requests_in_force": 500,
                    "requests": 1,
                    "requests_had_less": 0,
                    "lowered_because": None,
                    "usual_call_ms": None,
                    "margin_deviations": None,
                    "windows_passed": 0,
                }
            ],
        }
    ],
}


def _page(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [row],
        "has_more": False,
        "first_id": row[name],
        "last_id": row[name],
    }


EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "Submission": {
        "body": {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": "Say hello"}],
            "max_tokens": 64,
        },
        "custom_id": "row-17",
        "metadata": {"team": "search"},
        "priority": "standard",
        "expires_after": 3600,
        "retry": "safe",
        "on_budget": "reject",
    },
    "Job": _JOB,
    "JobUsage": _JOB["usage"],
    "JobError": {
        "code": "provider_rejected",
        "message": "This model does not take images.",
        "attempt": 1,
        "provider_status": 400,
    },
    "JobList": _page(_JOB, "id"),
    "Limits": _LIMITS,
    "Usage": {
        "object": "list",
        "data": [{"day": "2026-11-23", "model": "gpt-4o-mini", **_SUMS}],
        "total": _SUMS,
    },
    "NewUser": {"user": "ann", "tier": "free", "overrides": {"tokens_per_day": 60_000}},
    "UserChange": {"tier": "free", "overrides": {"tokens_per_day": 60_000}, "remove_overrides": ["weight"]},
    "User": _USER,
    "UserWithLimits": {**_USER, "limits": _LIMITS},
    "UserList": _page(_USER, "user"),
    "NewKey": {"user": "ann", "scopes": ["jobs", "usage", "webhooks"], "expires_at": None},
    "Rotation": {"overlap_s": 86_400},
    "NewWebhookEndpoint": {
        "url": "https://hooks.example.com/penstock",
        "event_types": ["job.succeeded", "job.failed"],
        "description": "production",
    },
    "WebhookEndpointChange": {"status": "disabled"},
    "WebhookSecretRotation": {"keep_old_secret_active_for_24_hours": True},
    "WebhookRecoveryRequest": {"since": 1_795_430_000},
    "WebhookEndpoint": _ENDPOINT,
    "WebhookEndpointList": _page(_ENDPOINT, "id"),
    "Key": {**_KEY, "key": f"pk_{_KEY_ID}_O1ATPDuajYJmO4t3czbcWUbgByL5Za5Zpvq9NtrJjls_1C6Xxs"},
    "KeyList": _page(_KEY, "id"),
    "Provider": _PROVIDER,
    "ProviderList": {"object": "list", "data": [_PROVIDER]},
    "Scaling": {
        "workers": {"current": 2, "recommended": 5, "useful_max": 6},
        "bound_by": "demand",
        "reason": "openai/gpt-4o-mini: 90,000 tokens/min can be sent of 100,000; a worker with 1 slot "
        "carries 19,742 at 3.1 s and 1,020 tokens a job",
        "pools": [
            {
                "provider": "openai",
                "model": "gpt-4o-mini",
                "tokens_per_minute": {"limit": 100_000, "used": 10_000},
                "queued_jobs": 1240,
                "queued_tokens": 1_250_000,
                "drain_seconds": 750,
            }
        ],
    },
    "Health": {"status": "ok"},
    "Problem": {
        "type": "urn:penstock:error:unknown_model",
        "title": "The model is not served here",
        "status": 422,
        "detail": "The model 'gpt-5' is not served here; there are: gpt-4o-mini.",
        "instance": "/v1/jobs",
        "code": "unknown_model",
        "error": {
            "message": "The model 'gpt-5' is not served here; there are: gpt-4o-mini.",
            "type": "invalid_request_error",
            "code": "unknown_model",
            "param": "body.model",
        },
        "models": ["gpt-4o-mini"],
        "errors": [{"pointer": "/body/model", "message": "must be one of: gpt-4o-mini"}],
    },
    "Event": {
        "id": "evt_01M8FFKVHJ6Q0A2Z9Y5N3T1R7B",
        "object": "event",
        "type": "job.succeeded",
        "created_at": 1_795_435_203,
        "timestamp": "2026-11-23T12:00:03Z",
        "data": {name: value for name, value in _JOB.items() if name != "webhook"},
    },
}
