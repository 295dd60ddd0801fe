"""Why a queued job does not run, how many will start before it, and when it may."""

import pytest
from redis.asyncio import Redis

from jobs.claims import PoolPause
from jobs.record import JobView, Priority
from tests.jobs.builders import ALICE, BOB, MINUTE_MS, SECOND_MS, Desk, Hand, config, provider


async def asleep(desk: Desk) -> Hand:
    """A worker that has a free slot and found nothing."""
    hand = await desk.worker("sleeper")
    await hand.claim()
    return hand


def seen(job: JobView) -> tuple[str | None, int | None, int | None]:
    return job.blocked_on, job.position, job.estimated_start_ms


async def test_nothing_blocks_a_job_for_which_a_worker_and_the_windows_have_room(server: Redis) -> None:
    desk = await Desk.open(server, config(providers={"p": provider(tokens=1000, requests=10)}))
    await asleep(desk)
    assert seen(await desk.submit(tokens=1000)) == (None, 0, desk.clock.now_ms)


async def test_no_free_slot_blocks_a_job_for_a_time_nobody_knows(server: Redis) -> None:
    desk = await Desk.open(server)
    assert seen(await desk.submit()) == ("concurrency", 0, None)
    await asleep(desk)
    desk.clock.advance(MINUTE_MS)
    assert seen(await desk.submit(BOB)) == ("concurrency", 0, None)


async def test_a_user_at_his_concurrency_is_blocked_by_it(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, max_concurrent=1)
    await desk.submit()
    job = await desk.submit()
    hand = await asleep(desk)
    assert seen(await desk.read(job)) == ("concurrency", 0, None)
    await hand.claim()
    assert seen(await desk.read(job)) == ("concurrency", 0, None)


async def test_a_job_for_later_starts_then(server: Redis) -> None:
    desk = await Desk.open(server)
    later = desk.clock.now_ms + MINUTE_MS
    assert seen(await desk.submit(not_before_ms=later)) == ("not_before", None, later)


