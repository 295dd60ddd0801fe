"""The OpenAPI description of the routes: each is added with one of these (`route(path, handler, **doc.SUBMIT)`)."""

from typing import Any, Final

from api.schemas import JOB_ID, SCHEMAS, JSONSchema, ref

_TEXT: Final[JSONSchema] = {"type": "string"}


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
        | ({"content": _content(ref(schema), media_type)} if schema else {})
        for status, schema in answers.items()
    }
    for status in sorted(
        {*problems, *(() if public else (401, 403)), 503} - ({503} if name == "live" else set())
    ):
        responses[str(status)] = {
            "description": "A problem",
            "content": _content(ref("Problem"), "application/problem+json"),
        }
    extra: dict[str, Any] = {"parameters": list(parameters), "responses": responses}
    if body:
        extra["requestBody"] = {"required": True, "content": _content(ref(body))}
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
    answers={200: "UserWithLimits"},
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
PROVIDERS: Final = _operation(
    "list_providers",
    "admin",
    "Show the providers: their limits, what was learned of them, and what pauses them",
    answers={200: "ProviderList"},
)
RESUME: Final = _operation(
    "resume_provider",
    "admin",
    "End a provider's pauses, and forget lower limits that were learned",
    answers={200: "Provider"},
    problems=(404,),
    parameters=(_path("provider", _TEXT),),
)
DEAD: Final = _operation(
    "list_dead_jobs",
    "admin",
    "List the jobs that failed for good",
    answers={200: "JobList"},
    problems=(422,),
    parameters=(_LIMIT, _query("after", JOB_ID, "The last id of the page before.")),
)
REPLAY: Final = _operation(
    "replay_dead_job",
    "admin",
    "Submit a dead job anew",
    answers={202: "Job"},
    problems=(404, 422, 429),
    parameters=(_path("job_id", JOB_ID),),
)
