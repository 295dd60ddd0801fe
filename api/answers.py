"""Answers with their bytes and headers already made: what every route gives back, without a second encoding."""

from collections.abc import Mapping, Sequence

from starlette.responses import Response

from jobs.job_object import dump

__all__ = ["JSON", "PROBLEM_JSON", "Answer", "Empty", "Header", "dump", "json_answer"]

Header = tuple[bytes, bytes]

JSON = b"application/json"
PROBLEM_JSON = b"application/problem+json"


class Answer(Response):
    """A response of bytes that are sent as they are; `headers` are raw and come after type and length."""

    body: bytes

    def __init__(
        self,
        body: bytes,
        status_code: int = 200,
        headers: Sequence[Header] = (),
        content_type: bytes = JSON,
    ) -> None:
        # The base class would encode a mapping of headers and look for a charset: a tenth of a submission's time.
        self.status_code = status_code
        self.background = None
        self.body = body
        self.raw_headers = [
            (b"content-type", content_type),
            (b"content-length", str(len(body)).encode()),
            *headers,
        ]


class Empty(Response):
    """A response that has no body by its status (204, 304)."""

    def __init__(self, status_code: int, headers: Sequence[Header] = ()) -> None:
        self.status_code = status_code
        self.background = None
        self.body = b""
        self.raw_headers = list(headers)


def json_answer(
    value: Mapping[str, object], status_code: int = 200, headers: Sequence[Header] = ()
) -> Answer:
    """An answer whose body is this value as JSON."""
    return Answer(dump(value), status_code, headers)
