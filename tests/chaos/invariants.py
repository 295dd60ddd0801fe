"""What must hold when all is over, looked for from outside: in answers, in the providers' logs, and in Redis."""

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import cast

from jobs.ledger import Ledger
from tests.chaos.caller import View
from tests.chaos.crowd import User, Wish
from tests.chaos.system import TIGHT, Sent, System
from tests.chaos.waiting import PATIENCE_S
from tests.docs.redis_keys import documented, wrong_expiries
from tests.jobs.invariants import AT_REST_NEVER, check, kept

ALLOWED = frozenset({200, 202, 401, 404, 409, 429, 503})
AFTER_AN_ANSWER = frozenset({408, 429, 500, 502, 503, 504, 529})
"""Complete answers of a provider after which a job may be sent again, `retry: never` or not."""
GOES_WITH_TIME = frozenset({"workers", "asleep", "wake", "grace"})
"""What killed workers leave for a minute or so."""


async def violations(system: System, users: list[User]) -> list[str]:
    """Everything that is wrong; the system is well, and every job that was accepted has been seen at its end."""
    found = [f"{user.caller.user}: {what}" for user in users for what in user.wrong]
    sent: dict[str, list[Sent]] = defaultdict(list)
    for one in await system.sent():
        sent[one.marker].append(one)
    for user in users:
        codes = {status for status in user.caller.statuses if status not in ALLOWED}
        if codes:
            found.append(f"{user.caller.user} was answered with {sorted(codes)}")
        jobs: dict[str | None, list[View]] = defaultdict(list)
        for view in await user.caller.all_jobs():
            jobs[view.custom_id].append(view)
        for wish in user.wishes:
            found += _of_wish(wish, jobs[wish.marker])
            found += _of_sends(wish, jobs[wish.marker], sent[wish.marker])
    found += _of_provider(one for those in sent.values() for one in those)
    found += await _of_windows(system)
    return found


def _of_wish(wish: Wish, jobs: list[View]) -> Iterable[str]:
    """Durable, once per key, final."""
    if len(jobs) > 1:
        yield f"{wish.marker} is {len(jobs)} jobs: {[view.id for view in jobs]}"
    if len(wish.answers) > 1:
        yield f"{wish.marker} was answered as {wish.answers}"
    if wish.answers and {view.id for view in jobs} != wish.answers:
        yield f"{wish.marker} was accepted as {wish.answers}, and is {[view.id for view in jobs]}"
    if jobs and not wish.answers and not wish.unknown and not wish.refused:
        yield f"{wish.marker} was refused, and is {jobs[0].id}"
    for view in jobs:
        if not view.final and wish.answers:
            yield f"{wish.marker} has not ended: {view}"
        for end in wish.ends:
            if end != view:
                yield f"{wish.marker} ended as {end} and now is {view}"
        if view.error_code in ("internal", "unknown_model", "job_too_large", "content_invalid"):
            yield f"{wish.marker} failed for a reason that there was not: {view.error}"
        if view.error_code == "outcome_unknown" and not wish.never:
            yield f"{wish.marker} may be repeated, and was given up as outcome_unknown"
        if view.status == "cancelled" and not (wish.cancelled or wish.refused or wish.unknown):
            yield f"{wish.marker} was cancelled by nobody"


def _of_sends(wish: Wish, jobs: list[View], sent: list[Sent]) -> Iterable[str]:
    """No send after an answer that was settled, none that could pay twice, and the charge of the one that counted."""
    if sent and not jobs:
        yield f"{wish.marker} was sent, and is no job"
    if wish.never:
        for one in sent[:-1]:
            if one.status not in AFTER_AN_ANSWER or one.client_gone:
                yield f"{wish.marker}, never to be repeated, was sent again after {one}"
    for view in jobs:
        if view.status != "succeeded":
            continue
        if not sent:
            yield f"{wish.marker} succeeded, and was never sent"
        elif view.completion_id != sent[-1].completion_id:
            yield f"{wish.marker} has the answer {view.completion_id}, and was last sent as {sent[-1]}"
        elif view.usage is None:
            yield f"{wish.marker} succeeded, and cost nothing"
        elif view.usage.source == "provider" and view.usage.total_tokens != sent[-1].reported_tokens:
            yield f"{wish.marker} was charged {view.usage}, and the provider said {sent[-1]}"


