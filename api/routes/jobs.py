"""/v1/jobs: where a job comes in and where its end is fetched. Each answer carries the caller's limits."""

import asyncio
import hashlib
from functools import partial

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from ulid import ULID

from api.answers import Answer, Empty, Header
from api.auth import Principal
from api.body import (
    INLINE_BYTES,
    beside,
    canonical,
    check_content_type,
    encode,
    header_values,
    parse,
    read_bytes,
)
from api.errors import DO_NOT_RETRY, Problem, job_not_found, problem_of, retry_after
from api.events import event_stream
from api.fit import check_fit
from api.headers import limit_headers, poll_after_s
from api.hooks import forbidden
from api.openapi import job_routes as doc
from api.refusals import rate_limited, refusal
from api.request import Query, idempotency_key, is_job_id, preferred_wait_s
from api.service import Service
from api.submission import Submission, read_submission, unknown_model
from api.views import etag, job_bytes, list_bytes
from jobs.egress import Target
from jobs.record import JobView, LimitsView, NewJob, State, Submitted
from jobs.tokens.estimate import Estimate
from jobs.webhooks import own_lane

STOPPING_S = 3.0
"""A running job is stopped within a second of its cancel; an answer that takes longer tells of it as it is."""

_HOOK = "/webhook_url"
_PRIVATE: Header = (b"cache-control", b"private, no-cache")
_NEVER_KEPT: Header = (b"cache-control", b"no-store")


class Jobs:
    """The handlers; they share one process's parts."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def submit(self, request: Request) -> Response:
        """From a request to a queued job: one round trip to Redis."""
        service = self._service
        principal = await service.principal(request.scope, "jobs")
        blocked = service.blocks.standing(principal.user)
        if blocked is not None:
            service.rejections.count("rate_limited", blocked.tier)
            raise rate_limited(blocked, (blocked.blocked_until_ms or 0) - blocked.now_ms)
        try:
            job = await self._read(request, principal)
        except Problem as problem:
            service.rejections.count(problem.code)
            raise
        outcome = await service.submit(job)
        if not isinstance(outcome, Submitted):
            service.rejections.count(outcome.reason, outcome.limits.tier)
            if outcome.reason == "rate_limited":
                service.blocks.remember(outcome.limits)
            raise refusal(
                outcome, estimated_tokens=job.estimated_tokens, upgrade_url=service.config.upgrade_url
            )
        return await self._accepted(request, outcome, preferred_wait_s(request.scope))

    async def _read(self, request: Request, principal: Principal) -> NewJob:
        """The job that is asked for, with its estimate; it fits what serves it. Raises Problem."""
        service, scope = self._service, request.scope
        key = idempotency_key(scope)
        check_content_type(scope)
        raw = await read_bytes(scope, request.receive, limit_bytes=service.config.limits.body_bytes)
        if len(raw) <= INLINE_BYTES:
            return await self._understood(raw, principal, key)
        async with service.turns.of(principal.user):
            return await self._understood(raw, principal, key)

    async def _understood(self, raw: bytes, principal: Principal, key: str | None) -> NewJob:
        service, size_bytes = self._service, len(raw)
        limits = service.config.limits
        value = await beside(size_bytes, parse, raw)
        check = partial(read_submission, now_s=service.now_ms() / 1000)
        submission = await beside(size_bytes, check, value)
        provider_body = await beside(size_bytes, encode, submission.body)
        pools = service.config.pools(submission.model)
        if not pools:
            raise unknown_model(submission.model, service.config.served_names())
        estimate = await service.estimator.estimate(
            submission.body, pools, body_bytes=size_bytes, stop_above_tokens=limits.prompt_tokens
        )
        check_fit(submission.body, estimate, pools, prompt_limit_tokens=limits.prompt_tokens)
        hook = None
        if submission.webhook_url is not None:
            if principal.anonymous:
                raise forbidden(
                    "anonymous", "takes a key: without one there is no secret to sign with", _HOOK
                )
            hook = await service.hooks.target(submission.webhook_url, service.config, _HOOK)
        digest = await beside(size_bytes, _digest, value) if key else ""
        return _new_job(submission, provider_body, estimate, principal, key, digest, hook)

    async def _accepted(self, request: Request, outcome: Submitted, wait_s: int) -> Response:
        job, limits = outcome.job, outcome.limits
        headers: list[Header] = [(b"location", b"/v1/jobs/" + job.id.encode()), _NEVER_KEPT]
        if outcome.replayed:
            headers.append((b"idempotent-replayed", b"true"))
        if wait_s:
            found = await self._end_of(request, job, wait_s)
            if found is not None:
                job, limits = found
            if job.state.final:
                headers += [(b"preference-applied", b"wait=%d" % wait_s), *limit_headers(limits)]
                return Answer(job_bytes(job), 200, headers)
        if not job.state.final:
            headers.append(retry_after(poll_after_s(job, limits.now_ms)))
        headers += limit_headers(limits)
        return Answer(job_bytes(job), 202, headers)

    async def _end_of(self, request: Request, job: JobView, wait_s: int) -> tuple[JobView, LimitsView] | None:
        """The job after the wait; None where that cannot be told: it was accepted all the same."""
        try:
            found, limits = await self._service.read_at_end(request, job.user, job.id, wait_s)
        except asyncio.CancelledError:
            if not self._service.waiters.draining:
                raise
            return None
        except Exception as error:
            if problem_of(error) is None:
                raise
            return None
        return None if found is None else (found, limits)

    async def read(self, request: Request) -> Response:
        """The job as it is, or (with ?wait=N) as it ends."""
        service, scope = self._service, request.scope
        principal = await service.principal(scope, "jobs")
        wait_s = Query(scope).wait_s() if scope["query_string"] else 0
        job_id = _job_id(request)
        job, limits = await service.read_at_end(request, principal.user, job_id, wait_s)
        if job is None:
            raise job_not_found()
        body = job_bytes(job)
        tag = etag(job, body)
        headers: list[Header] = [(b"etag", tag), _PRIVATE, *limit_headers(limits)]
        if not job.state.final:
            headers.append(retry_after(poll_after_s(job, limits.now_ms)))
        if _matches(header_values(scope, b"if-none-match"), tag):
            return Empty(304, headers)
        return Answer(body, 200, headers)

    async def list(self, request: Request) -> Response:
        """The caller's jobs, newest first."""
        service, scope = self._service, request.scope
        principal = await service.principal(scope, "jobs")
        query = Query(scope)
        limit = query.count("limit", default=20, least=1, most=100)
        status = query.choice("status", tuple(State))
        jobs, has_more, limits = await service.store.list(
            principal.user,
            limit=limit,
            after=query.job_id("after"),
            status=State(status) if status else None,
            custom_id=query.text("custom_id"),
        )
        return Answer(list_bytes(jobs, has_more), 200, [_PRIVATE, *limit_headers(limits)])

    async def cancel(self, request: Request) -> Response:
        """Ends a queued job at once; waits for a running one to be stopped."""
        service = self._service
        principal = await service.principal(request.scope, "jobs")
        job_id = _job_id(request)
        outcome = await service.store.cancel(principal.user, job_id)
        job, limits = outcome.job, outcome.limits
        if outcome.outcome == "requested":
            job, limits = await service.read_at_end(request, principal.user, job_id, STOPPING_S)
        if job is None:
            raise job_not_found()
        if outcome.outcome == "finished":
            raise Problem(
                "job_finished", f"The job is {job.state} already, and stays so.", headers=(DO_NOT_RETRY,)
            )
        return Answer(job_bytes(job), 200, [_NEVER_KEPT, *limit_headers(limits)])

    async def erase(self, request: Request) -> Response:
        """Forgets a finished job."""
        service = self._service
        principal = await service.principal(request.scope, "jobs")
        outcome = await service.store.erase(principal.user, _job_id(request))
        if outcome.outcome == "not_found":
            raise job_not_found()
        if outcome.outcome == "unfinished":
            raise Problem(
                "job_unfinished", "The job has not ended: cancel it first, or wait.", headers=(DO_NOT_RETRY,)
            )
        return Empty(204, limit_headers(outcome.limits))

    async def events(self, request: Request) -> Response:
        """The job's changes as server-sent events."""
        service = self._service
        principal = await service.principal(request.scope, "jobs")
        return await event_stream(service, request, principal, _job_id(request))


