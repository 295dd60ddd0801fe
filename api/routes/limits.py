"""/v1/limits and /v1/usage: what a caller may still use, and what was used."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final, cast

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from api.answers import Header, json_answer
from api.auth import Principal
from api.errors import FieldError, Problem, invalid
from api.headers import limit_headers
from api.openapi import job_routes as doc
from api.request import Query
from api.service import Service
from api.views import limits_object
from jobs.record import UsageRow
from jobs.usage import MAX_DAYS, Group

DEFAULT_DAYS = 30
_GROUPS: Final[tuple[Group, ...]] = ("day", "model", "user")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NEVER_KEPT: Header = (b"cache-control", b"no-store")


class Limits:
    """The handlers; they share one process's parts."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def limits(self, request: Request) -> Response:
        """The caller's limits and what is left of each."""
        principal = await self._service.principal(request.scope, "jobs", "usage")
        limits = await self._service.store.limits(principal.user)
        return json_answer(limits_object(limits), 200, [_NEVER_KEPT, *limit_headers(limits)])

    async def usage(self, request: Request) -> Response:
        """Sums of what was charged; an admin may ask for any user, and by user."""
        principal = await self._service.principal(request.scope, "usage")
        query = Query(request.scope)
        group_by = _group_by(query)
        user = _whose(query, principal, group_by)
        today = datetime.fromtimestamp(self._service.now_ms() / 1000, UTC).date()
        start, end = _span(query, today)
        rows, total = await self._service.usage.usage(
            user=user, start=start.isoformat(), end=end.isoformat(), group_by=group_by
        )
        return json_answer(
            {"object": "list", "data": [_row(row, group_by) for row in rows], "total": _sums(total)},
            200,
            [_NEVER_KEPT],
        )


def _group_by(query: Query) -> tuple[Group, ...]:
    text = query.text("group_by")
    if text is None:
        return ("day", "model")
    groups = text.split(",") if text else []
    if len(groups) > len(_GROUPS) or any(group not in _GROUPS for group in groups):
        raise invalid(FieldError("?group_by", f"must be some of {', '.join(_GROUPS)}, with commas between"))
    return tuple(cast(Group, group) for group in groups)


def _whose(query: Query, principal: Principal, group_by: tuple[Group, ...]) -> str | None:
    """The user asked for; None for all of them."""
    user = query.text("user")
    if principal.is_admin:
        return user
    if (user is not None and user != principal.user) or "user" in group_by:
        raise Problem("forbidden", "Other users' usage takes a key with the scope `admin`.")
    return principal.user


def _span(query: Query, today: date) -> tuple[date, date]:
    end = _day(query, "end") or today
    start = _day(query, "start") or end - min(end - date.min, timedelta(days=DEFAULT_DAYS - 1))
    if not 0 <= (end - start).days < MAX_DAYS:
        raise invalid(
            FieldError("?start", f"must be at most {MAX_DAYS - 1} days before end, and not after it")
        )
    return start, end


def _day(query: Query, name: str) -> date | None:
    text = query.text(name)
    if text is None:
        return None
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise invalid(FieldError(f"?{name}", "must be a day such as 2026-11-23"))


def _row(row: UsageRow, group_by: tuple[Group, ...]) -> dict[str, object]:
    names = {"day": row.day, "model": row.model, "user": row.user}
    return {group: names[group] for group in group_by} | _sums(row)


def _sums(row: UsageRow) -> dict[str, object]:
    return {
        "jobs": row.jobs,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "total_tokens": row.total_tokens,
        "cached_tokens": row.cached_tokens,
        "cost_usd": row.cost_usd,
    }


def add(app: FastAPI, service: Service) -> None:
    """Puts the routes on the application."""
    limits = Limits(service)
    app.router.add_api_route("/v1/limits", limits.limits, methods=["GET"], **doc.LIMITS)
    app.router.add_api_route("/v1/usage", limits.usage, methods=["GET"], **doc.USAGE)
