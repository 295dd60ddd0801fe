"""A submission: counted, checked, promised its budget and queued in one step, or refused without a trace."""

import asyncio

import pytest
from redis.asyncio import Redis

from jobs.config import Anonymous, Tier
from jobs.record import State, SubmitRefused, Submitted
from jobs.runner import EpochChanged
from tests.jobs.builders import (
    ALICE,
    BOB,
    DAY_MS,
    MINUTE_MS,
    SECOND_MS,
    Desk,
    config,
    day_of,
    provider,
)


async def test_an_accepted_job_is_queued_and_its_estimate_is_promised(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=1000, requests_per_minute=20)
    answer = await desk.ask(tokens=300, expires_after_ms=90_000)
    assert isinstance(answer, Submitted)
    job, limits, now = answer.job, answer.limits, desk.clock.now_ms
    assert (job.state, job.attempts, job.estimated_tokens) == (State.QUEUED, 0, 300)
    assert (job.created_ms, job.expires_ms, job.started_ms, job.finished_ms) == (
        now,
        now + 90_000,
        None,
        None,
    )
    assert (job.usage, job.result, job.error, job.cost_usd) == (None, None, None, None)
    assert (limits.tokens_used, limits.tokens_reserved, limits.tokens_remaining) == (0, 300, 700)
    assert (limits.queued_jobs, limits.queued_tokens, limits.running) == (1, 300, 0)
    assert (limits.requests_limit, limits.requests_remaining) == (20, 19)
    assert await desk.tokens() == 300
    assert answer.replayed is False
    assert await desk.read(job) == job


async def test_what_was_submitted_comes_back_as_it_was(server: Redis) -> None:
    desk = await Desk.open(server)
    body = '{"x": "\u00fc \U0001f600 \\u0000 }{"}'.encode() + b"\r\n\x00\xff"
    sent = desk.new(
        body=body,
        custom_id="row 17 \u2028",
        metadata={"team": "se:arch", "": "\x00"},
        priority="interactive",
        endpoint="/v1/other",
        retry="never",
    )
    answer = await desk.store.submit(sent)
    assert isinstance(answer, Submitted)
    job = answer.job
    assert (job.id, job.user, job.name, job.endpoint) == (sent.id, ALICE, "m", "/v1/other")
    assert (job.custom_id, job.metadata, job.priority) == (sent.custom_id, sent.metadata, "interactive")
    taken = await (await desk.worker()).take_one()
    assert (taken.body, taken.retry, taken.prompt_tokens, taken.output_tokens) == (body, "never", 1, 99)


async def test_a_job_is_its_users_alone(server: Redis) -> None:
    desk = await Desk.open(server)
    job = await desk.submit(BOB)
    assert (await desk.store.read(ALICE, job.id))[0] is None
    assert (await desk.store.read(BOB, "job_none"))[0] is None
    assert (await desk.store.read(BOB, job.id))[0] == job


async def test_the_21st_request_of_a_minute_blocks_for_a_minute_that_asking_does_not_lengthen(
    server: Redis,
) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, requests_per_minute=20)
    for _ in range(20):
        await desk.submit()
    refused = await desk.refused()
    assert (refused.reason, refused.wait_ms) == ("rate_limited", MINUTE_MS)
    assert refused.limits.blocked_until_ms == desk.clock.now_ms + MINUTE_MS
    assert refused.limits.requests_remaining == 0
    desk.clock.advance(MINUTE_MS - 1)
    assert (await desk.refused()).wait_ms == 1
    assert (await desk.limits()).queued_jobs == 20
    desk.clock.advance(1)
    assert (await desk.limits()).blocked_until_ms is None
    await desk.submit()


async def test_one_users_block_does_not_touch_another(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, requests_per_minute=1)
    await desk.user(BOB, requests_per_minute=1)
    await desk.submit(ALICE)
    await desk.refused(ALICE)
    await desk.submit(BOB)


async def test_the_requests_of_a_day_are_limited_until_midnight(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, requests_per_day=2)
    await desk.submit()
    await desk.submit()
    refused = await desk.refused()
    assert (refused.reason, refused.wait_ms) == ("rate_limited", desk.clock.midnight_ms - desk.clock.now_ms)
    desk.clock.advance(refused.wait_ms or 0)
    await desk.submit()


