"""The OpenAPI description of webhooks: what goes in and out of their routes, and what is sent to receivers (the
document's `webhooks`), by Standard Webhooks 1.0.0.
"""

from typing import Final

from api.openapi.schema import (
    COUNT,
    INT,
    JOB_ID,
    MAYBE_INT,
    MAYBE_TEXT,
    TEXT,
    JSONSchema,
    list_schema,
    object_schema,
    ref,
)

_HEADERS: Final = (
    (
        "webhook-id",
        {"type": "string", "pattern": "^evt_[^.]+$"},
        "The event's id, the same on every attempt.",
    ),
    ("webhook-timestamp", {"type": "string", "pattern": "^[0-9]+$"}, "Unix seconds of this attempt."),
    (
        "webhook-signature",
        {"type": "string", "pattern": "^v1,[A-Za-z0-9+/]+=*( v1,[A-Za-z0-9+/]+=*)*$"},
        "HMAC-SHA256 of `id.timestamp.body` by each secret in force.",
    ),
)


def _webhook(event_type: str, summary: str) -> JSONSchema:
    parameters = [
        {"name": name, "in": "header", "required": True, "schema": schema, "description": description}
        for name, schema, description in _HEADERS
    ]
    told = {"allOf": [ref("Event"), {"properties": {"type": {"const": event_type}}}]}
    return {
        "post": {
            "summary": summary,
            "parameters": parameters,
            "requestBody": {"required": True, "content": {"application/json": {"schema": told}}},
            "responses": {
                "2XX": {"description": "Delivered; whatever the body, it is not read further than 16 KiB."},
                "410": {"description": "A registered endpoint is disabled."},
                "default": {"description": "Sent again by the schedule; redirects are not followed."},
            },
        }
    }


WEBHOOKS: Final[dict[str, JSONSchema]] = {
    "job.succeeded": _webhook("job.succeeded", "A job has its answer"),
    "job.failed": _webhook("job.failed", "A job failed for good"),
    "job.cancelled": _webhook("job.cancelled", "A job was cancelled"),
    "job.expired": _webhook("job.expired", "A job's time has passed"),
}

ENDPOINT_ID: Final[JSONSchema] = {"type": "string", "pattern": "^we_[0-7][0-9A-HJKMNP-TV-Z]{25}$"}
DELIVERY_ID: Final[JSONSchema] = {"type": "string", "pattern": "^dlv_[0-7][0-9A-HJKMNP-TV-Z]{25}_[0-9]{1,2}$"}

_TYPES: Final = list(WEBHOOKS)
_WANTED: Final[JSONSchema] = {
    "type": "array",
    "minItems": 1,
    "maxItems": len(_TYPES),
    "items": {"enum": _TYPES},
}
_NAME: Final[JSONSchema] = {"type": ["string", "null"], "maxLength": 256}
_SECRET: Final[JSONSchema] = {"type": "string", "pattern": "^whsec_[A-Za-z0-9+/]{48}$"}
_URL: Final[JSONSchema] = {"type": "string", "minLength": 1, "maxLength": 2048}

_ENDPOINT: Final[dict[str, JSONSchema]] = {
    "id": ENDPOINT_ID,
    "object": {"const": "webhook_endpoint"},
    "url": TEXT,
    "event_types": _WANTED,
    "name": TEXT,
    "description": {"type": "string", "description": "The name once more."},
    "status": {"enum": ["enabled", "disabled"]},
    "disabled_because": MAYBE_TEXT,
    "created_at": INT,
    "updated_at": INT,
    "signing_secret_hint": TEXT,
}
_DELIVERY: Final[dict[str, JSONSchema]] = {
    "id": DELIVERY_ID,
    "object": {"const": "delivery"},
    "job_id": {"anyOf": [JOB_ID, {"type": "null"}]},
    "event_id": TEXT,
    "event_type": TEXT,
    "endpoint_id": {"anyOf": [ENDPOINT_ID, {"type": "null"}]},
    "url": {**MAYBE_TEXT, "description": "The job's own webhook_url."},
    "status": {"enum": ["pending", "delivered", "failed"]},
    "attempts": COUNT,
    "last_status_code": MAYBE_INT,
    "created_at": INT,
    "next_attempt_at": MAYBE_INT,
    "gives_up_at": MAYBE_INT,
    "failed_because": {**MAYBE_TEXT, "description": "Where no attempt says so."},
}

