"""The client side of the HTTP API: one request, its answer, or a CommandError that says what to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, TypedDict, TypeVar
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, JsonValue, ValidationError

from cli.errors import CommandError
from cli.output import duration
from cli.wire import Problem
from jobs.environment import Environment

TIMEOUT_S = 15.0
LONGEST_WAIT_S = 60
"""The API waits no longer within one request."""

Parsed = TypeVar("Parsed", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx answer."""

    status: int
    text: str
    json: JsonValue
    url: str

    def read_as(self, kind: type[Parsed]) -> Parsed:
        """The body as a model. Raises CommandError if it is something else."""
        try:
            return kind.model_validate(self.json)
        except ValidationError:
            raise _not_penstock(self.url) from None


class HttpOptions(TypedDict):
    """What every client of the API passes to httpx2."""

    base_url: str
    headers: dict[str, str]
    timeout: float
    trust_env: bool


def http_options(environment: Environment) -> HttpOptions:
    """Where the API is, and with which key it is called."""
    url, key = environment.client_url, environment.client_key
    # From the machine's own network it must reach a Penstock on loopback whatever proxies are set.
    local = httpx2.URL(url).host in ("localhost", "127.0.0.1", "::1")
    headers = {"authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    return {"base_url": url, "headers": headers, "timeout": TIMEOUT_S, "trust_env": not local}


class Client:
    """Calls one API with one key; a context manager that closes its connections."""

    def __init__(self, environment: Environment) -> None:
        self._url = environment.client_url
        self._has_key = environment.client_key is not None
        self._http = httpx2.Client(**http_options(environment))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def call(
        self,
        method: Literal["GET", "POST", "DELETE"],
        path: str,
        *,
        body: JsonValue = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0,
    ) -> Answer:
        """One request; `wait_s` is how long the API was asked to hold it. Raises CommandError."""
        try:
            answer = self._http.request(
                method,
                path,
                json=body,
                params=params,
                headers=headers,
                timeout=httpx2.Timeout(TIMEOUT_S, read=TIMEOUT_S + wait_s),
            )
        except httpx2.ConnectError:
            raise CommandError(
                f"no Penstock answers at {self._url}; start one with `penstock up`, "
                "or say where it is with PENSTOCK_URL"
            ) from None
        except httpx2.TimeoutException:
            raise CommandError(f"{self._url} did not answer in time; look at its /readyz") from None
        except httpx2.HTTPError as error:
            raise CommandError(f"the connection to {self._url} broke ({error}); try again") from None
        if not answer.is_success:
            raise self._refusal(answer)
        try:
            return Answer(answer.status_code, answer.text, answer.json(), self._url)
        except ValueError:
            raise _not_penstock(self._url) from None

    def _refusal(self, answer: httpx2.Response) -> CommandError:
        try:
            problem = Problem.model_validate_json(answer.content)
        except ValidationError:
            return CommandError(
                f"{self._url} answered {answer.status_code}; is that a Penstock? See PENSTOCK_URL"
            )
        text = f"{problem.detail.rstrip('.')} ({problem.code})"
        if answer.status_code == httpx2.codes.UNAUTHORIZED:
            hint = (
                "the key in PENSTOCK_KEY is not valid here"
                if self._has_key
                else "set PENSTOCK_KEY to a key, which `penstock keys create` makes"
            )
            text += f"; {hint}"
        elif answer.status_code == httpx2.codes.SERVICE_UNAVAILABLE and problem.retry_after is not None:
            text += f"; try again in {duration(problem.retry_after)}"
        return CommandError(text)


def path_part(text: str) -> str:
    """Text that a caller gave, as one segment of a path."""
    return quote(text, safe="")


def _not_penstock(url: str) -> CommandError:
    return CommandError(f"{url} answered something that is no Penstock answer; check PENSTOCK_URL")