async def test_replays_and_every_refusal_but_the_rates_own_count_as_requests(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, requests_per_minute=20, tokens_per_day=1000, max_queued_jobs=1)
    await desk.submit(tokens=400, idempotency_key="k", payload_digest="a")
    for remaining, fields, outcome in (
        (18, {"idempotency_key": "k", "payload_digest": "a"}, "replayed"),
        (17, {"idempotency_key": "k", "payload_digest": "b"}, "idempotency_key_reused"),
        (16, {"tokens": 1001}, "job_too_large"),
        (15, {}, "queue_full"),
    ):
        answer = await desk.ask(**fields)
        reason = answer.reason if isinstance(answer, SubmitRefused) else "replayed"
        assert (reason, answer.limits.requests_remaining) == (outcome, remaining)
    await desk.user(ALICE, max_queued_jobs=None)
    refused = await desk.refused(tokens=601)
    assert (refused.reason, refused.limits.requests_remaining) == ("budget_exhausted", 14)


async def test_a_queue_is_full_by_its_number_of_jobs_until_one_is_claimed(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, max_queued_jobs=2)
    await desk.submit()
    await desk.submit()
    refused = await desk.refused()
    assert (refused.reason, refused.wait_ms) == ("queue_full", SECOND_MS)
    await (await desk.worker()).take_one()
    await desk.submit()
    assert (await desk.refused()).reason == "queue_full"


async def test_a_queue_is_full_by_its_tokens(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, max_queued_tokens=1000)
    await desk.submit(tokens=600)
    assert (await desk.refused(tokens=401)).reason == "queue_full"
    await desk.submit(tokens=400)


async def test_a_full_queue_tells_when_its_first_job_is_to_start(server: Redis) -> None:
    desk = await Desk.open(server, config(providers={"p": provider(tokens=1000)}))
    await desk.user(ALICE, max_queued_jobs=1)
    hand = await desk.worker()
    await desk.submit(tokens=900)
    await hand.take_one()
    desk.clock.advance(20 * SECOND_MS)
    await hand.claim()
    first = await desk.submit(tokens=200)
    assert first.estimated_start_ms is not None
    refused = await desk.refused()
    assert (refused.reason, refused.wait_ms) == (
        "queue_full",
        first.estimated_start_ms - desk.clock.now_ms,
    )
    assert first.estimated_start_ms > desk.clock.now_ms + 30 * SECOND_MS


async def test_a_job_larger_than_the_whole_queue_is_too_large(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, max_queued_tokens=1000, tokens_per_day=5000)
    refused = await desk.refused(tokens=1001)
    assert (refused.reason, refused.wait_ms, refused.detail) == ("job_too_large", None, "1000")
    await desk.submit(tokens=1000)


async def test_a_job_over_a_whole_days_budget_is_too_large_promised_or_not(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=1000)
    for on_budget in ("reject", "wait"):
        refused = await desk.refused(tokens=1001, on_budget=on_budget)
        assert (refused.reason, refused.wait_ms, refused.detail) == ("job_too_large", None, "1000")
    await desk.submit(tokens=1000)


async def test_a_budget_refusal_leaves_everything_but_the_request_list_as_it_was(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, requests_per_minute=20, tokens_per_day=1000)
    await desk.submit(tokens=600)
    before = await desk.snapshot()
    refused = await desk.refused(tokens=401, idempotency_key="k", payload_digest="a")
    assert (refused.reason, refused.wait_ms) == (
        "budget_exhausted",
        desk.clock.midnight_ms - desk.clock.now_ms,
    )
    assert refused.limits.tokens_remaining == 400
    after = await desk.snapshot()
    assert before.pop("rate:alice") != after.pop("rate:alice")
    assert after == before
    await desk.submit(tokens=400)


async def test_of_many_at_once_exactly_those_with_room_are_accepted(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=1000)
    answers = await asyncio.gather(*(desk.ask(tokens=90) for _ in range(50)))
    assert sum(isinstance(answer, Submitted) for answer in answers) == 11
    assert await desk.tokens() == 990


async def test_a_budget_is_free_again_at_midnight(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=100)
    await desk.submit()
    refused = await desk.refused()
    desk.clock.advance((refused.wait_ms or 0) - 1)
    await desk.refused()
    desk.clock.advance(1)
    await desk.submit()


