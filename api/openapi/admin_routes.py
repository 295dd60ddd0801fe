"""The routes of administrators."""

from typing import Final

from api.openapi.operation import BODY_PROBLEMS, LIMIT, NEVER_KEPT, operation, path_parameter, query
from api.openapi.schema import JOB_ID, KEY_ID, USER

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
