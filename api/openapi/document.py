"""The OpenAPI document, made of what the routes were added with; served at /openapi.json, kept in docs/openapi.json.

FastAPI's own generator describes endpoints by their signatures, which ours do not have.
"""

from collections.abc import Iterable
from typing import Any, Final

from starlette.routing import BaseRoute

from api.direct import DirectRoute
from api.openapi.admin_schemas import ADMIN_SCHEMAS
from api.openapi.examples import EXAMPLES
from api.openapi.job_schemas import JOB_SCHEMAS
from api.openapi.problem_schema import PROBLEM_SCHEMA
from api.openapi.responses import PROBLEMS, RESPONSE_HEADERS
from api.openapi.schema import JSONSchema
from api.openapi.webhook_schemas import WEBHOOK_SCHEMAS, WEBHOOKS

SCHEMAS: Final[dict[str, JSONSchema]] = JOB_SCHEMAS | ADMIN_SCHEMAS | PROBLEM_SCHEMA | WEBHOOK_SCHEMAS
"""All that `ref` can refer to."""

_SECURITY_SCHEMES: Final[JSONSchema] = {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "pk_…"}}

_DESCRIPTION: Final = """\
Jobs are submitted with `POST /v1/jobs`, run when the user's budget and the provider's limits both have room, and read,
awaited or listened to under their id. Every error has the shape `Problem`. The whole reference is docs/http.md.
"""

_TAGS: Final = {
    "jobs": "Submit jobs, and fetch what became of them.",
    "limits": "What a user may still use, and what was used.",
    "webhooks": "Where the ends of jobs are told, and what became of each delivery.",
    "operations": "Whether the process lives, and how much there is to do.",
    "admin": "Users, keys, providers and failed jobs; takes the scope `admin`.",
}


def describe(routes: Iterable[BaseRoute], version: str) -> dict[str, Any]:
    """The document; the same for the same routes, whatever the configuration."""
    paths: dict[str, JSONSchema] = {}
    for route in routes:
        if isinstance(route, DirectRoute):
            for method in sorted(route.methods or ()):
                paths.setdefault(route.path, {})[method.lower()] = route.openapi_extra or {}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Penstock",
            "summary": "An asynchronous job queue for LLM calls: fair, token-budgeted, never over the limits.",
            "description": _DESCRIPTION,
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "webhooks": WEBHOOKS,
        "components": {
            "schemas": {
                name: schema | ({"examples": [EXAMPLES[name]]} if name in EXAMPLES else {})
                for name, schema in SCHEMAS.items()
            },
            "headers": RESPONSE_HEADERS,
            "responses": PROBLEMS,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }
