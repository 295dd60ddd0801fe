"""The OpenAPI description, written by hand: the routes take raw requests, so nothing could be read off them."""

from typing import Any, Final

JSONSchema = dict[str, Any]

JOB_ID: Final[JSONSchema] = {"type": "string", "pattern": "^job_[0-7][0-9A-HJKMNP-TV-Z]{25}$"}
_INT: Final[JSONSchema] = {"type": "integer"}
_MAYBE_INT: Final[JSONSchema] = {"type": ["integer", "null"]}
_COUNT: Final[JSONSchema] = {"type": "integer", "minimum": 0}
_TEXT: Final[JSONSchema] = {"type": "string"}


def _object(properties: dict[str, JSONSchema], required: list[str] | None = None, **more: Any) -> JSONSchema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        **more,
    }


def _ref(name: str) -> JSONSchema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list_of(name: str) -> JSONSchema:
    return _object(
        {
            "object": {"const": "list"},
            "data": {"type": "array", "items": _ref(name)},
            "has_more": {"type": "boolean"},
            "first_id": {"type": ["string", "null"]},
            "last_id": {"type": ["string", "null"]},
        }
    )


_SUBMISSION_FIELDS: Final[dict[str, JSONSchema]] = {
    "endpoint": {"const": "/v1/chat/completions", "default": "/v1/chat/completions"},
    "body": _object(
        {
            "model": {"type": "string", "minLength": 1, "maxLength": 128},
            "messages": {
                "type": "array",
                "minItems": 1,
                "items": _object({"role": {"type": "string", "minLength": 1}}, additionalProperties=True),
            },
            "max_tokens": {"type": ["integer", "null"], "minimum": 1},
            "max_completion_tokens": {"type": ["integer", "null"], "minimum": 1},
            "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 128},
            "stream": {"enum": [False, None]},
        },
        ["model", "messages"],
        additionalProperties=True,
        description="The provider's own request body.",
    ),
    "custom_id": {"type": ["string", "null"], "maxLength": 256},
    "metadata": {
        "type": ["object", "null"],
        "maxProperties": 16,
        "propertyNames": {"maxLength": 64},
        "additionalProperties": {"type": "string", "maxLength": 512},
    },
    "priority": {"enum": ["interactive", "standard", "batch"], "default": "standard"},
    "webhook_url": {"type": "null", "description": "This version delivers no webhooks."},
    "not_before": {"type": ["integer", "null"], "minimum": 0, "description": "Unix seconds."},
    "expires_after": {"type": "integer", "minimum": 1, "maximum": 604_800, "default": 86_400},
    "retry": {"enum": ["safe", "never"], "default": "safe"},
    "on_budget": {"enum": ["reject", "wait"], "default": "reject"},
}

_OVERRIDES: Final[JSONSchema] = {
    "type": "object",
    "additionalProperties": _MAYBE_INT,
    "description": "Single limits of this user; null is unlimited, and what is left out is the tier's.",
}

SCHEMAS: Final[dict[str, JSONSchema]] = {
    "Submission": _object(_SUBMISSION_FIELDS, ["body"], additionalProperties=False),
    "Job": _object(
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
            "usage": {"anyOf": [_ref("JobUsage"), {"type": "null"}]},
            "cost_usd": {"type": ["number", "null"]},
            "result": {"description": "The provider's response body, unchanged."},
            "error": {"anyOf": [_ref("JobError"), {"type": "null"}]},
            "webhook": {"type": "object"},
        }
    ),
    "JobUsage": _object(
        {
            "prompt_tokens": _COUNT,
            "completion_tokens": _COUNT,
            "total_tokens": _COUNT,
            "cached_tokens": _COUNT,
            "source": {"enum": ["provider", "estimated"]},
        }
    ),
    "JobError": _object(
        {"code": _TEXT, "message": _TEXT, "attempt": _MAYBE_INT, "provider_status": _MAYBE_INT}
    ),
    "JobList": _list_of("Job"),
    "Limits": {"type": "object"},
    "Usage": {"type": "object"},
    "NewUser": _object(
        {"user": _TEXT, "tier": _TEXT, "overrides": _OVERRIDES}, ["user", "tier"], additionalProperties=False
    ),
    "UserChange": _object(
        {
            "tier": {"type": ["string", "null"]},
            "overrides": _OVERRIDES,
            "remove_overrides": {
                "type": "array",
                "items": _TEXT,
                "description": "Names of overrides to take away, so that the tier's limits count again.",
            },
        },
        [],
        additionalProperties=False,
    ),
    "User": _object(
        {
            "object": {"const": "user"},
            "user": _TEXT,
            "tier": _TEXT,
            "overrides": _OVERRIDES,
            "created_at": _INT,
        }
    ),
    "UserList": _list_of("User"),
    "NewKey": _object(
        {
            "user": _TEXT,
            "tier": {"type": ["string", "null"], "description": "Registers a user that is new on this tier."},
            "scopes": {
                "type": "array",
                "minItems": 1,
                "items": {"enum": ["jobs", "usage", "webhooks", "metrics", "admin"]},
            },
            "expires_at": _MAYBE_INT,
        },
        ["user"],
        additionalProperties=False,
    ),
    "Rotation": _object(
        {
            "overlap_s": {"type": "integer", "minimum": 0, "maximum": 2_592_000, "default": 0},
            "expires_at": {**_MAYBE_INT, "description": "Of the new key; left out, it is the old key's."},
        },
        [],
        additionalProperties=False,
    ),
    "Key": _object(
        {
            "id": _TEXT,
            "object": {"const": "key"},
            "user": _TEXT,
            "scopes": {"type": "array", "items": _TEXT},
            "created_at": _INT,
            "expires_at": _MAYBE_INT,
            "last_used_at": _MAYBE_INT,
            "key": {"type": "string", "description": "Only in the answer that makes it."},
        },
        ["id", "object", "user", "scopes", "created_at", "expires_at", "last_used_at"],
    ),
    "KeyList": _list_of("Key"),
    "Health": _object({"status": _TEXT}),
    "Problem": _object(
        {
            "type": _TEXT,
            "title": _TEXT,
            "status": _INT,
            "detail": _TEXT,
            "instance": _TEXT,
            "code": _TEXT,
            "error": _object(
                {"message": _TEXT, "type": _TEXT, "code": _TEXT, "param": {"type": ["string", "null"]}}
            ),
        },
        additionalProperties=True,
    ),
}

SECURITY_SCHEMES: Final[JSONSchema] = {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "pk_…"}}


def _query(name: str, schema: JSONSchema, description: str) -> JSONSchema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _header(name: str, schema: JSONSchema, description: str) -> JSONSchema:
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": description}


def _path(name: str, schema: JSONSchema) -> JSONSchema:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _content(schema: JSONSchema, media_type: str = "application/json") -> JSONSchema:
    return {media_type: {"schema": schema}}


def _operation(
    name: str,
    tag: str,
    summary: str,
    *,
    answers: dict[int, str | None],
    problems: tuple[int, ...] = (),
    parameters: tuple[JSONSchema, ...] = (),
    body: str | None = None,
    public: bool = False,
    media_type: str = "application/json",
) -> dict[str, Any]:
    """The settings of one route; `answers` maps each good status to its schema's name (None: no body)."""
    responses: dict[str, JSONSchema] = {
        str(status): {"description": "Success"}
        | ({"content": _content(_ref(schema), media_type)} if schema else {})
        for status, schema in answers.items()
    }
    for status in sorted(
        {*problems, *(() if public else (401, 403)), 503} - ({503} if name == "live" else set())
    ):
        responses[str(status)] = {
            "description": "A problem",
            "content": _content(_ref("Problem"), "application/problem+json"),
        }
    extra: dict[str, Any] = {"parameters": list(parameters), "responses": responses}
    if body:
        extra["requestBody"] = {"required": True, "content": _content(_ref(body))}
    if not public:
        extra["security"] = [{"key": []}]
    return {"operation_id": name, "tags": [tag], "summary": summary, "openapi_extra": extra}


_IN_PATH: Final = _path("job_id", JOB_ID)
_WAIT: Final = _query(
    "wait", {"type": "integer", "minimum": 0}, "Hold the request up to so many seconds (60 at most)."
)
_LIMIT: Final = _query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, "How many.")
_BODY_PROBLEMS: Final = (400, 408, 413, 415, 422)

SUBMIT: Final = _operation(
    "submit_job",
    "jobs",
    "Submit a job",
    answers={202: "Job", 200: "Job"},
    problems=(*_BODY_PROBLEMS, 429),
    parameters=(
        _header("Idempotency-Key", {"type": "string"}, "The same key and payload make one job."),
        _header("Prefer", {"type": "string"}, "wait=N holds the request up to N seconds for the job's end."),
    ),
    body="Submission",
)
READ: Final = _operation(
    "read_job",
    "jobs",
    "Read a job, or wait for its end",
    answers={200: "Job", 304: None},
    problems=(404, 422),
    parameters=(_IN_PATH, _WAIT, _header("If-None-Match", {"type": "string"}, "An ETag you have.")),
)
LIST: Final = _operation(
    "list_jobs",
    "jobs",
    "List your jobs, newest first",
    answers={200: "JobList"},
    problems=(422,),
    parameters=(
        _LIMIT,
        _query("after", JOB_ID, "The last id of the page before."),
        _query("status", SCHEMAS["Job"]["properties"]["status"], "Only jobs of this status."),
        _query("custom_id", {"type": "string", "maxLength": 256}, "Only jobs with this custom_id."),
    ),
)
CANCEL: Final = _operation(
    "cancel_job", "jobs", "Cancel a job", answers={200: "Job"}, problems=(404, 409), parameters=(_IN_PATH,)
)
ERASE: Final = _operation(
    "erase_job",
    "jobs",
    "Erase a finished job",
    answers={204: None},
    problems=(404, 409),
    parameters=(_IN_PATH,),
)
EVENTS: Final = _operation(
    "job_events",
    "jobs",
    "A job's changes as server-sent events",
    answers={200: "Job", 204: None},
    problems=(404,),
    parameters=(_IN_PATH, _header("Last-Event-ID", {"type": "string"}, "The last event you have.")),
    media_type="text/event-stream",
)
LIMITS: Final = _operation(
    "read_limits", "limits", "Your limits and what is left of them", answers={200: "Limits"}
)
USAGE: Final = _operation(
    "read_usage",
    "limits",
    "What was used",
    answers={200: "Usage"},
    problems=(422,),
    parameters=(
        _query(
            "start",
            {"type": "string", "format": "date"},
            "The first day (UTC); 30 days before the end if left out.",
        ),
        _query("end", {"type": "string", "format": "date"}, "The last day; today if left out."),
        _query(
            "group_by", {"type": "string", "default": "day,model"}, "Some of day, model and (admin) user."
        ),
        _query("user", {"type": "string"}, "Admin: one user instead of all."),
    ),
)
HEALTHZ: Final = _operation(
    "live", "health", "Whether the process lives", answers={200: "Health"}, public=True
)
READYZ: Final = _operation(
    "ready", "health", "Whether jobs can be accepted", answers={200: "Health"}, public=True
)
CREATE_USER: Final = _operation(
    "create_user",
    "admin",
    "Register a user",
    answers={201: "User"},
    problems=(*_BODY_PROBLEMS, 409),
    body="NewUser",
)
LIST_USERS: Final = _operation(
    "list_users",
    "admin",
    "List the users",
    answers={200: "UserList"},
    problems=(422,),
    parameters=(_LIMIT, _query("after", _TEXT, "The last user of the page before.")),
)
READ_USER: Final = _operation(
    "read_user",
    "admin",
    "Read a user",
    answers={200: "User"},
    problems=(404,),
    parameters=(_path("user", _TEXT),),
)
CHANGE_USER: Final = _operation(
    "change_user",
    "admin",
    "Change a user's tier or single limits",
    answers={200: "User"},
    problems=(*_BODY_PROBLEMS, 404),
    parameters=(_path("user", _TEXT),),
    body="UserChange",
)
CREATE_KEY: Final = _operation(
    "create_key", "admin", "Make a key", answers={201: "Key"}, problems=_BODY_PROBLEMS, body="NewKey"
)
LIST_KEYS: Final = _operation(
    "list_keys",
    "admin",
    "List the keys",
    answers={200: "KeyList"},
    problems=(422,),
    parameters=(
        _LIMIT,
        _query("user", _TEXT, "Only this user's."),
        _query("after", _TEXT, "The last id before."),
    ),
)
ROTATE_KEY: Final = _operation(
    "rotate_key",
    "admin",
    "Make a new key in place of one",
    answers={201: "Key"},
    problems=(*_BODY_PROBLEMS, 404),
    parameters=(_path("key_id", _TEXT),),
    body="Rotation",
)
REVOKE_KEY: Final = _operation(
    "revoke_key",
    "admin",
    "Revoke a key",
    answers={204: None},
    problems=(404,),
    parameters=(_path("key_id", _TEXT),),
)
