"""/healthz and /readyz: whether this process lives, and whether it can accept jobs. No key is needed."""

import asyncio

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from api.answers import Header, json_answer
from api.errors import unavailable
from api.openapi import operations_routes as doc
from api.service import Service

READY_TIMEOUT_S = 2.0
_NEVER_KEPT: Header = (b"cache-control", b"no-store")


class Health:
    """The handlers; they share one process's parts."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def live(self, _request: Request) -> Response:
        """200 as long as the event loop turns."""
        return json_answer({"status": "ok"}, 200, [_NEVER_KEPT])

    async def ready(self, _request: Request) -> Response:
        """200 while jobs can be accepted, else 503 with the reason."""
        service = self._service
        if service.waiters.draining:
            raise unavailable("This process is about to stop.")
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                if not service.ready:
                    await service.start()
                if reasons := await service.durability.reasons():
                    # They say what to do about it, which the refusal of a write does not.
                    raise unavailable(f"The job store is not safe to use: {'; '.join(reasons)}")
                await service.store.ping()
        except TimeoutError:
            raise unavailable("The job store does not answer.") from None
        return json_answer({"status": "ready"}, 200, [_NEVER_KEPT])


def add(app: FastAPI, service: Service) -> None:
    """Puts the routes on the application."""
    health = Health(service)
    app.router.add_api_route("/healthz", health.live, methods=["GET"], **doc.HEALTHZ)
    app.router.add_api_route("/readyz", health.ready, methods=["GET"], **doc.READYZ)
