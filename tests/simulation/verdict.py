"""Judges a job when it is sent and when it has ended, and whole schedules by the providers' own log."""

import json
from collections import defaultdict

from tests.simulation.facts import Job, Turn
from tests.simulation.provider import SUCCESSFUL, WORDS, Attempt
from tests.simulation.world import World

MINUTE_S = 60.0


def judge_write(world: World, job: Job, turn: Turn, attempt: Attempt) -> None:
    """A request goes out: in time, once under one lease, not after an end, not again where that could pay twice."""
    if attempt.written_at > turn.claimed_at + world.plan.margin_s:
        late_s = attempt.written_at - turn.claimed_at
        world.fail("late", f"{job.id} was sent {late_s:.3f} s after its claim under {turn.token}")
    if job.end is not None:
        world.fail("sends", f"{job.id} was sent under {turn.token} after it had {job.end.state}")
    if turn.attempt is not None:
        world.fail("sends", f"{job.id} was sent twice under {turn.token}")
    if job.retry == "never":
        for before in job.turns:
            if (
                before is not turn
                and before.attempt is not None
                and not (before.attempt.known and before.back)
            ):
                world.fail(
                    "sends", f"{job.id}, never to be repeated, was sent again after {before.attempt.fate}"
                )


def judge_end(world: World, job: Job) -> None:
    """An end is one that could come, and costs what the provider told of the attempt that counted."""
    assert job.end is not None
    end, turn = job.end, job.turns[-1] if job.turns else None
    if end.charge is not None and job.day and end.head.get("day") != job.day:
        world.fail("ledger", f"{job.id} was charged to {end.head.get('day')}, and held on {job.day}")
    attempts = sum(one.counted for one in job.turns)
    if end.head["at"] != attempts:
        world.fail("attempts", f"{job.id} has {end.head['at']} attempts, and had {attempts} that count")
    _judge_charge(world, job, turn)
    match end.state:
        case "succeeded":
            _judge_success(world, job, turn)
        case "cancelled":
            if job.asked_ms is None:
                world.fail("final", f"{job.id} is cancelled, and nobody asked for that")
        case "expired":
            # Its worker was asked to stop it when it was time; then Redis's clock may have been set back.
            if end.at_ms + world.plan.clock_slack_s * 1000 < job.expires_ms:
                world.fail("final", f"{job.id} expired {job.expires_ms - end.at_ms} ms too early")
        case "failed":
            _judge_failure(world, job)
        case _:
            world.fail("final", f"{job.id} was told to have ended, and is {end.state}")


def _judge_success(world: World, job: Job, turn: Turn | None) -> None:
    assert job.end is not None
    attempt = turn.attempt if turn else None
    if attempt is None or not attempt.delivered or attempt.fate not in SUCCESSFUL:
        world.fail("final", f"{job.id} succeeded without an answer: {attempt}")
    elif job.end.result != attempt.result:
        world.fail("final", f"{job.id} has {job.end.result!r} for an answer, not that of {attempt}")


def _judge_failure(world: World, job: Job) -> None:
    assert job.end is not None
    code = job.end.code
    if code == "internal":
        world.fail("internal", f"{job.id} failed for a reason of our own: {job.end.error}")
    lost = [turn for turn in job.turns if not turn.closed_by]
    if code == "worker_lost" and len(lost) < 3:
        world.fail("final", f"{job.id} was given up as worker_lost after {len(lost)} lost workers")
    if code == "outcome_unknown" and job.retry != "never":
        world.fail("final", f"{job.id} may be repeated, and was given up with an unknown outcome")


