"""The outermost layer: gives every request its id, answers what nobody else could, and tells what went wrong.

A plain ASGI middleware. Nothing of a request but its method, its route and the outcome is ever logged.
"""

import asyncio
import logging
import re
import secrets
import time
import traceback
from collections.abc import Callable, Sequence

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.body import header_values
from api.direct import Directory
from api.errors import Problem, answer, problem_of, unavailable

HEAD_ONLY = "penstock.head"
"""In the extensions of a request of which only the head is answered."""

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")

log = structlog.get_logger(__name__)


class Edge:
    """Wraps the router; whatever is raised under it becomes an answer here. `stopping`: this process drains."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute], *, stopping: Callable[[], bool]) -> None:
        self._app = app
        self._routes = routes
        self._directory = Directory(routes)
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()
        request_id = _request_id(scope)
        method = scope["method"]
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
                if self._stopping():
                    # Or the client might ask again on a connection that is about to close.
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        if method == "HEAD":
            # The server leaves out the body of an answer to HEAD by itself; streams must not begin one (events.py).
            scope = {**scope, "method": "GET", "extensions": {**scope.get("extensions", {}), HEAD_ONLY: {}}}
        problem: Problem | None = None
        try:
            _check_host(scope)
            route = self._directory.find(scope)
            await (self._app if route is None else route.app)(scope, receive, send_with_id)
        except ClientDisconnect:
            log.debug("client hung up", request_id=request_id.decode(), method=method, route=_route(scope))
            return
        except asyncio.CancelledError:
            if not self._stopping():
                raise
            # What the drain could not wait for: uvicorn would make a 500 of it.
            problem = unavailable("This process stops before it could answer; ask again.")
        except Exception as error:
            if isinstance(error, HTTPException) and error.status_code == 405:
                error.headers = {"Allow": self._allowed(scope)}
            problem = problem_of(error)
            if problem is None:
                problem = Problem(
                    "internal", f"Please report this with the request id {request_id.decode()}."
                )
                log.error(
                    "request failed",
                    request_id=request_id.decode(),
                    error=type(error).__name__,
                    at=_where(error),
                )
        if problem is not None:
            if status:
                # Half an answer is out; leaving it incomplete makes the server close the connection.
                return
            await answer(problem, scope)(scope, receive, send_with_id)
        level = logging.WARNING if status >= 500 else logging.DEBUG
        if log.is_enabled_for(level):
            log.log(
                level,
                "request",
                request_id=request_id.decode(),
                method=method,
                route=_route(scope),
                status=status,
                seconds=round(time.monotonic() - begun, 4),
            )

    def _allowed(self, scope: Scope) -> str:
        """The methods of all routes of this path; the framework tells only those of the first."""
        methods: set[str] = set()
        for route in self._routes:
            if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
                methods |= route.methods or set()
        return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def _request_id(scope: Scope) -> bytes:
    given = header_values(scope, b"x-request-id")
    if len(given) == 1 and _SANE_ID.fullmatch(given[0]):
        return given[0]
    return new_request_id()


def new_request_id() -> bytes:
    """An id for a request that brought none of its own."""
    return b"req_" + secrets.token_hex(12).encode()


def _check_host(scope: Scope) -> None:
    """RFC 9112: a request of HTTP/1.1 has exactly one Host."""
    if scope.get("http_version") == "1.1" and len(header_values(scope, b"host")) != 1:
        raise Problem("bad_request", "Send exactly one Host header.")


def _route(scope: Scope) -> str:
    """The route's pattern rather than the path, which holds ids and whatever else a client sends."""
    route = scope.get("route")
    return getattr(route, "path", "none")


def _where(error: Exception) -> list[str]:
    """Where it happened, without the message and the values, which may be somebody's prompt."""
    return [
        f"{frame.filename}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)[-8:]
    ]
