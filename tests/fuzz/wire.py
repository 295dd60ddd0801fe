"""How schemathesis reaches the rig: its own transport, with the rig instead of a session at the end of the line."""

from collections.abc import Callable
from typing import Any

import requests
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.transport.requests import REQUESTS_TRANSPORT, RequestsTransport
from typing_extensions import override

from tests.fuzz.rig import Asked, Rig

BASE_URL = "http://penstock.test"

Mangle = Callable[[Asked], Asked]


class RigTransport(RequestsTransport):
    """Sends cases, and the probes of schemathesis's checks. `mangle_next` changes one request, byte by byte."""

    def __init__(self, rig: Rig) -> None:
        super().__init__()
        self._copy_serializers_from(REQUESTS_TRANSPORT)
        self._rig = rig
        self._mangle: Mangle | None = None

    def mangle_next(self, mangle: Mangle) -> None:
        """Do this to the next request when it is bytes already."""
        self._mangle = mangle

    @override
    def send(self, case: Case[Any], *, session: requests.Session | None = None, **kwargs: Any) -> Response:
        data = self.serialize_case(case, **{"base_url": BASE_URL} | kwargs)
        request = requests.Request(**data).prepare()
        asked = _asked(request)
        if self._mangle is not None:
            asked, self._mangle = self._mangle(asked), None
        answered = self._rig.ask(asked)
        headers: dict[str, list[str]] = {}
        for name, value in answered.headers:
            headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        # Time is no matter here: what it would be compared with is the machine's.
        return Response(answered.status, headers, answered.body, request, elapsed=0.0, verify=False)


def _asked(request: requests.PreparedRequest) -> Asked:
    body = request.body or b""
    assert isinstance(body, str | bytes)
    headers = [(_bytes(name), _bytes(value)) for name, value in request.headers.items()]
    # A connection would add it.
    headers.append((b"host", b"penstock.test"))
    return Asked(request.method or "GET", request.path_url, tuple(headers), _bytes(body))


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8")
