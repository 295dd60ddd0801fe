"""What happens to jobs is counted once, whoever counts, and told with what waits and why."""

from collections.abc import Sequence

import pytest
from redis.asyncio import Redis

from jobs.claims import PoolPause
from jobs.config import Model
from jobs.figures import Figures, FiguresStore
from jobs.record import JobError, State
from tests.jobs.builders import (
    ALICE,
    BOB,
    DAY_MS,
    LEASE_MS,
    MINUTE_MS,
    POOL,
    SECOND_MS,
    TIER,
    Desk,
    config,
    provider,
)
from tests.jobs.post import Post, own_url


async def figures_store(desk: Desk) -> FiguresStore:
    store = FiguresStore(desk.redis, lease_ms=LEASE_MS, clock=desk.clock)
    await store.start()
    return store


async def figures_of(desk: Desk) -> Figures:
    return await (await figures_store(desk)).read()


async def test_a_job_is_counted_where_it_comes_in_and_where_it_ends(server: Redis) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker()
    jobs = [await desk.submit(tokens=100) for _ in range(3)]
    succeeded, failed = await hand.take(2)
    desk.clock.advance(2 * SECOND_MS)
    await hand.succeed(succeeded, 40)
    await hand.succeed(succeeded, 40)
    await hand.fail(failed)
    await desk.store.cancel(ALICE, jobs[2].id)
    figures = await figures_of(desk)
    assert figures.labelled("submitted") == {(TIER, "m"): 3}
    assert figures.labelled("finished") == {
        (TIER, "m", "succeeded"): 1,
        (TIER, "m", "failed"): 1,
        (TIER, "m", "cancelled"): 1,
    }
    assert figures.labelled("prompt") == {("m",): 1}
    assert figures.labelled("completion") == {("m",): 39}
    # 60 of what was held for the first, all of what was held for the two others.
    assert figures.labelled("refunded") == {(): 260}
    assert (sum(figures.jobs.counts), figures.jobs.sum_s) == (3, 6.0)
    assert (sum(figures.waits.counts), figures.waits.sum_s) == (2, 0.0)
    assert (sum(figures.calls.counts), figures.calls.sum_s) == (2, 4.0)


async def test_an_answer_above_its_estimate_is_an_overrun(server: Redis) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker()
    await desk.submit(tokens=100)
    await hand.succeed(await hand.take_one(), 130)
    figures = await figures_of(desk)
    assert figures.labelled("overrun") == {(): 30}
    assert figures.labelled("refunded") == {}


async def test_attempts_are_counted_that_were_sent_and_no_others(server: Redis) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker()
    await desk.submit(tokens=100)
    job = await hand.take_one()
    await hand.put_back(job, counts=False, window="given_back")
    job = await hand.take_one()
    desk.clock.advance(SECOND_MS)
    await hand.put_back(job, counts=False, window="tokens_back", cause="throttled")
    job = await hand.take_one()
    desk.clock.advance(3 * SECOND_MS)
    await hand.put_back(job, window="in_flight", cause="unknown")
    figures = await figures_of(desk)
    assert (sum(figures.calls.counts), figures.calls.sum_s) == (2, 4.0)
    assert figures.labelled("throttled") == {(POOL,): 1}
    assert figures.labelled("lost") == {(): 100}
    assert figures.labelled("finished") == {}


async def test_the_last_of_many_refusals_by_the_provider_is_counted_too(server: Redis) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker()
    await desk.submit()
    error = JobError("provider_failed", "ten times", 1, 429)
    pause = PoolPause(SECOND_MS, "throttled", alarm=False)
    job = await hand.take_one()
    await hand.claims.settle(job, State.FAILED, charge=None, window="tokens_back", error=error, pause=pause)
    assert (await figures_of(desk)).labelled("throttled") == {(POOL,): 1}


async def test_events_are_counted_as_they_become_many(redis: Redis) -> None:
    desk = await Desk.open(redis)
    for _ in range(205):
        await desk.submit()
    assert await desk.length("figures:new") == 5
    assert (await desk.hash("figures"))[f"submitted {TIER} m"] == "200"
    await desk.store.sweep()
    assert "figures:new" not in await desk.keys()
    assert (await desk.hash("figures"))[f"submitted {TIER} m"] == "205"


