"""GET /v1/jobs/{id}/events: a job's changes as server-sent events, `status` on each and `done` at the end.

An event's id is the job's version, so that a reader who comes back with Last-Event-ID gets only what is new.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.answers import Empty, Header
from api.auth import Principal
from api.body import header_values
from api.edge import HEAD_ONLY
from api.errors import job_not_found, problem_of
from api.headers import limit_headers
from api.service import Service
from api.views import job_bytes
from jobs.record import JobView

LOOK_INTERVAL_S = 1.0
"""An end is heard at once; a start is seen within this."""
KEEP_ALIVE_S = 15.0
"""Proxies cut what is silent for long."""

_STREAM_HEADERS: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
_EVENT_ID = re.compile(rb"([0-9]{1,15})(\.done)?")


async def event_stream(service: Service, request: Request, principal: Principal, job_id: str) -> Response:
    """The stream, or the 404 of an unknown job; 204 (which stops an EventSource) to one who has had `done`."""
    last = _EVENT_ID.fullmatch(b",".join(header_values(request.scope, b"last-event-id")))
    job, limits = await service.store.read(principal.user, job_id)
    if job is None:
        raise job_not_found()
    if last and last[2]:
        return Empty(204, limit_headers(limits))
    if HEAD_ONLY in request.scope.get("extensions", {}):
        return Empty(200, [*_STREAM_HEADERS, *limit_headers(limits)])
    response = StreamingResponse(
        _events(service, request, principal, job, int(last[1]) if last else -1),
    )
    response.raw_headers = [*_STREAM_HEADERS, *limit_headers(limits)]
    return response


async def _events(
    service: Service, request: Request, principal: Principal, job: JobView, seen_version: int
) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    last_sent = loop.time()
    current: JobView | None = job
    with service.waiters.listen(job.id) as wake:
        while current is not None:
            if current.version > seen_version:
                seen_version = current.version
                yield _event("status", str(current.version), current)
                last_sent = loop.time()
            if current.state.final:
                yield _event("done", f"{current.version}.done", current)
                return
            if service.waiters.draining:
                return
            if loop.time() - last_sent > KEEP_ALIVE_S:
                yield b": still there\n\n"
                last_sent = loop.time()
            await wake.wait(LOOK_INTERVAL_S)
            try:
                # The key may have been revoked in the meantime.
                await service.principal(request.scope, "jobs")
                current, _ = await service.store.read(principal.user, job.id)
            except Exception as error:
                problem = problem_of(error)
                if problem is None:
                    raise
                if problem.code != "unavailable":
                    return


def _event(name: str, event_id: str, job: JobView) -> bytes:
    """One event. A result may have line breaks between its JSON tokens: each line is a data line of its own."""
    data = b"".join(b"data: %s\n" % line for line in job_bytes(job).splitlines())
    return b"event: %s\nid: %s\n%s\n" % (name.encode(), event_id.encode(), data)