WEBHOOK_SCHEMAS: Final[dict[str, JSONSchema]] = {
    "Event": object_schema(
        {
            "id": {"type": "string", "pattern": "^evt_[^.]+$"},
            "object": {"const": "event"},
            "type": {"enum": ["job.succeeded", "job.failed", "job.cancelled", "job.expired"]},
            "created_at": INT,
            "timestamp": {"type": "string", "format": "date-time"},
            "data": {
                "type": "object",
                "description": "The job object without `webhook`; where the body would pass 256 KiB, with "
                "`result_url` instead of `result`.",
            },
        }
    ),
    "NewWebhookEndpoint": object_schema(
        {"url": _URL, "event_types": _WANTED, "name": _NAME, "description": _NAME},
        ["url"],
        additionalProperties=False,
    ),
    "WebhookEndpointChange": object_schema(
        {
            "url": {**_URL, "type": ["string", "null"]},
            "event_types": {**_WANTED, "type": ["array", "null"]},
            "name": _NAME,
            "description": _NAME,
            "status": {"enum": ["enabled", "disabled", None]},
        },
        [],
        additionalProperties=False,
    ),
    "WebhookSecretRotation": object_schema(
        {"keep_old_secret_active_for_24_hours": {"type": "boolean", "default": False}},
        [],
        additionalProperties=False,
    ),
    "WebhookEndpointTest": object_schema(
        {"event_type": {"enum": [*_TYPES, "webhook_endpoint.test"], "default": "webhook_endpoint.test"}},
        [],
        additionalProperties=False,
    ),
    "WebhookRecoveryRequest": object_schema(
        {"since": {"type": "integer", "minimum": 0, "maximum": 253_402_300_799}},
        additionalProperties=False,
    ),
    "WebhookEndpoint": object_schema(_ENDPOINT),
    "WebhookEndpointWithSecret": object_schema(_ENDPOINT | {"signing_secret": _SECRET}),
    "WebhookEndpointList": list_schema("WebhookEndpoint"),
    "DeletedWebhookEndpoint": object_schema(
        {"id": ENDPOINT_ID, "object": {"const": "webhook_endpoint.deleted"}, "deleted": {"const": True}}
    ),
    "WebhookSecret": object_schema(
        {"object": {"const": "webhook_secret"}, "signing_secret": _SECRET, "signing_secret_hint": TEXT}
    ),
    "WebhookEndpointTestResult": object_schema(
        {
            "object": {"const": "webhook_endpoint.test"},
            "webhook_endpoint_id": ENDPOINT_ID,
            "event_type": TEXT,
            "success": {"type": "boolean", "description": "Whether the receiver answered."},
            "status_code": MAYBE_INT,
            "delivery_id": DELIVERY_ID,
        }
    ),
    "WebhookRecovery": object_schema(
        {
            "object": {"const": "webhook_endpoint.recovery"},
            "webhook_endpoint_id": ENDPOINT_ID,
            "deliveries": COUNT,
        }
    ),
    "WebhookEventTypeList": object_schema(
        {"object": {"const": "list"}, "data": {"type": "array", "items": {"enum": _TYPES}}}
    ),
    "Delivery": object_schema(_DELIVERY),
    "DeliveryWithLog": object_schema(
        _DELIVERY | {"attempt_log": {"type": "array", "items": ref("DeliveryAttempt")}}
    ),
    "DeliveryAttempt": object_schema(
        {
            "at_ms": INT,
            "duration_ms": COUNT,
            "status_code": MAYBE_INT,
            "error": MAYBE_TEXT,
            "answer": {**MAYBE_TEXT, "description": "The first 1 KiB of what the receiver answered."},
            "charged": {"type": "boolean", "description": "Whether it counts in the schedule."},
        }
    ),
    "DeliveryList": list_schema("Delivery"),
}