def _judge_charge(world: World, job: Job, turn: Turn | None) -> None:
    assert job.end is not None
    charge = job.end.charge
    attempt = turn.attempt if turn else None
    told = attempt.usage if attempt is not None and attempt.delivered else None
    paid = None if charge is None else (charge["p"], charge["c"], charge["t"])
    estimate = (job.prompt_tokens, job.cap_tokens, job.estimate)
    wanted: tuple[tuple[int, int, int] | None, ...]
    # Its worker was lost with it, or its call was cut off.
    unknown = turn is not None and job.ended_running and (not turn.closed_by or turn.how == "in_flight")
    if job.end.state == "succeeded":
        counted = min(WORDS, job.cap_tokens)
        wanted = ((job.prompt_tokens, counted, job.prompt_tokens + counted),)
        if told is not None:
            wanted = ((told.prompt_tokens, told.completion_tokens, told.total_tokens),)
    elif job.end.state in ("cancelled", "expired") or job.end.code == "outcome_unknown":
        wanted = (estimate,) if unknown else (None,)
        if told is not None and job.ended_running:
            wanted = (*wanted, (told.prompt_tokens, told.completion_tokens, told.total_tokens))
    elif told is not None and job.end.code == "provider_rejected":
        wanted = ((told.prompt_tokens, told.completion_tokens, told.total_tokens),)
    else:
        wanted = (None,)
    if paid not in wanted:
        world.fail("ledger", f"{job.id} has {job.end.state} {job.end.code} and paid {paid}, not {wanted}")


def judge_healthy_workers(world: World, jobs: list[Job]) -> None:
    """Nobody loses a lease but who died, was frozen, could not renew or was not told of its claim again and again.

    An outage of Redis is no reason.
    """
    for job in jobs:
        for turn in job.turns:
            process = turn.process
            excused = process.killed or process.was_frozen or process.renewals_lost or turn.repeated > 1
            # It does not stay for long because of claims of which it has not heard.
            excused = excused or process.left_in_outage
            if not turn.closed_by and not excused:
                world.fail(
                    "attempts", f"{process.name} was well, and yet {job.id} was lost under {turn.token}"
                )


def judge_windows(world: World) -> None:
    """No 60 seconds of a provider's own log hold more than its limits, but for what it counted beyond a cap."""
    charges = defaultdict(list)
    for charge in world.provider.charges:
        charges[charge.scope].append(charge)
    for name, limit_tokens, limit_requests in _limits(world):
        log = sorted(charges[name], key=lambda charge: charge.at)
        first, tokens, requests, over = 0, 0, 0, 0
        for last in log:
            tokens, requests, over = tokens + last.tokens, requests + last.requests, over + last.over
            while log[first].at <= last.at - MINUTE_S:
                tokens, requests, over = (
                    tokens - log[first].tokens, requests - log[first].requests, over - log[first].over,
                )  # fmt: skip
                first += 1
            if limit_tokens is not None and tokens - over > limit_tokens:
                world.fail(
                    "window", f"{name} charged {tokens} tokens from {log[first].at:.3f} to {last.at:.3f}"
                )
                return
            if limit_requests is not None and requests > limit_requests:
                world.fail(
                    "window", f"{name} counted {requests} requests from {log[first].at:.3f} to {last.at:.3f}"
                )
                return


def _limits(world: World) -> list[tuple[str, int | None, int | None]]:
    config = world.plan.config
    found = [
        (name, provider.tokens_per_minute, provider.requests_per_minute)
        for name, provider in config.providers.items()
    ]
    for pool in config.all_pools():
        settings = pool.model_settings
        found.append((pool.id, settings.tokens_per_minute, settings.requests_per_minute))
    return found


def judge_ledger(world: World, jobs: list[Job], lines: list[dict[str, str]]) -> None:
    """At most one charge a job, equal to what its end says; one line for each attempt that was lost, no others."""
    by_job = defaultdict(list)
    for line in lines:
        by_job[line["job"]].append(line)
    for job in jobs:
        assert job.end is not None
        charged = [line for line in by_job[job.id] if line["kind"] == "charged"]
        lost = [line for line in by_job[job.id] if line["kind"] != "charged"]
        paid = job.end.charge
        if len(charged) != (paid is not None):
            world.fail("ledger", f"{job.id} was charged {len(charged)} times: {charged}")
        elif paid is not None:
            [line] = charged
            sums = (line["user"], int(line["in"]) + int(line["out"]))
            if sums != (job.user, paid["t"]):
                world.fail("ledger", f"{job.id} says it cost {paid}, the ledger {line}")
        unknown = [turn for turn in job.turns if not turn.closed_by or turn.how == "in_flight"]
        expected = len(unknown)
        if unknown and unknown[-1] is job.turns[-1] and job.ended_running and paid is not None:
            expected -= 1
        if len(lost) != expected:
            world.fail(
                "ledger",
                f"{job.id} has {len(lost)} lines of lost attempts for {expected}: {json.dumps(lost)}",
            )
