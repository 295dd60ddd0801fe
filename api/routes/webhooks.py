"""/v1/webhook_endpoints: where a user's jobs tell of their ends, with which secret, and whether it arrives."""

import asyncio
import re
from typing import Annotated, Final, Literal, Self

from fastapi import FastAPI
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response
from ulid import ULID

from api.answers import dump, json_answer
from api.body import read_fields
from api.errors import DO_NOT_RETRY, FieldError, Problem, invalid
from api.fields import ModelT, StrictModel, read_model
from api.openapi import webhook_routes as doc
from api.pages import NEVER_KEPT, page
from api.request import Query
from api.service import SMALL_BODY_BYTES, Service
from api.waiting import until_gone
from jobs.webhooks import EVENT_TYPES, TEST_TYPE, EventType
from jobs.webhooks.endpoints import EndpointDisabledError, TooManyEndpointsError
from jobs.webhooks.event import event
from jobs.webhooks.record import Delivery, Endpoint
from jobs.webhooks.signing import hint

TEST_WAIT_S: Final = 17.0
"""An attempt takes 15 s at most; one that has not come back by then is told of as it is."""
_LOOK_AGAIN_S: Final = 0.1
_ENDPOINT_ID = re.compile(r"we_[0-7][0-9A-HJKMNP-TV-Z]{25}")
_BY_USER: Final = "by its user"

EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=len(EVENT_TYPES))]
Url = Annotated[str, Field(min_length=1)]


Name = Annotated[str, Field(max_length=256)]


class _Named(StrictModel):
    """`name` and `description` are one thing under two names: OpenAI's and Penstock's own."""

    name: Name | None = None
    description: Name | None = None

    @model_validator(mode="after")
    def _has_one_name(self) -> Self:
        if self.name is not None and self.description is not None and self.name != self.description:
            raise PydanticCustomError("both", "name and description are one thing: give one of them")
        return self

    @property
    def called(self) -> str | None:
        return self.description if self.name is None else self.name


class NewEndpoint(_Named):
    """The body of POST /v1/webhook_endpoints."""

    url: Url
    event_types: EventTypes = Field(default_factory=lambda: list(EVENT_TYPES))


class EndpointChange(_Named):
    """The body of POST /v1/webhook_endpoints/{id}: what is left out stays as it is."""

    url: Url | None = None
    event_types: EventTypes | None = None
    status: Literal["enabled", "disabled"] | None = None


class SecretRotation(StrictModel):
    """The body of POST …/rotate_secret."""

    keep_old_secret_active_for_24_hours: bool = False


class EndpointTest(StrictModel):
    """The body of POST …/test."""

    event_type: EventType | Literal["webhook_endpoint.test"] = TEST_TYPE


class Recovery(StrictModel):
    """The body of POST …/recover; Unix seconds."""

    since: Annotated[int, Field(ge=0, le=253_402_300_799)]


