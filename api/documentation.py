"""The OpenAPI description of the routes: each is added with one of these (`route(path, handler, **doc.SUBMIT)`).

openapi.py makes the document of them; what they say is held against the running API by tests/fuzz.
"""

from typing import Any, Final

from api.responses import ALWAYS, LIMIT_HEADERS, header, problem
from api.schemas import DAY, JOB_ID, KEY_ID, SCHEMAS, USER, JSONSchema, ref


def query(name: str, schema: JSONSchema, description: str) -> JSONSchema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _header(name: str, schema: JSONSchema, description: str) -> JSONSchema:
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": description}


def path_parameter(name: str, schema: JSONSchema) -> JSONSchema:
    return {"name": name, "in": "path", "required": True, "schema": schema}


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


_IN_PATH: Final = path_parameter("job_id", JOB_ID)
_WAIT: Final = query(
    "wait",
    {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    "Hold the request up to so many seconds; above 60 means 60.",
)
LIMIT: Final = query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, "How many.")
# RFC 9651 puts texts in quotes; most clients send them bare.
_KEY: Final = r'^([!#-~]|[!#-~][ -~]{0,253}[!-~]|"([ !#-\[\]-~]|\\["\\]){1,255}")$'
BODY_PROBLEMS: Final = (400, 408, 413, 415, 422)
NEVER_KEPT: Final = ("cache-control",)

