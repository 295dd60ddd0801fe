"""Routes that go straight from request to response, and are found without trying all of them.

FastAPI's own handler solves dependencies and encodes models, a fifth of the time of a submission; ours take the
request and give the finished answer, so it is left out. They are documented by hand (`api/openapi/`).
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]


class DirectRoute(APIRoute):
    """A FastAPI route whose endpoint is called with the request alone."""

    def __init__(self, path: str, endpoint: Endpoint, **settings: Any) -> None:
        super().__init__(path, endpoint, **settings)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive, send))
            await response(scope, receive, send)

        self.app = app


class Directory:
    """Where a request leads, by method and path: to direct routes without a parameter, or with one at their end."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._exact: dict[tuple[str, str], DirectRoute] = {}
        self._below: dict[tuple[str, str], tuple[DirectRoute, str]] = {}
        for route in routes:
            if not isinstance(route, DirectRoute):
                continue
            parent, _, last = route.path.rpartition("/")
            for method in route.methods or ():
                if "{" not in route.path:
                    self._exact.setdefault((method, route.path), route)
                elif last.startswith("{") and "{" not in parent:
                    self._below.setdefault((method, parent), (route, last[1:-1]))

    def find(self, scope: Scope) -> DirectRoute | None:
        """The route, with what Starlette's router would put into the scope; None: that has to look."""
        method, path = scope["method"], scope["path"]
        route = self._exact.get((method, path))
        if route is None:
            parent, _, last = path.rpartition("/")
            below = self._below.get((method, parent))
            if below is None or not last:
                return None
            route, name = below
            scope["path_params"] = {name: last}
        scope["route"] = route
        return route
