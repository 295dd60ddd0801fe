"""The routes of jobs, limits and usage."""

from typing import Final

from api.openapi.job_schemas import JOB_SCHEMAS
from api.openapi.operation import (
    BODY_PROBLEMS,
    LIMIT,
    NEVER_KEPT,
    header_parameter,
    operation,
    path_parameter,
    query,
)
from api.openapi.responses import LIMIT_HEADERS
from api.openapi.schema import DAY, JOB_ID

_IN_PATH: Final = path_parameter("job_id", JOB_ID)
_WAIT: Final = query(
    "wait",
    {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    "Hold the request up to so many seconds; above 60 means 60.",
)
# RFC 9651 puts texts in quotes; most clients send them bare.
_KEY: Final = r'^([!#-~]|[!#-~][ -~]{0,253}[!-~]|"([ !#-\[\]-~]|\\["\\]){1,255}")$'

SUBMIT: Final = operation(
    "submit_job",
    "jobs",
    "Submit a job",
    answers={202: "Job", 200: "Job"},
    problems=(*BODY_PROBLEMS, 429),
    parameters=(
        header_parameter(
            "Idempotency-Key",
            {"type": "string", "pattern": _KEY},
            "The same key and payload make one job: 1 to 255 printable characters, bare or in double quotes.",
        ),
        header_parameter(
            "Prefer", {"type": "string"}, "wait=N holds the request up to N seconds for the job's end."
        ),
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
    parameters=(_IN_PATH, _WAIT, header_parameter("If-None-Match", {"type": "string"}, "An ETag you have.")),
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
        query("status", JOB_SCHEMAS["Job"]["properties"]["status"], "Only jobs of this status."),
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
    parameters=(_IN_PATH, header_parameter("Last-Event-ID", {"type": "string"}, "The last event you have.")),
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