SUBMIT: Final = operation(
    "submit_job",
    "jobs",
    "Submit a job",
    answers={202: "Job", 200: "Job"},
    problems=(*BODY_PROBLEMS, 429),
    parameters=(
        _header(
            "Idempotency-Key",
            {"type": "string", "pattern": _KEY},
            "The same key and payload make one job: 1 to 255 printable characters, bare or in double quotes.",
        ),
        _header("Prefer", {"type": "string"}, "wait=N holds the request up to N seconds for the job's end."),
    ),
    body="Submission",
    headers=(
        *LIMIT_HEADERS,
        "cache-control",
        "location",
        "retry-after",
        "idempotent-replayed",
        "preference-applied",
    ),
)
READ: Final = operation(
    "read_job",
    "jobs",
    "Read a job, or wait for its end",
    answers={200: "Job", 304: None},
    problems=(404, 422),
    parameters=(_IN_PATH, _WAIT, _header("If-None-Match", {"type": "string"}, "An ETag you have.")),
    headers=(*LIMIT_HEADERS, "cache-control", "etag", "retry-after"),
)
LIST: Final = operation(
    "list_jobs",
    "jobs",
    "List your jobs, newest first",
    answers={200: "JobList"},
    problems=(422,),
    parameters=(
        LIMIT,
        query("after", JOB_ID, "The last id of the page before."),
        query("status", SCHEMAS["Job"]["properties"]["status"], "Only jobs of this status."),
        query("custom_id", {"type": "string", "maxLength": 256}, "Only jobs with this custom_id."),
    ),
    headers=(*LIMIT_HEADERS, "cache-control"),
)
CANCEL: Final = operation(
    "cancel_job",
    "jobs",
    "Cancel a job",
    answers={200: "Job"},
    problems=(404, 409),
    parameters=(_IN_PATH,),
    headers=(*LIMIT_HEADERS, "cache-control"),
)
ERASE: Final = operation(
    "erase_job",
    "jobs",
    "Erase a finished job",
    answers={204: None},
    problems=(404, 409),
    parameters=(_IN_PATH,),
    headers=LIMIT_HEADERS,
)
EVENTS: Final = operation(
    "job_events",
    "jobs",
    "A job's changes as server-sent events",
    answers={200: "JobEvent", 204: None},
    problems=(404,),
    parameters=(_IN_PATH, _header("Last-Event-ID", {"type": "string"}, "The last event you have.")),
    media_type="text/event-stream",
    headers=LIMIT_HEADERS,
)
LIMITS: Final = operation(
    "read_limits",
    "limits",
    "Your limits and what is left of them",
    answers={200: "Limits"},
    headers=(*LIMIT_HEADERS, "cache-control"),
)
USAGE: Final = operation(
    "read_usage",
    "limits",
    "What was used",
    answers={200: "Usage"},
    problems=(422,),
    parameters=(
        query(
            "start",
            DAY,
            "The first day (UTC); 30 days before the end if left out.",
        ),
        query("end", DAY, "The last day; today if left out."),
        query(
            "group_by",
            {
                "type": "string",
                "pattern": "^((day|model|user)(,(day|model|user)){0,2})?$",
                "default": "day,model",
            },
            "Some of day, model and (admin) user; with none of them, only the total counts.",
        ),
        query("user", {"type": "string", "maxLength": 256}, "Admin: one user instead of all."),
    ),
    headers=NEVER_KEPT,
)
HEALTHZ: Final = operation(
    "live",
    "operations",
    "Whether the process lives",
    answers={200: "Health"},
    public=True,
    headers=NEVER_KEPT,
)
READYZ: Final = operation(
    "ready",
    "operations",
    "Whether jobs can be accepted",
    answers={200: "Health"},
    public=True,
    headers=NEVER_KEPT,
    problems=(503,),
)
CREATE_USER: Final = operation(
    "create_user",
    "admin",
    "Register a user",
    answers={201: "User"},
    problems=(*BODY_PROBLEMS, 409),
    body="NewUser",
    headers=("location", "cache-control"),
)
LIST_USERS: Final = operation(
    "list_users",
    "admin",
    "List the users",
    answers={200: "UserList"},
    problems=(422,),
    parameters=(
        LIMIT,
        query("after", {"type": "string", "maxLength": 256}, "The last user of the page before."),
    ),
    headers=NEVER_KEPT,
)
READ_USER: Final = operation(
    "read_user",
    "admin",
    "Read a user",
    answers={200: "UserWithLimits"},
    problems=(404,),
    parameters=(path_parameter("user", USER),),
    headers=NEVER_KEPT,
)
CHANGE_USER: Final = operation(
    "change_user",
    "admin",
    "Change a user's tier or single limits",
    answers={200: "User"},
    problems=(*BODY_PROBLEMS, 404),
    parameters=(path_parameter("user", USER),),
    body="UserChange",
    body_required=False,
    headers=NEVER_KEPT,
)
CREATE_KEY: Final = operation(
    "create_key",
    "admin",
    "Make a key",
    answers={201: "Key"},
    problems=BODY_PROBLEMS,
    body="NewKey",
    headers=NEVER_KEPT,
)
LIST_KEYS: Final = operation(
    "list_keys",
    "admin",
    "List the keys",
    answers={200: "KeyList"},
    problems=(422,),
    parameters=(
        LIMIT,
        query("user", {"type": "string", "maxLength": 256}, "Only this user's."),
        query("after", {"type": "string", "maxLength": 256}, "The last id of the page before."),
    ),
    headers=NEVER_KEPT,
)
ROTATE_KEY: Final = operation(
    "rotate_key",
    "admin",
    "Make a new key in place of one",
    answers={201: "Key"},
    problems=(*BODY_PROBLEMS, 404),
    parameters=(path_parameter("key_id", KEY_ID),),
    body="Rotation",
    body_required=False,
    headers=NEVER_KEPT,
)
REVOKE_KEY: Final = operation(
    "revoke_key",
    "admin",
    "Revoke a key",
    answers={204: None},
    problems=(404,),
    parameters=(path_parameter("key_id", KEY_ID),),
    headers=NEVER_KEPT,
)
PROVIDERS: Final = operation(
    "list_providers",
    "admin",
    "Show the providers: their limits, what was learned of them, and what pauses them",
    answers={200: "ProviderList"},
    headers=NEVER_KEPT,
)
RESUME: Final = operation(
    "resume_provider",
    "admin",
    "End a provider's pauses, and forget lower limits that were learned",
    answers={200: "Provider"},
    problems=(404,),
    parameters=(path_parameter("provider", {"type": "string", "minLength": 1}),),
    headers=NEVER_KEPT,
)
_OPEN: Final = (
    "Takes a key with the scope `metrics`, or none where the configuration says `open_metrics: true`."
)
SCALING: Final = operation(
    "scaling",
    "operations",
    "How many workers are worth running now, and why",
    answers={200: "Scaling"},
    headers=NEVER_KEPT,
    description=_OPEN,
)
METRICS: Final = operation(
    "metrics",
    "operations",
    "Metrics as text for Prometheus",
    answers={200: "Metrics"},
    headers=NEVER_KEPT,
    description=_OPEN,
    media_type="text/plain",
)
DEAD: Final = operation(
    "list_dead_jobs",
    "admin",
    "List the jobs that failed for good",
    answers={200: "JobList"},
    problems=(422,),
    parameters=(LIMIT, query("after", JOB_ID, "The last id of the page before.")),
    headers=NEVER_KEPT,
)
REPLAY: Final = operation(
    "replay_dead_job",
    "admin",
    "Submit a dead job anew",
    answers={202: "Job"},
    problems=(404, 422, 429),
    parameters=(path_parameter("job_id", JOB_ID),),
    headers=("location", "cache-control"),
)
