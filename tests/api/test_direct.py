"""Routes that are looked up lead where Starlette's router would."""

from starlette.routing import Match, Route
from starlette.types import Scope

from api.direct import Directory, DirectRoute
from tests.api.harness import Api

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def scope(method: str, path: str) -> Scope:
    return {"type": "http", "method": method, "path": path, "root_path": ""}


async def test_every_route_is_found_as_the_router_would_find_it(api: Api) -> None:
    routes = [route for route in api.app.router.routes if isinstance(route, Route)]
    directory = Directory(routes)
    found = set()
    for path in {route.path for route in routes}:
        for name in ("job_1", "default", "a b", ""):
            asked = "/".join(name if step.startswith("{") else step for step in path.split("/"))
            for method in METHODS:
                request = scope(method, asked)
                matches = [(route, *route.matches(request)) for route in routes]
                first = next(((one, child) for one, match, child in matches if match is Match.FULL), None)
                route = directory.find(request)
                if route is None:
                    continue
                assert first is not None
                assert (route, request.get("path_params", {})) == (first[0], first[1]["path_params"])
                found.add((method, route.path))
    assert {("POST", "/v1/jobs"), ("GET", "/v1/jobs/{job_id}"), ("GET", "/healthz")} <= found


async def test_what_is_not_direct_is_left_to_the_router(api: Api) -> None:
    directory = Directory(api.app.router.routes)
    for path in ("/openapi.json", "/docs", "/v1/jobs/x/cancel", "/v1/jobs/", "/nowhere", "*", ""):
        assert directory.find(scope("GET", path)) is None
    assert isinstance(directory.find(scope("GET", "/v1/jobs/x")), DirectRoute)
