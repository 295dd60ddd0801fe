"""/v1/admin/users and /v1/admin/keys: who may submit, on which tier, and with which keys."""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from fastapi import FastAPI
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from api import documentation as doc
from api.answers import Empty, Header, json_answer
from api.body import read_json
from api.errors import DO_NOT_RETRY, FieldError, Problem, invalid
from api.fields import StrictModel, field_errors, read_model
from api.request import Query
from api.service import Service
from jobs import secrets
from jobs.config import Tier
from jobs.users import KeyRecord, UnknownUserError, UserRecord, is_user_name

LONGEST_OVERLAP_S = 30 * 86_400
_ADMIN_BODY_BYTES = 65_536
_NEVER_KEPT: Header = (b"cache-control", b"no-store")
_KEY_ID = re.compile(r"[0-9A-Za-z]{12}")

Scope = Literal["jobs", "usage", "webhooks", "metrics", "admin"]
DEFAULT_SCOPES: Final[tuple[Scope, ...]] = ("jobs", "usage", "webhooks")
Overrides = dict[str, int | None]
UnixSeconds = Annotated[int, Field(ge=0, le=253_402_300_799)]


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


class NewKey(StrictModel):
    """The body of POST /v1/admin/keys; `tier` is for a user that is new."""

    user: str
    tier: str | None = None
    scopes: Annotated[list[Scope], Field(min_length=1)] = Field(default_factory=lambda: list(DEFAULT_SCOPES))
    expires_at: UnixSeconds | None = None


class Rotation(StrictModel):
    """The body of POST /v1/admin/keys/{id}/rotate; without `expires_at` the new key ends when the old one would."""

    overlap_s: Annotated[int, Field(ge=0, le=LONGEST_OVERLAP_S)] = 0
    expires_at: UnixSeconds | None = None


class Admin:
    """The handlers; they share one process's parts. `pepper` is what keys are hashed with."""

    def __init__(self, service: Service, pepper: str) -> None:
        self._service = service
        self._pepper = pepper

    async def create_user(self, request: Request) -> Response:
        """Registers a user."""
        body = read_model(NewUser, await self._body(request))
        if not is_user_name(body.user):
            raise invalid(_user_name("/user"))
        self._check_tier(body.tier)
        _check_overrides(body.overrides)
        user = await self._service.users.create(body.user, body.tier, body.overrides)
        if user is None:
            raise Problem(
                "already_exists",
                "There is a user of that name: change it with PATCH.",
                headers=(DO_NOT_RETRY,),
            )
        location = (b"location", b"/v1/admin/users/" + user.user.encode())
        return json_answer(_user(user), 201, [location, _NEVER_KEPT])

    async def read_user(self, request: Request) -> Response:
        """One user."""
        await self._admit(request)
        user = await self._service.users.get(_user_in_path(request))
        if user is None:
            raise _no_user()
        return json_answer(_user(user), 200, [_NEVER_KEPT])

    async def list_users(self, request: Request) -> Response:
        """The users, by name."""
        await self._admit(request)
        query = Query(request.scope)
        limit = query.count("limit", default=20, least=1, most=100)
        users, more = await self._service.users.list(limit=limit, after=query.text("after"))
        return _page([_user(user) for user in users], more, "user")

    async def change_user(self, request: Request) -> Response:
        """Changes a user's tier and single limits."""
        body = read_model(UserChange, await self._body(request))
        user_id = _user_in_path(request)
        if body.tier is not None:
            self._check_tier(body.tier)
        _check_overrides(body.overrides)
        _check_removed(body)
        user = await self._service.users.change(
            user_id, tier=body.tier, overrides=body.overrides, remove=body.remove_overrides
        )
        if user is None:
            raise _no_user()
        return json_answer(_user(user), 200, [_NEVER_KEPT])

    async def create_key(self, request: Request) -> Response:
        """Makes a key; its text is in this answer and nowhere else."""
        body = read_model(NewKey, await self._body(request))
        if not is_user_name(body.user):
            raise invalid(_user_name("/user"))
        if body.tier is not None:
            self._check_tier(body.tier)
        expires_ms = self._future_ms(body.expires_at)
        return await self._issue(body.user, tuple(dict.fromkeys(body.scopes)), expires_ms, tier=body.tier)

    async def list_keys(self, request: Request) -> Response:
        """The keys, of one user or of all, without their texts."""
        await self._admit(request)
        query = Query(request.scope)
        keys, more = await self._service.users.keys(
            user=query.text("user"),
            limit=query.count("limit", default=20, least=1, most=100),
            after=query.text("after"),
        )
        return _page([_key(key) for key in keys], more, "id")

    async def rotate_key(self, request: Request) -> Response:
        """Makes a key like this one, which ends after the overlap."""
        body = read_model(Rotation, await self._body(request))
        users = self._service.users
        old = await users.key(_key_in_path(request))
        now_ms = self._service.now_ms()
        if old is None or (old.expires_ms is not None and old.expires_ms <= now_ms):
            raise _no_key()
        expires_ms = (
            self._future_ms(body.expires_at) if "expires_at" in body.model_fields_set else old.expires_ms
        )
        answer = await self._issue(old.user, old.scopes, expires_ms, tier=None)
        await users.expire_key(old.id, now_ms + body.overlap_s * 1000)
        self._service.authenticator.changed(old.id)
        return answer

    async def revoke_key(self, request: Request) -> Response:
        """Ends a key at once."""
        await self._admit(request)
        key_id = _key_in_path(request)
        if not await self._service.users.revoke_key(key_id):
            raise _no_key()
        self._service.authenticator.changed(key_id)
        return Empty(204, [_NEVER_KEPT])

    async def _admit(self, request: Request) -> None:
        await self._service.principal(request.scope, "admin")

    async def _body(self, request: Request) -> dict[str, object]:
        await self._admit(request)
        return (await read_json(request.scope, request.receive, limit_bytes=_ADMIN_BODY_BYTES)).value

    async def _issue(
        self, user: str, scopes: tuple[str, ...], expires_ms: int | None, *, tier: str | None
    ) -> Response:
        key_id, text = secrets.new_key()
        record = KeyRecord(
            id=key_id,
            user=user,
            scopes=scopes,
            created_ms=self._service.now_ms(),
            expires_ms=expires_ms,
            last_used_ms=None,
            digest=secrets.digest(self._pepper, text),
        )
        try:
            await self._service.users.put_key(record, tier=tier)
        except UnknownUserError:
            raise invalid(
                FieldError("/user", "is not registered: create it first, or give the tier to put it on")
            ) from None
        self._service.authenticator.changed(key_id)
        return json_answer({"id": key_id, "key": text} | _key(record), 201, [_NEVER_KEPT])

    def _future_ms(self, expires_at: int | None) -> int | None:
        if expires_at is None:
            return None
        if expires_at * 1000 <= self._service.now_ms():
            raise invalid(FieldError("/expires_at", "must be in the future (Unix seconds)"))
        return expires_at * 1000

    def _check_tier(self, tier: str) -> None:
        tiers = self._service.config.tiers
        if tier not in tiers:
            raise invalid(FieldError("/tier", f"must be one of {', '.join(tiers)}"))


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


