"""A job that its user no longer wants: ended before it ran, asked to stop while it runs, forgotten when it is over."""

from redis.asyncio import Redis

from jobs.record import State
from tests.jobs.builders import ALICE, BOB, MINUTE_MS, SECOND_MS, Desk
from tests.support.subscription import next_message, subscribed


async def test_a_queued_job_is_cancelled_at_once_and_its_tokens_are_free(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=100)
    job = await desk.submit(tokens=100)
    outcome = await desk.store.cancel(ALICE, job.id)
    assert outcome.job is not None
    assert (outcome.outcome, outcome.job.state, outcome.job.usage) == ("cancelled", State.CANCELLED, None)
    assert outcome.job.finished_ms == desk.clock.now_ms
    assert (outcome.limits.tokens_remaining, outcome.limits.queued_jobs) == (100, 0)
    assert await (await desk.worker()).take() == []
    assert await desk.ledger() == []


async def test_a_job_for_later_and_one_between_attempts_are_cancelled_at_once(server: Redis) -> None:
    desk = await Desk.open(server)
    later = await desk.submit(not_before_ms=desk.clock.now_ms + MINUTE_MS)
    await desk.submit()
    hand = await desk.worker()
    retried = await hand.take_one()
    await hand.put_back(retried, after_ms=MINUTE_MS)
    for job_id in (later.id, retried.id):
        assert (await desk.store.cancel(ALICE, job_id)).outcome == "cancelled"
    assert await desk.scores("due") == {}
    assert await desk.tokens() == 0
    desk.clock.advance(MINUTE_MS)
    assert await hand.take(2) == []


async def test_a_running_job_goes_on_until_its_worker_stops_it(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    hand = await desk.worker()
    job = await hand.take_one()
    outcome = await desk.store.cancel(ALICE, job.id)
    assert outcome.job is not None
    assert (outcome.outcome, outcome.job.state) == ("requested", State.RUNNING)
    assert await hand.renew(job) == ((), (job.id,))
    before = await desk.snapshot()
    assert (await desk.store.cancel(ALICE, job.id)).outcome == "requested"
    assert await desk.snapshot() == before


async def test_a_job_that_expired_before_its_cancel_ends_as_expired(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit(expires_after_ms=SECOND_MS)
    hand = await desk.worker()
    job = await hand.take_one()
    desk.clock.advance(SECOND_MS)
    await desk.store.sweep()
    assert (await desk.store.cancel(ALICE, job.id)).outcome == "requested"
    await hand.claims.settle(job, None, charge=None, window="given_back")
    assert await desk.state(job) is State.EXPIRED


async def test_the_worker_is_told_at_once_each_time_it_is_asked_for(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    hand = await desk.worker("w1")
    job = await hand.take_one()
    async with subscribed(server, "worker:w1") as heard:
        for _ in range(2):
            await desk.store.cancel(ALICE, job.id)
            assert await next_message(heard) == job.id.encode()


async def test_a_claim_tells_of_a_cancel_that_came_before_its_answer(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    hand = await desk.worker()
    job = await hand.take_one()
    await desk.store.cancel(ALICE, job.id)
    [again] = (await hand.claim_again()).jobs
    assert (job.cancel_requested, again.cancel_requested) == (False, True)


async def test_a_finished_job_cannot_be_cancelled(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    hand = await desk.worker()
    job = await hand.take_one()
    await hand.succeed(job)
    before = await desk.snapshot()
    outcome = await desk.store.cancel(ALICE, job.id)
    assert outcome.job is not None
    assert (outcome.outcome, outcome.job.state) == ("finished", State.SUCCEEDED)
    assert await desk.snapshot() == before


async def test_a_job_of_another_user_can_be_neither_cancelled_nor_erased(server: Redis) -> None:
    desk = await Desk.open(server)
    job = await desk.submit(ALICE)
    before = await desk.snapshot()
    for job_id in (job.id, "job_none"):
        cancelled = await desk.store.cancel(BOB, job_id)
        assert (cancelled.outcome, cancelled.job) == ("not_found", None)
        assert (await desk.store.erase(BOB, job_id)).outcome == "not_found"
    assert await desk.snapshot() == before


async def test_an_unfinished_job_cannot_be_erased(server: Redis) -> None:
    desk = await Desk.open(server)
    job = await desk.submit()
    assert (await desk.store.erase(ALICE, job.id)).outcome == "unfinished"
    await (await desk.worker()).take_one()
    assert (await desk.store.erase(ALICE, job.id)).outcome == "unfinished"
    assert await desk.state(job) is State.RUNNING


async def test_an_erased_job_leaves_nothing_but_what_it_used(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit(body=b"secret prompt", idempotency_key="k", payload_digest="a", custom_id="row 1")
    hand = await desk.worker()
    job = await hand.take_one()
    await hand.succeed(job, 40, result=b"secret answer")
    await hand.claim()
    erased = await desk.store.erase(ALICE, job.id)
    assert (erased.outcome, erased.limits.tokens_used) == ("erased", 40)
    assert (await desk.store.read(ALICE, job.id))[0] is None
    assert (await desk.store.erase(ALICE, job.id)).outcome == "not_found"
    left = await desk.snapshot()
    assert "secret" not in repr(left)
    naming = {key for key, value in left.items() if job.id in key or job.id in repr(value)}
    assert naming == {f"ledger:{desk.clock.day}", f"claim:{hand.claims.worker}"}
