"""What the headers and the query of a request ask for, read strictly: a typo is told, never silently ignored."""

import re
from urllib.parse import parse_qsl

from starlette.types import Scope

from api.body import header_values
from api.errors import FieldError, invalid

MAX_WAIT_S = 60
MAX_KEY_CHARS = 255
MAX_QUERY_BYTES = 8_192

_JOB_ID = re.compile(r"job_[0-7][0-9A-HJKMNP-TV-Z]{25}")
_PREFER_WAIT = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?\s*(?:;.*)?', re.IGNORECASE)
# A string of a structured field (RFC 9651): quotes and backslashes escaped, nothing but printable ASCII.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(r"[!#-~][ -~]*")


def is_job_id(text: str) -> bool:
    """Whether this could be a job's id; what could not be one is never asked of Redis."""
    return _JOB_ID.fullmatch(text) is not None


def idempotency_key(scope: Scope) -> str | None:
    """The key, bare or as a structured-field string (both name the same key). Raises Problem 422."""
    values = header_values(scope, b"idempotency-key")
    if not values:
        return None
    text = values[0].decode("latin-1").strip(" \t")
    quoted = _QUOTED.fullmatch(text)
    if quoted:
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    elif _BARE.fullmatch(text):
        key = text
    else:
        key = ""
    if len(values) > 1 or not 1 <= len(key) <= MAX_KEY_CHARS:
        raise invalid(
            FieldError(
                "Idempotency-Key", f"must be one text of 1 to {MAX_KEY_CHARS} printable ASCII characters"
            )
        )
    return key


def preferred_wait_s(scope: Scope) -> int:
    """N of `Prefer: wait=N`, at most 60; 0 if it is not there. By RFC 7240 a preference that is no such is ignored."""
    for value in header_values(scope, b"prefer"):
        for preference in value.decode("latin-1").split(","):
            match = _PREFER_WAIT.fullmatch(preference.strip())
            if match:
                return min(MAX_WAIT_S, int(match[1]))
    return 0


class Query:
    """The query of a request; the first of several values of one name counts. Raises Problem 422 for a long one."""

    def __init__(self, scope: Scope) -> None:
        text = scope.get("query_string", b"").decode("latin-1")
        if len(text) > MAX_QUERY_BYTES:
            raise invalid(FieldError("?", f"the query may have at most {MAX_QUERY_BYTES} bytes"))
        self._values: dict[str, str] = {}
        for name, value in parse_qsl(text, keep_blank_values=True, errors="replace"):
            self._values.setdefault(name, value)

    def text(self, name: str, *, most_chars: int = 256) -> str | None:
        """A text, None if it is not there. Raises Problem 422."""
        value = self._values.get(name)
        if value is not None and len(value) > most_chars:
            raise invalid(FieldError(f"?{name}", f"may have at most {most_chars} characters"))
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        """One of several words. Raises Problem 422."""
        value = self._values.get(name)
        if value is not None and value not in choices:
            raise invalid(FieldError(f"?{name}", f"must be one of {', '.join(choices)}"))
        return value

    def count(self, name: str, *, default: int, least: int, most: int) -> int:
        """A whole number within bounds. Raises Problem 422."""
        value = self._values.get(name)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
            raise invalid(FieldError(f"?{name}", f"must be a whole number from {least} to {most}"))
        return int(value)

    def wait_s(self) -> int:
        """N of `?wait=N`, at most 60; 0 if it is not there. Raises Problem 422."""
        return min(MAX_WAIT_S, self.count("wait", default=0, least=0, most=999_999_999))

    def job_id(self, name: str) -> str | None:
        """The id of a job. Raises Problem 422."""
        value = self._values.get(name)
        if value is not None and not is_job_id(value):
            raise invalid(FieldError(f"?{name}", "must be the id of a job"))
        return value