def _key_in_path(request: Request) -> str:
    key_id: str = request.path_params["key_id"]
    if not _KEY_ID.fullmatch(key_id):
        raise _no_key()
    return key_id


def _user_name(pointer: str) -> FieldError:
    return FieldError(pointer, "must be 1 to 64 of A-Z a-z 0-9 . _ @ -, beginning with a letter or digit")


def _no_user() -> Problem:
    return Problem("not_found", "There is no such user.")


def _no_key() -> Problem:
    return Problem("not_found", "There is no such key, or it has ended.")


def _user(user: UserRecord) -> dict[str, object]:
    return {
        "object": "user",
        "user": user.user,
        "tier": user.tier,
        "overrides": user.overrides,
        "created_at": user.created_ms // 1000,
    }


def _key(key: KeyRecord) -> dict[str, object]:
    return {
        "id": key.id,
        "object": "key",
        "user": key.user,
        "scopes": list(key.scopes),
        "created_at": key.created_ms // 1000,
        "expires_at": None if key.expires_ms is None else key.expires_ms // 1000,
        "last_used_at": None if key.last_used_ms is None else key.last_used_ms // 1000,
    }


def _page(rows: list[dict[str, object]], has_more: bool, name: str) -> Response:
    return json_answer(
        {
            "object": "list",
            "data": rows,
            "has_more": has_more,
            "first_id": rows[0][name] if rows else None,
            "last_id": rows[-1][name] if rows else None,
        },
        200,
        [_NEVER_KEPT],
    )


def add(app: FastAPI, service: Service, pepper: str) -> None:
    """Puts the routes on the application."""
    admin = Admin(service, pepper)
    route = app.router.add_api_route
    route("/v1/admin/users", admin.create_user, methods=["POST"], **doc.CREATE_USER)
    route("/v1/admin/users", admin.list_users, methods=["GET"], **doc.LIST_USERS)
    route("/v1/admin/users/{user}", admin.read_user, methods=["GET"], **doc.READ_USER)
    route("/v1/admin/users/{user}", admin.change_user, methods=["PATCH"], **doc.CHANGE_USER)
    route("/v1/admin/keys", admin.create_key, methods=["POST"], **doc.CREATE_KEY)
    route("/v1/admin/keys", admin.list_keys, methods=["GET"], **doc.LIST_KEYS)
    route("/v1/admin/keys/{key_id}/rotate", admin.rotate_key, methods=["POST"], **doc.ROTATE_KEY)
    route("/v1/admin/keys/{key_id}", admin.revoke_key, methods=["DELETE"], **doc.REVOKE_KEY)