async def test_a_job_between_attempts_starts_after_its_backoff(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    hand = await desk.worker()
    job = await hand.take_one()
    await hand.put_back(job, after_ms=MINUTE_MS)
    assert seen(await desk.read(job)) == ("backoff", None, desk.clock.now_ms + MINUTE_MS)
    desk.clock.advance(MINUTE_MS)
    await asleep(desk)
    view = await desk.read(job)
    assert view.blocked_on is None


async def test_a_budget_without_room_blocks_before_and_after_the_job_is_parked(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, tokens_per_day=100)
    await desk.submit(tokens=60, not_before_ms=desk.clock.now_ms + MINUTE_MS)
    job = await desk.submit(tokens=50, on_budget="wait")
    assert seen(job) == ("user_budget", 0, None)
    await asleep(desk)
    assert seen(await desk.read(job)) == ("user_budget", 0, None)
    fits = await desk.submit(BOB, tokens=40, on_budget="wait")
    assert fits.blocked_on is None


@pytest.mark.parametrize(
    ("tokens", "requests", "reason"),
    [(100, None, "provider_tokens"), (None, 1, "provider_requests")],
)
async def test_a_full_window_blocks_until_it_has_room(
    server: Redis, tokens: int | None, requests: int | None, reason: str
) -> None:
    desk = await Desk.open(server, config(providers={"p": provider(tokens=tokens, requests=requests)}))
    hand = await asleep(desk)
    await desk.submit(tokens=60)
    await hand.succeed(await hand.take_one())
    began = desk.clock.now_ms
    desk.clock.advance(1234)
    job = await desk.submit(tokens=60)
    assert seen(job) == (reason, 0, began + 500 + MINUTE_MS + SECOND_MS)


async def test_tokens_in_flight_block_for_a_time_nobody_knows(server: Redis) -> None:
    desk = await Desk.open(server, config(providers={"p": provider(tokens=100, accounting="actual")}))
    await desk.submit(tokens=60)
    await (await desk.worker()).take(2)
    assert seen(await desk.submit(tokens=60)) == ("provider_tokens", 0, None)


async def test_a_paused_pool_blocks_until_its_pause_ends(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    job = await desk.submit()
    hand = await desk.worker()
    pause = PoolPause(5000, "throttled", alarm=False)
    await hand.put_back(await hand.take_one(), after_ms=MINUTE_MS, window="tokens_back", pause=pause)
    assert seen(await desk.read(job)) == ("provider_paused", 0, desk.clock.now_ms + 5000)


async def test_a_route_is_blocked_only_if_all_its_pools_are(server: Redis) -> None:
    desk = await Desk.open(
        server,
        config(
            providers={"p": provider(tokens=100), "q": provider("n", tokens=100)},
            routes={"best": ("p/m", "q/n")},
        ),
    )
    hand = await asleep(desk)
    await desk.submit(tokens=100, name="best")
    await hand.take(2)
    job = await desk.submit(tokens=100, name="best")
    assert job.blocked_on is None
    await hand.take(2)
    other = await desk.submit(tokens=100, name="best")
    assert other.blocked_on == "provider_tokens"


async def test_a_position_in_ones_own_lane_is_exact(server: Redis) -> None:
    desk = await Desk.open(server)
    jobs = [await desk.submit() for _ in range(6)]
    assert [(await desk.read(job)).position for job in jobs] == [0, 1, 2, 3, 4, 5]
    await desk.store.cancel(ALICE, jobs[2].id)
    hand = await desk.worker()
    await hand.take_one()
    assert [(await desk.read(job)).position for job in (jobs[1], *jobs[3:])] == [0, 1, 2, 3]
    assert (await desk.read(jobs[0])).position is None


async def test_a_position_among_ones_own_priorities_is_exact(server: Redis) -> None:
    desk = await Desk.open(server)
    priorities: tuple[Priority, ...] = ("batch", "standard", "interactive")
    jobs = [await desk.submit(priority=priority) for _ in range(12) for priority in priorities]
    hand = await desk.worker()
    # In the middle of their turns as well as at the start.
    for taken in (0, 5, 9):
        running = await hand.take(taken)
        waiting = [view for job in jobs if (view := await desk.read(job)).position is not None]
        foretold = {view.id: view.position for view in waiting}
        assert sorted(position for position in foretold.values() if position is not None) == list(
            range(len(waiting))
        )
        for job in running:
            await hand.succeed(job)
    order = [job.id for job in await hand.take(40)]
    assert [foretold[job_id] for job_id in order] == list(range(len(order)))


async def test_a_position_among_equal_users_is_nearly_right(server: Redis) -> None:
    desk = await Desk.open(server)
    users = [ALICE, BOB, await desk.user("carol")]
    jobs = [await desk.submit(user) for _ in range(8) for user in users]
    foretold = {job.id: (await desk.read(job)).position for job in jobs}
    order = [job.id for job in await (await desk.worker()).take(24)]
    for place, job_id in enumerate(order):
        position = foretold[job_id]
        assert position is not None
        assert abs(position - place) <= 2


async def test_a_job_behind_others_starts_when_the_window_has_taken_their_tokens(server: Redis) -> None:
    desk = await Desk.open(server, config(providers={"p": provider(tokens=1000)}))
    await asleep(desk)
    round_ms = MINUTE_MS + SECOND_MS + 750
    for place in range(12):
        job = await desk.submit(tokens=200)
        assert seen(job) == (None, place, desk.clock.now_ms + place // 5 * round_ms)
    began = desk.clock.now_ms
    hand = await desk.worker()
    for taken in await hand.take(12):
        await hand.succeed(taken)
    await asleep(desk)
    desk.clock.advance(1234)
    # What was taken leaves with the whole of its slice; the last two wait for a second round.
    first_ms = began + MINUTE_MS + SECOND_MS + 500
    last = await desk.submit(tokens=200)
    assert seen(last) == ("provider_tokens", 7, first_ms + round_ms)


async def test_a_job_behind_others_starts_when_any_pool_of_its_route_has_taken_their_tokens(
    server: Redis,
) -> None:
    desk = await Desk.open(
        server,
        config(
            providers={"p": provider(tokens=1000), "q": provider("n", tokens=1000)},
            routes={"best": ("p/m", "q/n")},
        ),
    )
    hand = await asleep(desk)
    full_ms = []
    for _ in range(2):
        for _ in range(5):
            await desk.submit(tokens=200, name="best")
        for taken in await hand.take(5):
            await hand.succeed(taken)
        full_ms.append(desk.clock.now_ms)
        desk.clock.advance(20 * SECOND_MS)
    await asleep(desk)
    # Five go as soon as the first pool has room, five with the second, and so on by turns.
    left_ms, round_ms = MINUTE_MS + SECOND_MS + 500, MINUTE_MS + SECOND_MS + 750
    starts = [(await desk.submit(tokens=200, name="best")).estimated_start_ms for _ in range(15)]
    assert starts == [
        *[full_ms[0] + left_ms] * 5, *[full_ms[1] + left_ms] * 5, *[full_ms[0] + left_ms + round_ms] * 5
    ]  # fmt: skip


async def test_a_start_reckons_with_how_fast_turns_came_in_the_last_minutes(server: Redis) -> None:
    """Bob could have every second turn, but has a job once a minute."""
    desk = await Desk.open(server, config(providers={"p": provider(tokens=1000)}))
    hand = await asleep(desk)
    for _ in range(60):
        await desk.submit(tokens=200)
    round_ms, hers = MINUTE_MS + SECOND_MS + 500, 60
    for third in range(16):
        desk.clock.advance(round_ms // 3)
        if third % 3 == 0:
            await desk.submit(BOB, tokens=200)
        await desk.store.sweep()
        for job in await hand.take(20):
            await hand.succeed(job)
            hers -= job.user == ALICE
    waiting = await desk.submit(tokens=200)
    await desk.submit(BOB, tokens=200)
    foretold_ms = (await desk.read(waiting)).estimated_start_ms
    assert foretold_ms is not None
    rounds = (foretold_ms - desk.clock.now_ms) / round_ms
    assert rounds == pytest.approx(hers / 4, rel=0.15), "four of five turns are hers"


async def test_without_a_limit_no_start_is_foretold_behind_others(server: Redis) -> None:
    desk = await Desk.open(server)
    await asleep(desk)
    await desk.submit()
    assert seen(await desk.submit()) == (None, 1, None)


async def test_what_runs_or_has_ended_is_blocked_by_nothing(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    hand = await desk.worker()
    job = await hand.take_one()
    assert seen(await desk.read(job)) == (None, None, None)
    await hand.succeed(job)
    assert seen(await desk.read(job)) == (None, None, None)
