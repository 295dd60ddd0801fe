"""/v1/admin/users: who may submit, on which tier, and with which limits of his own."""

from collections.abc import Mapping

from fastapi import FastAPI
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from api.answers import json_answer
from api.errors import DO_NOT_RETRY, FieldError, Problem, invalid
from api.fields import StrictModel, field_errors, read_model
from api.openapi import admin_routes as doc
from api.pages import NEVER_KEPT, page
from api.request import Query
from api.service import Service
from api.views import limits_object
from jobs.config import Tier
from jobs.users import UserRecord, is_user_name

Overrides = dict[str, int | None]


class NewUser(StrictModel):
    """The body of POST /v1/admin/users; an override of null is unlimited."""

    user: str
    tier: str
    overrides: Overrides = Field(default_factory=dict)


class UserChange(StrictModel):
    """The body of PATCH /v1/admin/users/{user}: what is left out stays as it is."""

    tier: str | None = None
    overrides: Overrides = Field(default_factory=dict)
    remove_overrides: list[str] = Field(default_factory=list)


class Users:
    """The handlers; they share one process's parts."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def create(self, request: Request) -> Response:
        """Registers a user."""
        body = read_model(NewUser, await self._service.admin_body(request))
        check_user_name(body.user)
        self._service.check_tier(body.tier)
        _check_overrides(body.overrides)
        user = await self._service.users.create(body.user, body.tier, body.overrides)
        if user is None:
            raise Problem(
                "already_exists",
                "There is a user of that name: change it with PATCH.",
                headers=(DO_NOT_RETRY,),
            )
        location = (b"location", b"/v1/admin/users/" + user.user.encode())
        return json_answer(_user(user), 201, [location, NEVER_KEPT])

    async def read(self, request: Request) -> Response:
        """One user."""
        await self._service.principal(request.scope, "admin")
        user = await self._service.users.get(_user_in_path(request))
        if user is None:
            raise _no_user()
        limits = limits_object(await self._service.store.limits(user.user))
        return json_answer(_user(user) | {"limits": limits}, 200, [NEVER_KEPT])

    async def list(self, request: Request) -> Response:
        """The users, by name."""
        await self._service.principal(request.scope, "admin")
        query = Query(request.scope)
        limit = query.count("limit", default=20, least=1, most=100)
        users, more = await self._service.users.list(limit=limit, after=query.text("after"))
        return page([_user(user) for user in users], more, "user")

    async def change(self, request: Request) -> Response:
        """Changes a user's tier and single limits."""
        body = read_model(UserChange, await self._service.admin_body(request))
        user_id = _user_in_path(request)
        if body.tier is not None:
            self._service.check_tier(body.tier)
        _check_overrides(body.overrides)
        _check_removed(body)
        user = await self._service.users.change(
            user_id, tier=body.tier, overrides=body.overrides, remove=body.remove_overrides
        )
        if user is None:
            raise _no_user()
        return json_answer(_user(user), 200, [NEVER_KEPT])


def check_user_name(name: str) -> None:
    """Raises Problem 422 for what no user can be called."""
    if not is_user_name(name):
        rule = "must be 1 to 64 of A-Z a-z 0-9 . _ @ -, beginning with a letter or digit"
        raise invalid(FieldError("/user", rule))


def _check_overrides(overrides: Mapping[str, int | None]) -> None:
    try:
        Tier.model_validate(dict(overrides))
    except ValidationError as error:
        raise invalid(*field_errors(error, "/overrides")) from None


def _check_removed(body: UserChange) -> None:
    for place, name in enumerate(body.remove_overrides):
        if name not in Tier.model_fields:
            known = ", ".join(Tier.model_fields)
            raise invalid(FieldError(f"/remove_overrides/{place}", f"must be one of {known}"))
        if name in body.overrides:
            raise invalid(
                FieldError(f"/remove_overrides/{place}", "is also set in overrides; do one of both")
            )


def _user_in_path(request: Request) -> str:
    user: str = request.path_params["user"]
    if not is_user_name(user):
        raise _no_user()
    return user


def _no_user() -> Problem:
    return Problem("not_found", "There is no such user.")


def _user(user: UserRecord) -> dict[str, object]:
    return {
        "object": "user",
        "user": user.user,
        "tier": user.tier,
        "overrides": user.overrides,
        "created_at": user.created_ms // 1000,
    }


def add(app: FastAPI, service: Service) -> None:
    """Puts the routes on the application."""
    users = Users(service)
    route = app.router.add_api_route
    route("/v1/admin/users", users.create, methods=["POST"], **doc.CREATE_USER)
    route("/v1/admin/users", users.list, methods=["GET"], **doc.LIST_USERS)
    route("/v1/admin/users/{user}", users.read, methods=["GET"], **doc.READ_USER)
    route("/v1/admin/users/{user}", users.change, methods=["PATCH"], **doc.CHANGE_USER)
