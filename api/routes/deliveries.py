"""/v1/deliveries: what became of each webhook, and sending one again."""

import re
from typing import cast

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from api.answers import json_answer
from api.errors import DO_NOT_RETRY, FieldError, Problem, invalid
from api.openapi import webhook_routes as doc
from api.pages import NEVER_KEPT, page
from api.request import Query
from api.service import Service
from jobs.webhooks.record import Attempt, Delivery, DeliveryStatus

_DELIVERY_ID = re.compile(r"dlv_[0-7][0-9A-HJKMNP-TV-Z]{25}_[0-9]{1,2}")
STATUSES = ("pending", "delivered", "failed")


class Deliveries:
    """The handlers; they share one process's parts."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._deliveries = service.hooks.deliveries

    async def list(self, request: Request) -> Response:
        """The caller's deliveries, those of the newest jobs first."""
        user = await self._user(request)
        query = Query(request.scope)
        limit = query.count("limit", default=20, least=1, most=100)
        after = query.text("after")
        if after is not None and not _DELIVERY_ID.fullmatch(after):
            raise invalid(FieldError("?after", "must be the id of a delivery"))
        found, more = await self._deliveries.list(
            user,
            limit=limit,
            after=after,
            job_id=query.job_id("job_id"),
            status=cast(DeliveryStatus | None, query.choice("status", STATUSES)),
        )
        return page([_delivery(one) for one in found], more, "id")

    async def read(self, request: Request) -> Response:
        """One delivery with its last attempts."""
        user = await self._user(request)
        found = await self._deliveries.get(user, _id(request))
        if found is None:
            raise _no_delivery()
        delivery, attempts = found
        told = _delivery(delivery) | {"attempt_log": [_attempt(one) for one in attempts]}
        return json_answer(told, 200, [NEVER_KEPT])

    async def redeliver(self, request: Request) -> Response:
        """Sends one again, whatever became of it."""
        user = await self._user(request)
        again = await self._deliveries.redeliver(user, _id(request))
        if again == "not_found":
            raise _no_delivery()
        if again == "deleted":
            raise Problem(
                "endpoint_unusable",
                "The endpoint of this delivery was deleted: there is nowhere to send it.",
                headers=(DO_NOT_RETRY,),
            )
        return json_answer(_delivery(again), 202, [NEVER_KEPT])

    async def _user(self, request: Request) -> str:
        return (await self._service.principal(request.scope, "webhooks")).user


def _id(request: Request) -> str:
    """The id in the path. Raises the 404 of an unknown id for what could not be one, without asking Redis."""
    delivery_id: str = request.path_params["delivery_id"]
    if not _DELIVERY_ID.fullmatch(delivery_id):
        raise _no_delivery()
    return delivery_id


def _no_delivery() -> Problem:
    return Problem(
        "not_found",
        "There is no such delivery: check its id and the key you use, or it is past its retention.",
    )


def _delivery(one: Delivery) -> dict[str, object]:
    return {
        "id": one.id,
        "object": "delivery",
        "job_id": one.job,
        "event_id": one.event_id,
        "event_type": one.event_type,
        "endpoint_id": one.endpoint,
        "url": one.url,
        "status": one.status,
        "attempts": one.attempts,
        "last_status_code": one.last_status_code,
        "created_at": one.created_ms // 1000,
        "next_attempt_at": None if one.next_attempt_ms is None else one.next_attempt_ms // 1000,
        "gives_up_at": one.ends_ms // 1000 if one.status == "pending" else None,
        "failed_because": one.reason,
    }


def _attempt(one: Attempt) -> dict[str, object]:
    return {
        "at_ms": one.at_ms,
        "duration_ms": one.duration_ms,
        "status_code": one.status_code,
        "error": one.error,
        "answer": one.answer or None,
        "charged": not one.ours,
    }


def add(app: FastAPI, service: Service) -> None:
    """Puts the routes on the application."""
    deliveries = Deliveries(service)
    route = app.router.add_api_route
    route("/v1/deliveries", deliveries.list, methods=["GET"], **doc.LIST_DELIVERIES)
    route("/v1/deliveries/{delivery_id}", deliveries.read, methods=["GET"], **doc.READ_DELIVERY)
    route("/v1/deliveries/{delivery_id}/redeliver", deliveries.redeliver, methods=["POST"], **doc.REDELIVER)