class Webhooks:
    """The handlers; they share one process's parts."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._hooks = service.hooks

    async def create(self, request: Request) -> Response:
        """Registers an endpoint; its secret is in this answer and nowhere else."""
        user = await self._user(request)
        body = await self._body(request, NewEndpoint)
        target = await self._hooks.target(body.url, self._service.config, "/url")
        try:
            made, secret = await self._hooks.endpoints.create(
                user,
                f"we_{ULID()}",
                url=target.url,
                event_types=tuple(dict.fromkeys(body.event_types)),
                name=body.called or "",
            )
        except TooManyEndpointsError as error:
            raise Problem(
                "endpoint_unusable",
                f"There are {error.most} endpoints already, which is the most a user may have: delete one.",
                headers=(DO_NOT_RETRY,),
            ) from None
        location = (b"location", b"/v1/webhook_endpoints/" + made.id.encode())
        return json_answer(_endpoint(made) | {"signing_secret": secret}, 201, [location, NEVER_KEPT])

    async def list(self, request: Request) -> Response:
        """The caller's endpoints, newest first."""
        user = await self._user(request)
        query = Query(request.scope)
        limit = query.count("limit", default=20, least=1, most=100)
        after = query.text("after")
        if after is not None and not _ENDPOINT_ID.fullmatch(after):
            raise invalid(FieldError("?after", "must be the id of an endpoint"))
        found, more = await self._hooks.endpoints.list(user, limit=limit, after=after)
        return page([_endpoint(one) for one in found], more, "id")

    async def read(self, request: Request) -> Response:
        """One endpoint."""
        user = await self._user(request)
        found = await self._hooks.endpoints.get(user, _id(request))
        if found is None:
            raise _no_endpoint()
        return json_answer(_endpoint(found), 200, [NEVER_KEPT])

    async def change(self, request: Request) -> Response:
        """Changes what is given; whatever waits for the endpoint is looked at again."""
        user = await self._user(request)
        body = await self._body(request, EndpointChange)
        endpoint_id = _id(request)
        fields: dict[str, str] = {}
        if body.url is not None:
            fields["url"] = (await self._hooks.target(body.url, self._service.config, "/url")).url
        if body.event_types is not None:
            fields["types"] = " ".join(dict.fromkeys(body.event_types))
        if body.called is not None:
            fields["name"] = body.called
        if body.status is not None:
            fields["disabled"] = "" if body.status == "enabled" else _BY_USER
        found = await self._hooks.endpoints.change(user, endpoint_id, fields)
        if found is None:
            raise _no_endpoint()
        return json_answer(_endpoint(found), 200, [NEVER_KEPT])

    async def delete(self, request: Request) -> Response:
        """Forgets an endpoint; what waits for it fails."""
        user = await self._user(request)
        endpoint_id = _id(request)
        if not await self._hooks.endpoints.delete(user, endpoint_id):
            raise _no_endpoint()
        gone = {"id": endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True}
        return json_answer(gone, 200, [NEVER_KEPT])

    async def rotate_secret(self, request: Request) -> Response:
        """Makes an endpoint's secret anew."""
        user = await self._user(request)
        body = await self._body(request, SecretRotation)
        rotated = await self._hooks.endpoints.rotate(
            user, _id(request), keep_old=body.keep_old_secret_active_for_24_hours
        )
        if rotated is None or rotated[0] is None:
            raise _no_endpoint()
        return json_answer(_endpoint(rotated[0]) | {"signing_secret": rotated[1]}, 200, [NEVER_KEPT])

    async def rotate_default_secret(self, request: Request) -> Response:
        """Makes the secret anew that signs what goes to jobs' own URLs."""
        user = await self._user(request)
        body = await self._body(request, SecretRotation)
        rotated = await self._hooks.endpoints.rotate(
            user, None, keep_old=body.keep_old_secret_active_for_24_hours
        )
        assert rotated is not None
        told = {
            "object": "webhook_secret",
            "signing_secret": rotated[1],
            "signing_secret_hint": hint(rotated[1]),
        }
        return json_answer(told, 200, [NEVER_KEPT])

    async def test(self, request: Request) -> Response:
        """Sends an event through the outbox like any other, and waits for what its one attempt comes to."""
        user = await self._user(request)
        body = await self._body(request, EndpointTest)
        endpoint_id, ulid = _id(request), ULID()
        event_id = f"evt_{ulid}"
        data = dump({"object": "webhook_endpoint.test", "webhook_endpoint_id": endpoint_id})
        try:
            made = await self._hooks.endpoints.test(
                user,
                endpoint_id,
                delivery_id=f"dlv_{ulid}_0",
                event_id=event_id,
                kind=body.event_type,
                body=event(event_id, body.event_type, self._service.now_ms(), data),
            )
        except EndpointDisabledError as error:
            raise Problem(
                "endpoint_unusable",
                f"The endpoint is disabled ({error}): enable it first.",
                headers=(DO_NOT_RETRY,),
            ) from None
        if made is None:
            raise _no_endpoint()
        made = await self._attempted(request, user, made)
        told = {
            "object": "webhook_endpoint.test",
            "webhook_endpoint_id": endpoint_id,
            "event_type": body.event_type,
            "success": made.last_status_code is not None,
            "status_code": made.last_status_code,
            "delivery_id": made.id,
        }
        return json_answer(told, 200, [NEVER_KEPT])

    async def recover(self, request: Request) -> Response:
        """Sends again whatever has failed since a time."""
        user = await self._user(request)
        body = await self._body(request, Recovery)
        endpoint_id = _id(request)
        count = await self._hooks.deliveries.recover(user, endpoint_id, since_ms=body.since * 1000)
        if count is None:
            raise _no_endpoint()
        told = {
            "object": "webhook_endpoint.recovery",
            "webhook_endpoint_id": endpoint_id,
            "deliveries": count,
        }
        return json_answer(told, 202, [NEVER_KEPT])

    async def event_types(self, request: Request) -> Response:
        """What an endpoint may want to hear of."""
        await self._user(request)
        return json_answer({"object": "list", "data": list(EVENT_TYPES)}, 200, [NEVER_KEPT])

    async def _user(self, request: Request) -> str:
        return (await self._service.principal(request.scope, "webhooks")).user

    async def _body(self, request: Request, model: type[ModelT]) -> ModelT:
        given = await read_fields(request.scope, request.receive, limit_bytes=SMALL_BODY_BYTES)
        return read_model(model, given)

    async def _attempted(self, request: Request, user: str, made: Delivery) -> Delivery:
        """The delivery after its attempt, or as it is when that takes too long or the client hangs up."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + TEST_WAIT_S
        waiters = self._service.waiters
        with waiters.listen(made.id) as wake:
            async with until_gone(request.receive, wake):
                while made.status == "pending" and not (wake.gone or waiters.draining):
                    if loop.time() >= deadline:
                        break
                    await wake.wait(_LOOK_AGAIN_S)
                    found = await self._hooks.deliveries.get(user, made.id)
                    if found is None:
                        break
                    made = found[0]
        return made


def _id(request: Request) -> str:
    """The id in the path. Raises the 404 of an unknown id for what could not be one, without asking Redis."""
    endpoint_id: str = request.path_params["endpoint_id"]
    if not _ENDPOINT_ID.fullmatch(endpoint_id):
        raise _no_endpoint()
    return endpoint_id


def _no_endpoint() -> Problem:
    return Problem("not_found", "There is no such webhook endpoint: check its id and the key you use.")


def _endpoint(one: Endpoint) -> dict[str, object]:
    return {
        "id": one.id,
        "object": "webhook_endpoint",
        "url": one.url,
        "event_types": list(one.event_types),
        "name": one.name,
        "description": one.name,
        "status": "disabled" if one.disabled else "enabled",
        "disabled_because": one.disabled or None,
        "created_at": one.created_ms // 1000,
        "updated_at": one.updated_ms // 1000,
        "signing_secret_hint": one.secret_hint,
    }


def add(app: FastAPI, service: Service) -> None:
    """Puts the routes on the application."""
    hooks = Webhooks(service)
    route = app.router.add_api_route
    base = "/v1/webhook_endpoints"
    route(base, hooks.create, methods=["POST"], **doc.CREATE_ENDPOINT)
    route(base, hooks.list, methods=["GET"], **doc.LIST_ENDPOINTS)
    route(
        f"{base}/default/rotate_secret", hooks.rotate_default_secret, methods=["POST"], **doc.ROTATE_DEFAULT
    )
    route(f"{base}/{{endpoint_id}}", hooks.read, methods=["GET"], **doc.READ_ENDPOINT)
    route(f"{base}/{{endpoint_id}}", hooks.change, methods=["POST"], **doc.CHANGE_ENDPOINT)
    route(f"{base}/{{endpoint_id}}", hooks.delete, methods=["DELETE"], **doc.DELETE_ENDPOINT)
    route(f"{base}/{{endpoint_id}}/rotate_secret", hooks.rotate_secret, methods=["POST"], **doc.ROTATE_SECRET)
    route(f"{base}/{{endpoint_id}}/test", hooks.test, methods=["POST"], **doc.TEST_ENDPOINT)
    route(f"{base}/{{endpoint_id}}/recover", hooks.recover, methods=["POST"], **doc.RECOVER)
    route("/v1/webhook_event_types", hooks.event_types, methods=["GET"], **doc.EVENT_TYPES)