def _of_provider(sent: Iterable[Sent]) -> Iterable[str]:
    for one in sent:
        if one.status == 429 and one.fault is None:
            yield f"the provider refused {one}"


async def _of_windows(system: System) -> list[str]:
    assert system.shape.tight is not None
    stats = (await system.http.get(f"{system.providers[TIGHT]}/_stats")).raise_for_status().json()
    tokens, requests = stats["greatest_tokens_in_60s"], stats["greatest_requests_in_60s"]
    most_tokens, most_requests = system.shape.tight
    if tokens > most_tokens or requests > most_requests:
        return [f"{tokens} tokens and {requests} requests in a minute; {system.shape.tight} were allowed"]
    return []


async def violations_at_rest(system: System, users: list[User]) -> list[str]:
    """What is wrong in Redis once nothing can happen any more; waits for that, then all processes may be stopped."""
    found = await _left(system)
    try:
        check(await kept(system.redis))
    except AssertionError as error:
        found.append(f"the counters do not agree: {error}")
    lives = {key.decode(): await system.redis.pttl(key) for key in await system.redis.keys("*")}
    found += wrong_expiries(lives, documented())
    days = sorted(key.decode().partition(":")[2] for key in await system.redis.keys("ledger:*"))
    for one in (await Ledger(system.redis).verify(days)).differences:
        found.append(f"the books differ: {one}")
    for user in users:
        limits = (await user.caller.ask("GET", "/v1/limits")).json()
        if limits["tokens"]["reserved"] or limits["concurrent"]["running"] or limits["queued"]["jobs"]:
            found.append(f"{user.caller.user} has something left: {limits}")
        if limits["tokens"]["limit"] is not None and limits["tokens"]["used"] > limits["tokens"]["limit"]:
            found.append(f"{user.caller.user} is over budget: {limits['tokens']}")
        found += await _charges(system, user, days)
    return found


async def _left(system: System) -> list[str]:
    """The keys that should not be there, after as long as the last deadline takes."""
    never = re.compile("|".join(f"{name}(:.*)?" for name in set(AT_REST_NEVER) - GOES_WITH_TIME))
    deadline = time.monotonic() + PATIENCE_S
    while True:
        names = [key.decode() for key in await system.redis.keys("*")]
        left = [name for name in names if never.fullmatch(name)]
        if not left or time.monotonic() > deadline:
            return [f"{name} is left at rest" for name in left]
        await asyncio.sleep(0.1)


async def _charges(system: System, user: User, days: list[str]) -> list[str]:
    """One charge for each job that shows one, of the same tokens, and none for the others."""
    lines: dict[str, list[int]] = defaultdict(list)
    for day in days:
        for _, line in cast(
            "list[tuple[bytes, dict[bytes, bytes]]]", await system.redis.xrange(f"ledger:{day}")
        ):
            if line[b"kind"] == b"charged":
                lines[line[b"job"].decode()].append(int(line[b"in"]) + int(line[b"out"]))
    found = []
    for view in await user.caller.all_jobs():
        expected = [] if view.usage is None else [view.usage.total_tokens]
        if lines[view.id] != expected:
            found.append(f"{view.id} ({view.status}) shows {view.usage}, and the ledger has {lines[view.id]}")
    return found


def summary(users: list[User], sends: int) -> str:
    """How much there was: jobs by their ends."""
    ends = Counter(end.status for user in users for wish in user.wishes for end in wish.ends[:1])
    refused = sum(not wish.answers for user in users for wish in user.wishes)
    told = ", ".join(f"{count} {status}" for status, count in sorted(ends.items()))
    return f"{sum(ends.values())} jobs ({told}), {refused} not accepted, {sends} requests sent"