async def test_a_job_for_a_later_day_is_promised_from_that_days_budget(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=100)
    tomorrow = desk.clock.midnight_ms
    await desk.submit(not_before_ms=tomorrow)
    assert (await desk.tokens(), await desk.tokens(day=day_of(tomorrow))) == (0, 100)
    refused = await desk.refused(not_before_ms=tomorrow + DAY_MS - 1)
    assert (refused.reason, refused.wait_ms) == (
        "budget_exhausted",
        tomorrow + DAY_MS - desk.clock.now_ms,
    )
    await desk.submit(not_before_ms=tomorrow - 1)
    assert await desk.tokens() == 100


async def test_a_job_that_waits_for_a_budget_holds_nothing(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=100)
    await desk.submit(tokens=100)
    answer = await desk.ask(tokens=100, on_budget="wait")
    assert isinstance(answer, Submitted)
    assert (answer.job.blocked_on, answer.limits.tokens_reserved) == ("user_budget", 100)
    assert await desk.tokens() == 100


async def test_an_unlimited_user_is_counted_and_never_refused(server: Redis) -> None:
    desk = await Desk.open(server)
    for _ in range(3):
        answer = await desk.ask(tokens=10**9)
    assert isinstance(answer, Submitted)
    limits = answer.limits
    assert (limits.tokens_limit, limits.tokens_remaining, limits.requests_limit) == (None, None, None)
    assert await desk.tokens() == 3 * 10**9


async def test_a_users_own_limit_goes_before_his_tiers_and_may_be_none(server: Redis) -> None:
    tier = Tier(tokens_per_day=100, requests_per_minute=5, max_concurrent=2, weight=3)
    desk = await Desk.open(server, config(tiers={"small": tier}))
    await desk.users.create("carol", "small", {"tokens_per_day": 900, "requests_per_minute": None})
    limits = await desk.limits("carol")
    assert (limits.tier, limits.tokens_limit, limits.requests_limit) == ("small", 900, None)
    assert limits.max_concurrent == 2
    await desk.submit("carol", tokens=900)


async def test_anonymous_users_are_on_their_tier_and_share_one_budget_besides(server: Redis) -> None:
    desk = await Desk.open(
        server,
        config(
            tiers={"guest": Tier(tokens_per_day=600)},
            anonymous=Anonymous(tier="guest", tokens_per_day=1000),
        ),
    )
    first, second = "ip:192.0.2.1", "ip:2001:db8::/64"
    await desk.submit(first, tokens=600)
    assert (await desk.refused(first, tokens=1)).reason == "budget_exhausted"
    assert (await desk.limits(second)).tier == "guest"
    assert (await desk.refused(second, tokens=401)).reason == "budget_exhausted"
    taken = await desk.submit(second, tokens=400)
    assert (await desk.refused("ip:192.0.2.3", tokens=1)).reason == "budget_exhausted"
    await desk.submit(ALICE, tokens=5000)
    await desk.store.cancel(second, taken.id)
    await desk.submit("ip:192.0.2.3", tokens=400)


async def test_a_job_over_the_day_of_all_anonymous_users_is_too_large(server: Redis) -> None:
    desk = await Desk.open(
        server,
        config(tiers={"guest": Tier()}, anonymous=Anonymous(tier="guest", tokens_per_day=1000)),
    )
    refused = await desk.refused("ip:192.0.2.1", tokens=1001)
    assert (refused.reason, refused.detail) == ("job_too_large", "1000")


async def test_a_submission_wakes_one_sleeping_worker(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    assert await desk.length("wake") == 0
    first, second = await desk.worker(), await desk.worker()
    await first.take_one()
    await first.claim()
    await second.claim()
    await desk.submit()
    assert await desk.length("wake") == 1
    await desk.submit()
    assert await desk.length("wake") == 2
    await desk.submit()
    assert await desk.length("wake") == 2


async def test_a_redis_without_the_data_that_was_there_accepts_nothing_until_that_is_accepted(
    server: Redis,
) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker()
    await server.flushall()
    with pytest.raises(EpochChanged):
        await desk.submit()
    with pytest.raises(EpochChanged):
        await hand.claim()
    assert await desk.keys() == set()
    operator = Desk(server, desk.clock)
    await operator.store.accept_loss()
    await operator.store.publish(config())
    await desk.submit()
    await hand.take_one()
