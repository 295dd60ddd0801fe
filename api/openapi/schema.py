"""What schemas are made of: names, numbers and texts that occur in many of them."""

from typing import Any, Final

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
INT: Final[JSONSchema] = {"type": "integer"}
MAYBE_INT: Final[JSONSchema] = {"type": ["integer", "null"]}
COUNT: Final[JSONSchema] = {"type": "integer", "minimum": 0}
MAYBE_COUNT: Final[JSONSchema] = {"type": ["integer", "null"], "minimum": 0}
TEXT: Final[JSONSchema] = {"type": "string"}
MAYBE_TEXT: Final[JSONSchema] = {"type": ["string", "null"]}


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
    """Refers to one of document.SCHEMAS."""
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