def _digest(value: dict[str, object]) -> str:
    """What tells one payload from another."""
    return hashlib.sha256(canonical(value)).hexdigest()


def _new_job(
    submission: Submission,
    provider_body: bytes,
    estimate: Estimate,
    principal: Principal,
    key: str | None,
    digest: str,
    hook: Target | None,
) -> NewJob:
    return NewJob(
        id=f"job_{ULID()}",
        user=principal.user,
        name=submission.model,
        body=provider_body,
        prompt_tokens=estimate.prompt_tokens,
        output_tokens=estimate.output_tokens,
        endpoint=submission.endpoint,
        custom_id=submission.custom_id,
        metadata=submission.metadata or {},
        priority=submission.priority,
        not_before_ms=None if submission.not_before is None else submission.not_before * 1000,
        expires_after_ms=submission.expires_after * 1000,
        retry=submission.retry,
        on_budget=submission.on_budget,
        idempotency_key=key,
        payload_digest=digest,
        anonymous=principal.anonymous,
        webhook_url=hook.url if hook else None,
        webhook_lane=own_lane(principal.user, hook) if hook else None,
    )


def _job_id(request: Request) -> str:
    """The id in the path. Raises the 404 of an unknown id for what could not be one, without asking Redis."""
    job_id: str = request.path_params["job_id"]
    if not is_job_id(job_id):
        raise job_not_found()
    return job_id


def _matches(values: list[bytes], tag: bytes) -> bool:
    """RFC 9110: If-None-Match compares weakly."""
    if not values:
        return False
    given = [one.strip().removeprefix(b"W/") for one in b",".join(values).split(b",")]
    return tag in given or b"*" in given


def add(app: FastAPI, service: Service) -> None:
    """Puts the routes on the application, the busiest first."""
    jobs = Jobs(service)
    route = app.router.add_api_route
    route("/v1/jobs", jobs.submit, methods=["POST"], **doc.SUBMIT)
    route("/v1/jobs/{job_id}", jobs.read, methods=["GET"], **doc.READ)
    route("/v1/jobs", jobs.list, methods=["GET"], **doc.LIST)
    route("/v1/jobs/{job_id}/cancel", jobs.cancel, methods=["POST"], **doc.CANCEL)
    route("/v1/jobs/{job_id}", jobs.erase, methods=["DELETE"], **doc.ERASE)
    route("/v1/jobs/{job_id}/events", jobs.events, methods=["GET"], **doc.EVENTS)
