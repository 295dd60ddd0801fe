"""The OpenAPI description of what all answers have in common: headers, and one problem per status."""

from http import HTTPStatus
from typing import Final

from api.errors import KINDS
from api.openapi.schema import JSONSchema, ref

ALWAYS: Final = (400, 408, 431, 500)
"""What any request may be answered: no proper HTTP, too slow, too large a head, a mistake of ours."""

_COUNT: Final[JSONSchema] = {"type": "integer", "minimum": 0}
_DURATION: Final[JSONSchema] = {
    "type": "string",
    "pattern": r"^([0-9]+h)?([0-9]+m)?([0-9]+(\.[0-9]+)?s|[0-9]+ms)$",
}


def _header(description: str, schema: JSONSchema, *, required: bool = False) -> JSONSchema:
    return {"description": description, "required": required, "schema": schema}


RESPONSE_HEADERS: Final[dict[str, JSONSchema]] = {
    "x-request-id": _header(
        "The request's own, if it was sane, else a new one.",
        {"type": "string", "pattern": r"^[A-Za-z0-9._-]{1,128}$"},
        required=True,
    ),
    "location": _header(
        "Where what was made is read.", {"type": "string", "pattern": "^/v1/"}, required=True
    ),
    "etag": _header("The version of the body.", {"type": "string", "pattern": '^"[^"]+"$'}, required=True),
    "cache-control": _header("Whether and how it may be kept.", {"type": "string"}, required=True),
    "retry-after": _header("Seconds.", {"type": "integer", "minimum": 1}),
    "idempotent-replayed": _header("The job was there already.", {"const": "true"}),
    "preference-applied": _header(
        "The preference that was followed.", {"type": "string", "pattern": "^wait=[0-9]+$"}
    ),
    "www-authenticate": _header("How to say who you are.", {"const": "Bearer"}, required=True),
    "x-should-retry": _header("For OpenAI's clients, which would retry.", {"const": "false"}, required=True),
    "x-ratelimit-limit-requests": _header("Requests per window.", _COUNT),
    "x-ratelimit-remaining-requests": _header("What is left of them.", _COUNT),
    "x-ratelimit-reset-requests": _header("Until all are back, as Go prints it.", _DURATION),
    "x-ratelimit-limit-tokens": _header("Tokens per day.", _COUNT),
    "x-ratelimit-remaining-tokens": _header("What is left of them.", _COUNT),
    "x-ratelimit-reset": _header("Unix seconds of the next 00:00 UTC.", _COUNT),
    "x-ratelimit-reset-tokens": _header("Until then, as Go prints it.", _DURATION),
    "ratelimit-policy": _header("draft-ietf-httpapi-ratelimit-headers-11", {"type": "string"}),
    "ratelimit": _header("draft-ietf-httpapi-ratelimit-headers-11", {"type": "string"}),
}

LIMIT_HEADERS: Final = tuple(name for name in RESPONSE_HEADERS if "ratelimit" in name)

_OF_PROBLEMS: Final[dict[int, tuple[str, ...]]] = {
    401: ("www-authenticate",),
    409: ("x-should-retry",),
    429: ("retry-after", *LIMIT_HEADERS),
    503: ("retry-after",),
}


def header(name: str) -> JSONSchema:
    """Refers to one of RESPONSE_HEADERS."""
    return {"$ref": f"#/components/headers/{name}"}


def problem(status: int) -> JSONSchema:
    """Refers to one of PROBLEMS."""
    return {"$ref": f"#/components/responses/{_name(status)}"}


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "")


def _problem(status: int) -> JSONSchema:
    kinds = {code: kind.title for code, kind in KINDS.items() if kind.status == status}
    narrowed = {"properties": {"status": {"const": status}, "code": {"enum": list(kinds)}}}
    return {
        "description": "; ".join(f"{title} (`{code}`)" for code, title in kinds.items()),
        "headers": {name: header(name) for name in ("x-request-id", *_OF_PROBLEMS.get(status, ()))},
        "content": {"application/problem+json": {"schema": {"allOf": [ref("Problem"), narrowed]}}},
    }


# 405 is of methods that no operation describes.
PROBLEMS: Final[dict[str, JSONSchema]] = {
    _name(status): _problem(status) for status in sorted({kind.status for kind in KINDS.values()} - {405})
}
