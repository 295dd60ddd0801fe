"""/v1/admin/providers and /v1/admin/dead: what an operator looks at when jobs wait or fail."""

from collections.abc import Sequence
from dataclasses import asdict

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from ulid import ULID

from api.answers import Answer, json_answer
from api.errors import Problem, job_not_found
from api.openapi import admin_routes as doc
from api.pages import NEVER_KEPT
from api.refusals import refusal
from api.request import Query, is_job_id
from api.service import Service
from api.views import job_bytes, list_bytes
from jobs.pools import PoolState
from jobs.record import Submitted


class Operators:
    """The handlers; they share one process's parts."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def providers(self, request: Request) -> Response:
        """Each provider with its pools: limits configured and in force, what is used, and what pauses it."""
        await self._service.principal(request.scope, "admin")
        states = await self._service.pools.states([pool.id for pool in self._service.config.all_pools()])
        names = dict.fromkeys(state.provider for state in states)
        data = [_provider(name, [state for state in states if state.provider == name]) for name in names]
        return json_answer({"object": "list", "data": data}, 200, [NEVER_KEPT])

    async def resume(self, request: Request) -> Response:
        """Ends the pauses of a provider's pools, and forgets lower limits that were learned."""
        await self._service.principal(request.scope, "admin")
        name: str = request.path_params["provider"]
        pools = [pool.id for pool in self._service.config.all_pools() if pool.provider == name]
        if not pools:
            known = ", ".join(self._service.config.providers)
            raise Problem("not_found", f"There is no such provider; there are: {known}.")
        await self._service.pools.resume(pools)
        return json_answer(_provider(name, await self._service.pools.states(pools)), 200, [NEVER_KEPT])

    async def dead(self, request: Request) -> Response:
        """The jobs of all users that failed for good and were not replayed, the last to fail first."""
        await self._service.principal(request.scope, "admin")
        query = Query(request.scope)
        limit = query.count("limit", default=20, least=1, most=100)
        jobs, more = await self._service.dead.list(limit=limit, after=query.job_id("after"))
        return Answer(list_bytes(jobs, more), 200, [NEVER_KEPT])

    async def replay(self, request: Request) -> Response:
        """Submits a dead job anew, for its user and from his budget; the answer is the new job."""
        await self._service.principal(request.scope, "admin")
        dead_id: str = request.path_params["job_id"]
        if not is_job_id(dead_id):
            raise job_not_found()
        job = await self._service.dead.replay(dead_id, f"job_{ULID()}")
        if job is None:
            raise job_not_found()
        outcome = await self._service.submit(job)
        if not isinstance(outcome, Submitted):
            upgrade_url = self._service.config.upgrade_url
            raise refusal(outcome, estimated_tokens=job.estimated_tokens, upgrade_url=upgrade_url)
        location = (b"location", b"/v1/jobs/" + outcome.job.id.encode())
        return Answer(job_bytes(outcome.job), 202, [location, NEVER_KEPT])


def _provider(name: str, states: Sequence[PoolState]) -> dict[str, object]:
    paused = [state for state in states if state.paused_until_ms is not None]
    return {
        "object": "provider",
        "id": name,
        "status": "paused" if len(paused) == len(states) else "partly_paused" if paused else "active",
        "pools": [_pool(state) for state in states],
    }


def _pool(state: PoolState) -> dict[str, object]:
    scopes = [asdict(scope) for scope in state.scopes]
    until_ms = state.paused_until_ms
    return {
        "id": state.pool,
        "accounting": state.accounting,
        "window": state.window,
        "estimates": state.estimates,
        "paused_until": None if until_ms is None else -(-until_ms // 1000),
        "paused_because": state.paused_because,
        "alarm_level": state.alarm_level,
        "answers_seen": state.answers_seen,
        "mean_answer_tokens": state.mean_answer_tokens,
        "limits": scopes,
    }


def add(app: FastAPI, service: Service) -> None:
    """Puts the routes on the application."""
    operators = Operators(service)
    route = app.router.add_api_route
    route("/v1/admin/providers", operators.providers, methods=["GET"], **doc.PROVIDERS)
    route("/v1/admin/providers/{provider}/resume", operators.resume, methods=["POST"], **doc.RESUME)
    route("/v1/admin/dead", operators.dead, methods=["GET"], **doc.DEAD)
    route("/v1/admin/dead/{job_id}/replay", operators.replay, methods=["POST"], **doc.REPLAY)
