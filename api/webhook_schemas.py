"""The OpenAPI description of what is sent to receivers (the document's `webhooks`), by Standard Webhooks 1.0.0."""

from typing import Final

from api.schemas import JSONSchema, ref

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