async def test_durations_fall_into_the_bucket_that_holds_them(server: Redis) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker()
    for seconds in (0.25, 2, 31, 2 * 86_400):
        await desk.submit(expires_after_ms=7 * DAY_MS)
        job = await hand.take_one()
        desk.clock.advance(round(seconds * 1000))
        await hand.succeed(job)
    calls = (await figures_of(desk)).calls
    bounds_s = (*calls.bounds_s, float("inf"))
    assert [bound for bound, n in zip(bounds_s, calls.counts, strict=True) if n] == [
        0.25,
        2.5,
        60,
        bounds_s[-1],
    ]


async def test_what_python_counts_is_added(server: Redis) -> None:
    desk = await Desk.open(server)
    store = await figures_store(desk)
    await store.add({("rejected", TIER, "queue_full"): 2, ("rejected", TIER, "rate_limited"): 1})
    await store.add({("rejected", TIER, "queue_full"): 1})
    assert (await store.read()).labelled("rejected") == {(TIER, "queue_full"): 3, (TIER, "rate_limited"): 1}


async def test_waiting_jobs_are_told_by_what_they_wait_for(server: Redis) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker()
    await desk.user(ALICE, max_concurrent=1)
    await desk.user(BOB, tokens_per_day=150)
    await desk.submit(tokens=100)
    await desk.submit(BOB, tokens=100, on_budget="wait")
    await hand.take(2)
    desk.clock.advance(SECOND_MS)
    oldest_ms = desk.clock.now_ms
    for _ in range(3):
        await desk.submit(BOB, tokens=100, on_budget="wait")
    for _ in range(4):
        await desk.submit(tokens=100)
    carol = await desk.user("carol")
    await desk.submit(carol, not_before_ms=oldest_ms + MINUTE_MS // 2)
    await desk.submit(carol, not_before_ms=oldest_ms + 2 * MINUTE_MS)
    await desk.submit(carol)
    [failed] = await hand.take(5)
    await hand.put_back(failed, after_ms=90 * SECOND_MS)
    await desk.submit(carol)
    figures = await figures_of(desk)
    [name] = figures.names
    assert name.due_jobs == {"not_before": 2, "backoff": 1}
    assert name.parked_jobs == {"user_budget": 3, "concurrency": 4}
    assert (name.jobs, name.ready_jobs) == (11, 1)
    assert name.oldest_ms == oldest_ms
    assert figures.due_soon == 1


async def test_jobs_at_their_turn_wait_for_the_provider_or_for_a_worker(server: Redis) -> None:
    desk = await Desk.open(server, config(providers={"p": provider(tokens=1000, requests=100)}))
    hand = await desk.worker()

    async def waits_for() -> str:
        [name] = (await figures_of(desk)).names
        return name.waits_for

    assert await waits_for() == "none"
    await desk.submit(tokens=900)
    assert await waits_for() == "concurrency"
    [job] = await hand.take(2)
    await desk.submit(tokens=900)
    assert await waits_for() == "provider_tokens"
    pause = PoolPause(5 * SECOND_MS, "throttled", alarm=False)
    await hand.put_back(job, after_ms=SECOND_MS, cause="throttled", window="tokens_back", pause=pause)
    assert await waits_for() == "provider_paused"


async def test_more_users_than_are_looked_at_stand_for_all(redis: Redis) -> None:
    desk = await Desk.open(redis)
    hand = await desk.worker()
    for number in range(50):
        user = await desk.user(f"user-{number}", max_concurrent=1)
        await desk.submit(user)
        await desk.submit(user)
    while await hand.take(150):
        pass
    [name] = (await figures_of(desk)).names
    assert (name.jobs, name.parked_jobs["concurrency"], name.ready_jobs) == (50, 50, 0)


async def test_arrivals_and_calls_are_averaged(redis: Redis) -> None:
    desk = await Desk.open(
        redis, config(providers={"p": provider(of_model={"m": Model()}, accounting="actual")})
    )
    hand = await desk.worker()
    await desk.store.sweep()
    for _ in range(120):
        desk.clock.advance(SECOND_MS)
        await desk.submit(tokens=100)
        await hand.succeed(await hand.take_one(), 50)
        await desk.store.sweep()
    figures = await figures_of(desk)
    [name], [pool] = figures.names, figures.pools
    assert name.arriving_tokens_per_minute == pytest.approx(6000, rel=0.03)
    assert pool.call.seen == pytest.approx(120, abs=5)
    assert pool.call.prompt_tokens + pool.call.completion_tokens == pytest.approx(50, rel=0.01)
    assert pool.call.held_tokens == pytest.approx(100, rel=0.01)
    desk.clock.advance(2 * MINUTE_MS)
    await desk.store.sweep()
    assert (await figures_of(desk)).names[0].arriving_tokens_per_minute < 30


async def arriving(desk: Desk, jobs: Sequence[int], seconds_each: int = 5) -> float:
    """Tokens a minute of one name, when so many jobs of 100 tokens came in each of these spans."""
    for count in jobs:
        for _ in range(count):
            await desk.submit(tokens=100)
        desk.clock.advance(seconds_each * SECOND_MS)
        await desk.store.sweep()
    return (await figures_of(desk)).names[0].arriving_tokens_per_minute


async def test_a_change_in_what_arrives_is_known_after_twenty_seconds(server: Redis) -> None:
    desk = await Desk.open(server)
    assert await arriving(desk, [0, *[5] * 12]) == pytest.approx(6000)
    assert await arriving(desk, [20] * 5) == pytest.approx(24_000)
    assert await arriving(desk, [5] * 5) == pytest.approx(6000)


async def test_chance_in_what_arrives_is_averaged_over_two_minutes(server: Redis) -> None:
    desk = await Desk.open(server)
    by_chance = [4, 1, 3, 2, 0, 2, 5, 1, 2, 0, 3, 1]
    assert await arriving(desk, [0, *by_chance * 2]) == pytest.approx(2400)
    # Four times in a row more than usual, and still by chance.
    assert await arriving(desk, [3, 2, 4, 2]) == pytest.approx(100 * 12 * (48 - 10 + 11) / 24)


async def test_a_minute_without_a_sample_counts_as_a_minute(server: Redis) -> None:
    desk = await Desk.open(server)
    assert await arriving(desk, [0, *[2] * 12]) == pytest.approx(2400)
    assert await arriving(desk, [24], seconds_each=60) == pytest.approx(2400)
    assert await arriving(desk, [0], seconds_each=120) == 0


async def test_a_worker_counts_while_it_is_heard_of(server: Redis) -> None:
    desk = await Desk.open(server)
    first, second = await desk.worker(), await desk.worker()
    await desk.submit()
    job = await first.take_one()
    await first.renew(job)
    await second.renew()
    workers = (await figures_of(desk)).workers
    assert sorted((worker.slots, worker.running) for worker in workers) == [(10, 0), (10, 1)]
    desk.clock.advance(LEASE_MS)
    await first.renew(job)
    desk.clock.advance(1)
    assert len((await figures_of(desk)).workers) == 1


async def test_deliveries_are_counted_and_need_a_worker_while_they_are_due(server: Redis) -> None:
    desk = await Desk.open(server)
    post = await Post.open(desk)
    sender = await post.sender()
    await post.finished_job(**own_url())
    assert (await figures_of(desk)).due_soon == 1
    [claimed] = await sender.take()
    assert (await figures_of(desk)).due_soon >= 1
    await sender.settle(await sender.prepare(claimed), "failed")
    assert (await figures_of(desk)).due_soon == 1
    desk.clock.advance(5 * SECOND_MS)
    await sender.send()
    figures = await figures_of(desk)
    assert figures.labelled("delivery") == {("retried",): 1, ("delivered",): 1}
    assert figures.due_soon == 0


async def test_what_was_advised_is_kept_unless_another_was_quicker(server: Redis) -> None:
    store = await figures_store(await Desk.open(server))
    await store.hold("", "mine")
    await store.hold("", "late")
    assert (await store.read()).held == "mine"
    await store.hold("mine", "next")
    assert (await store.read()).held == "next"
