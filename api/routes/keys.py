"""/v1/admin/keys: made, listed, rotated with an overlap, and revoked, each in force at once."""

import re
from typing import Annotated, Final, Literal

from fastapi import FastAPI
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from api.answers import Empty, json_answer
from api.errors import FieldError, Problem, invalid
from api.fields import StrictModel, read_model
from api.openapi import admin_routes as doc
from api.pages import NEVER_KEPT, page
from api.request import Query
from api.routes.users import check_user_name
from api.service import Service
from jobs import secrets
from jobs.users import KeyRecord, UnknownUserError

LONGEST_OVERLAP_S = 30 * 86_400
_KEY_ID = re.compile(r"[0-9A-Za-z]{12}")

Scope = Literal["jobs", "usage", "webhooks", "metrics", "admin"]
DEFAULT_SCOPES: Final[tuple[Scope, ...]] = ("jobs", "usage", "webhooks")
UnixSeconds = Annotated[int, Field(ge=0, le=253_402_300_799)]


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


class Keys:
    """The handlers; they share one process's parts. `pepper` is what keys are hashed with."""

    def __init__(self, service: Service, pepper: str) -> None:
        self._service = service
        self._pepper = pepper

    async def create(self, request: Request) -> Response:
        """Makes a key; its text is in this answer and nowhere else."""
        body = read_model(NewKey, await self._service.admin_body(request))
        check_user_name(body.user)
        if body.tier is not None:
            self._service.check_tier(body.tier)
        expires_ms = self._future_ms(body.expires_at)
        return await self._issue(body.user, tuple(dict.fromkeys(body.scopes)), expires_ms, tier=body.tier)

    async def list(self, request: Request) -> Response:
        """The keys, of one user or of all, without their texts."""
        await self._service.principal(request.scope, "admin")
        query = Query(request.scope)
        keys, more = await self._service.users.keys(
            user=query.text("user"),
            limit=query.count("limit", default=20, least=1, most=100),
            after=query.text("after"),
        )
        return page([_key(key) for key in keys], more, "id")

    async def rotate(self, request: Request) -> Response:
        """Makes a key like this one, which ends after the overlap."""
        body = read_model(Rotation, await self._service.admin_body(request))
        users = self._service.users
        old = await users.key(_key_in_path(request))
        now_ms = self._service.now_ms()
        if old is None or (old.expires_ms is not None and old.expires_ms <= now_ms):
            raise _no_key()
        given = "expires_at" in body.model_fields_set
        expires_ms = self._future_ms(body.expires_at) if given else old.expires_ms
        answer = await self._issue(old.user, old.scopes, expires_ms, tier=None)
        await users.expire_key(old.id, now_ms + body.overlap_s * 1000)
        self._service.authenticator.changed(old.id)
        return answer

    async def revoke(self, request: Request) -> Response:
        """Ends a key at once."""
        await self._service.principal(request.scope, "admin")
        key_id = _key_in_path(request)
        if not await self._service.users.revoke_key(key_id):
            raise _no_key()
        self._service.authenticator.changed(key_id)
        return Empty(204, [NEVER_KEPT])

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
        return json_answer({"id": key_id, "key": text} | _key(record), 201, [NEVER_KEPT])

    def _future_ms(self, expires_at: int | None) -> int | None:
        if expires_at is None:
            return None
        if expires_at * 1000 <= self._service.now_ms():
            raise invalid(FieldError("/expires_at", "must be in the future (Unix seconds)"))
        return expires_at * 1000


def _key_in_path(request: Request) -> str:
    key_id: str = request.path_params["key_id"]
    if not _KEY_ID.fullmatch(key_id):
        raise _no_key()
    return key_id


def _no_key() -> Problem:
    return Problem("not_found", "There is no such key, or it has ended.")


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


def add(app: FastAPI, service: Service, pepper: str) -> None:
    """Puts the routes on the application."""
    keys = Keys(service, pepper)
    route = app.router.add_api_route
    route("/v1/admin/keys", keys.create, methods=["POST"], **doc.CREATE_KEY)
    route("/v1/admin/keys", keys.list, methods=["GET"], **doc.LIST_KEYS)
    route("/v1/admin/keys/{key_id}/rotate", keys.rotate, methods=["POST"], **doc.ROTATE_KEY)
    route("/v1/admin/keys/{key_id}", keys.revoke, methods=["DELETE"], **doc.REVOKE_KEY)
