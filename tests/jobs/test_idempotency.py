"""A submission that is made again, under its own id or under an Idempotency-Key, is still one job."""

import asyncio

from redis.asyncio import Redis

from jobs.record import State, Submitted
from tests.jobs.builders import (
    ALICE,
    BOB,
    Desk,
)


async def test_a_submission_repeated_for_one_id_answers_alike_and_counts_nothing(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=1000, requests_per_minute=20)
    job = desk.new(tokens=600)
    first = await desk.store.submit(job)
    before = await desk.snapshot()
    assert await desk.store.submit(job) == first
    assert await desk.snapshot() == before


async def test_a_submission_repeated_when_the_job_already_ran_still_counts_nothing(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=1000, requests_per_minute=1)
    job = desk.new(tokens=600)
    await desk.store.submit(job)
    hand = await desk.worker()
    await hand.succeed(await hand.take_one(), 500)
    before = await desk.snapshot()
    again = await desk.store.submit(job)
    assert isinstance(again, Submitted)
    assert (again.job.state, again.replayed) == (State.SUCCEEDED, False)
    assert await desk.snapshot() == before


async def test_one_idempotency_key_and_payload_give_the_first_job(server: Redis) -> None:
    desk = await Desk.open(server)
    first = await desk.submit(idempotency_key="k: {}", payload_digest="a")
    hand = await desk.worker()
    running = await hand.take_one()
    answer = await desk.ask(idempotency_key="k: {}", payload_digest="a")
    assert isinstance(answer, Submitted)
    assert (answer.replayed, answer.job.id, answer.job.state) == (True, first.id, State.RUNNING)
    await hand.succeed(running)
    answer = await desk.ask(idempotency_key="k: {}", payload_digest="a")
    assert isinstance(answer, Submitted)
    assert (answer.replayed, answer.job.state) == (True, State.SUCCEEDED)
    assert (await desk.limits()).queued_jobs == 0


async def test_an_idempotency_key_with_another_payload_is_refused(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit(idempotency_key="k", payload_digest="a")
    refused = await desk.refused(idempotency_key="k", payload_digest="b")
    assert (refused.reason, refused.wait_ms) == ("idempotency_key_reused", None)
    await desk.submit(idempotency_key="k2", payload_digest="b")


async def test_idempotency_keys_are_each_users_own(server: Redis) -> None:
    desk = await Desk.open(server)
    first = await desk.submit(ALICE, idempotency_key="k", payload_digest="a")
    second = await desk.submit(BOB, idempotency_key="k", payload_digest="b")
    assert first.id != second.id


async def test_fifty_submissions_under_one_key_at_once_make_one_job(server: Redis) -> None:
    desk = await Desk.open(server)
    answers = await asyncio.gather(*(desk.ask(idempotency_key="k", payload_digest="a") for _ in range(50)))
    made = [answer for answer in answers if isinstance(answer, Submitted)]
    assert len(made) == 50
    assert len({answer.job.id for answer in made}) == 1
    assert sum(not answer.replayed for answer in made) == 1
    assert (await desk.limits()).queued_jobs == 1


async def test_a_refused_submission_does_not_use_its_idempotency_key(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=100)
    await desk.refused(tokens=101, idempotency_key="k", payload_digest="a")
    await desk.submit(tokens=100, idempotency_key="k", payload_digest="b")


async def test_the_key_of_an_erased_job_makes_a_new_one(server: Redis) -> None:
    desk = await Desk.open(server)
    first = await desk.submit(idempotency_key="k", payload_digest="a")
    await desk.store.cancel(ALICE, first.id)
    await desk.store.erase(ALICE, first.id)
    answer = await desk.ask(idempotency_key="k", payload_digest="b")
    assert isinstance(answer, Submitted)
    assert (answer.replayed, answer.job.id != first.id) == (False, True)


async def test_the_key_of_a_job_past_its_retention_makes_a_new_one(server: Redis) -> None:
    desk = await Desk.open(server)
    first = await desk.submit(idempotency_key="k", payload_digest="a")
    await desk.store.cancel(ALICE, first.id)
    await desk.redis.delete(f"job:{first.id}")  # as its expiry does
    answer = await desk.ask(idempotency_key="k", payload_digest="a")
    assert isinstance(answer, Submitted)
    assert (answer.replayed, answer.job.id != first.id) == (False, True)
    replay = await desk.ask(idempotency_key="k", payload_digest="a")
    assert isinstance(replay, Submitted)
    assert (replay.replayed, replay.job.id) == (True, answer.job.id)
