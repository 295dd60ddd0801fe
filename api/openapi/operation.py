"""How a route is described: it is added with what `operation` gives (`route(path, handler, **doc.SUBMIT)`)."""

from typing import Any, Final

from api.openapi.responses import ALWAYS, header, problem
from api.openapi.schema import JSONSchema, ref

BODY_PROBLEMS: Final = (400, 408, 413, 415, 422)
NEVER_KEPT: Final = ("cache-control",)


def query(name: str, schema: JSONSchema, description: str) -> JSONSchema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def header_parameter(name: str, schema: JSONSchema, description: str) -> JSONSchema:
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": description}


def path_parameter(name: str, schema: JSONSchema) -> JSONSchema:
    return {"name": name, "in": "path", "required": True, "schema": schema}


LIMIT: Final = query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, "How many.")


def _content(schema: JSONSchema, media_type: str = "application/json") -> JSONSchema:
    return {media_type: {"schema": schema}}


def operation(
    name: str,
    tag: str,
    summary: str,
    *,
    answers: dict[int, str | None],
    problems: tuple[int, ...] = (),
    parameters: tuple[JSONSchema, ...] = (),
    body: str | None = None,
    body_required: bool = True,
    public: bool = False,
    media_type: str = "application/json",
    headers: tuple[str, ...] = (),
    description: str | None = None,
) -> dict[str, Any]:
    """The settings of one route; `answers` maps each good status to its schema's name (None: no body).

    `headers` names those of RESPONSE_HEADERS that every good answer has, or may have.
    """
    told = {named: header(named) for named in ("x-request-id", *headers)}
    responses: dict[str, JSONSchema] = {
        str(status): {"description": "Success", "headers": told}
        | ({"content": _content(ref(schema), media_type)} if schema else {})
        for status, schema in answers.items()
    }
    own = () if public else (401, 403, 503)
    for status in sorted({*problems, *own, *ALWAYS}):
        responses[str(status)] = problem(status)
    described: dict[str, Any] = {"operationId": name, "tags": [tag], "summary": summary}
    if description:
        described["description"] = description
    if parameters:
        described["parameters"] = list(parameters)
    if body:
        described["requestBody"] = {"required": body_required, "content": _content(ref(body))}
    described["responses"] = responses
    described["security"] = [] if public else [{"key": []}]
    return {"openapi_extra": described}
