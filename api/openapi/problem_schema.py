"""The one shape of all errors."""

from typing import Final

from api.openapi.schema import COUNT, INT, MAYBE_COUNT, TEXT, JSONSchema, object_schema

PROBLEM_SCHEMA: Final[dict[str, JSONSchema]] = {
    "Problem": object_schema(
        {
            "type": {"type": "string", "pattern": "^urn:penstock:error:"},
            "title": TEXT,
            "status": INT,
            "detail": {"type": "string", "minLength": 1},
            "instance": TEXT,
            "code": TEXT,
            "error": object_schema(
                {"message": TEXT, "type": TEXT, "code": TEXT, "param": {"type": ["string", "null"]}}
            ),
            "errors": {
                "type": "array",
                "minItems": 1,
                "maxItems": 20,
                "items": object_schema({"pointer": TEXT, "message": TEXT}),
                "description": "A JSON pointer into the body, `?name` for a query parameter, or a header's name.",
            },
            "retry_after": {"type": "integer", "minimum": 1},
            "limit": MAYBE_COUNT,
            "window_s": COUNT,
            "remaining": MAYBE_COUNT,
            "reset_at": {"type": "string", "format": "date-time"},
            "estimated_tokens": COUNT,
            "upgrade_url": TEXT,
            "fits": {"type": "object", "additionalProperties": COUNT},
            "models": {"type": "array", "items": TEXT},
            "rule": {"type": "string", "description": "Which rule for addresses of webhooks refused it."},
            "limit_bytes": COUNT,
            "limit_fields": COUNT,
            "silence_s": {"type": "number"},
            "total_s": {"type": "number"},
        },
        ["type", "title", "status", "detail", "instance", "code", "error"],
        description="RFC 9457, with the member `error` that OpenAI's clients read.",
    ),
}
