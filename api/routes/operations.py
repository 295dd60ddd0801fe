"""/v1/scaling and /metrics: what autoscalers and Prometheus read. Any API process gives the same answer."""

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from api.answers import Answer, json_answer
from api.body import header_values
from api.metrics import exposition
from api.openapi import operations_routes as doc
from api.pages import NEVER_KEPT
from api.service import Service
from jobs.scaling import Advice, PoolAdvice


class Operations:
    """The handlers; they share one process's parts."""

    def __init__(self, service: Service, version: str) -> None:
        self._service = service
        self._version = version

    async def scaling(self, request: Request) -> Response:
        """How many workers are worth running now, and why."""
        await self._service.operations_reader(request.scope)
        _, advice = await self._service.advice()
        return json_answer(_scaling(advice), 200, [NEVER_KEPT])

    async def metrics(self, request: Request) -> Response:
        """The metrics, as text for Prometheus."""
        await self._service.operations_reader(request.scope)
        figures, advice = await self._service.advice()
        accept = b",".join(header_values(request.scope, b"accept")).decode("latin-1")
        body, content_type = exposition(figures, advice, version=self._version, accept=accept)
        return Answer(body, 200, [NEVER_KEPT], content_type.encode())


def _scaling(advice: Advice) -> dict[str, object]:
    workers = {
        "current": advice.current,
        "recommended": advice.recommended,
        "useful_max": advice.useful_max,
    }
    return {
        "workers": workers,
        "bound_by": advice.bound_by,
        "reason": advice.reason,
        "pools": [_pool(pool) for pool in advice.pools],
    }


def _pool(pool: PoolAdvice) -> dict[str, object]:
    return {
        "provider": pool.provider,
        "model": pool.model,
        "tokens_per_minute": {"limit": pool.limit_tokens, "used": pool.used_tokens},
        "queued_jobs": pool.queued_jobs,
        "queued_tokens": pool.queued_tokens,
        "drain_seconds": None if pool.drain_s is None else round(pool.drain_s),
    }


def add(app: FastAPI, service: Service) -> None:
    """Puts the routes on the application."""
    operations = Operations(service, app.version)
    app.router.add_api_route("/v1/scaling", operations.scaling, methods=["GET"], **doc.SCALING)
    app.router.add_api_route("/metrics", operations.metrics, methods=["GET"], **doc.METRICS)
