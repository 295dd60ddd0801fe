"""A job too large for what is free of a window is overtaken by smaller ones, but only so far, and never for ever."""

from collections.abc import Iterable

from redis.asyncio import Redis

from jobs.config import Model
from jobs.record import JobView
from tests.jobs.builders import ALICE, BOB, MINUTE_MS, SECOND_MS, Desk, Hand, config, provider

CAROL = "carol"
SMALL = {CAROL, "dan", "eve"}
STEP_MS = 6 * SECOND_MS


async def busy_window(server: Redis, small: Iterable[str] = SMALL) -> tuple[Desk, Hand, JobView]:
    """A window of 1000 in which a hundred leaves every six seconds, Alice's 900 before it, and small jobs behind her.

    Without bounds the hundreds of the small would take each place that becomes free, and Alice would never run.
    """
    desk = await Desk.open(server, config(providers={"p": provider(tokens=1000)}))
    hand = await desk.worker()
    for _ in range(10):
        await desk.submit(BOB, tokens=100)
        await hand.succeed(await hand.take_one())
        desk.clock.advance(STEP_MS)
    desk.clock.advance(2 * SECOND_MS)
    large = await desk.submit(ALICE, tokens=900)
    for user in small:
        await desk.user(user)
        for _ in range(20):
            await desk.submit(user, tokens=100)
    return desk, hand, large


async def overtaken_until(desk: Desk, hand: Hand, large: JobView) -> int:
    """Tokens that others take before the large job does."""
    overtaken = 0
    for _ in range(40):
        for job in await hand.take(20):
            if job.id == large.id:
                return overtaken
            overtaken += 100
            await hand.succeed(job)
        desk.clock.advance(STEP_MS)
    raise AssertionError(f"never served; overtaken by {overtaken} tokens")


async def test_a_large_job_is_overtaken_only_until_as_many_tokens_went_as_it_needs(server: Redis) -> None:
    desk, hand, large = await busy_window(server)
    assert await overtaken_until(desk, hand, large) == 900
    after = await hand.take(1)
    desk.clock.advance(MINUTE_MS + 2 * SECOND_MS)
    after += await hand.take(1)
    assert [job.user in SMALL for job in after] == [True]


async def test_one_lane_gets_ahead_of_a_large_job_by_no_more_than_half_of_it(server: Redis) -> None:
    desk, hand, large = await busy_window(server, [CAROL])
    assert await overtaken_until(desk, hand, large) == 400


async def kept(server: Redis) -> tuple[Desk, Hand, JobView]:
    """The same, when the window is kept free: a hundred has become free, and nobody may have it."""
    desk, hand, large = await busy_window(server)
    for _ in range(9):
        [job] = await hand.take(20)
        assert job.user in SMALL
        await hand.succeed(job)
        desk.clock.advance(STEP_MS)
    desk.clock.advance(STEP_MS)
    assert await hand.take(20) == []
    return desk, hand, large


async def test_a_worker_that_a_kept_window_leaves_without_a_job_is_told_to_wait(server: Redis) -> None:
    _, hand, _ = await kept(server)
    assert (await hand.claim()).wait_ms > 0


async def test_a_kept_window_is_free_again_when_its_job_is_cancelled(server: Redis) -> None:
    desk, hand, large = await kept(server)
    await desk.store.cancel(ALICE, large.id)
    assert SMALL & {job.user for job in await hand.take(20)}


async def test_a_kept_window_is_free_again_when_its_user_is_at_his_concurrency(server: Redis) -> None:
    desk, hand, _ = await kept(server)
    await desk.user(ALICE, max_concurrent=1)
    await desk.store.publish(config(providers={"p": provider(tokens=1000), "q": provider("n")}))
    await desk.submit(ALICE, name="n", priority="interactive")
    taken = [job for _ in range(2) for job in await hand.take(20)]
    assert [job.name for job in taken if job.user == ALICE] == ["n"]
    assert SMALL & {job.user for job in taken}


async def test_a_kept_window_is_free_again_when_it_can_no_longer_hold_its_job(server: Redis) -> None:
    desk, hand, large = await kept(server)
    await desk.store.publish(config(providers={"p": provider(tokens=899)}))
    desk.clock.advance(3 * STEP_MS)
    assert SMALL & {job.user for job in await hand.take(20)}
    error = (await desk.read(large)).error
    assert error is not None
    assert error.code == "job_too_large"


async def test_whoever_may_not_overtake_is_blocked_by_the_windows_tokens(server: Redis) -> None:
    desk, hand, large = await kept(server)
    job = await desk.submit(BOB, tokens=50)
    assert job.blocked_on == "provider_tokens"
    kept_until_ms = (await desk.read(large)).estimated_start_ms
    assert job.estimated_start_ms is not None
    assert kept_until_ms is not None
    assert job.estimated_start_ms >= kept_until_ms, "not before the job that the window is kept for"
    await desk.store.cancel(ALICE, large.id)
    await hand.claim()
    assert (await desk.read(job)).blocked_on != "provider_tokens"


async def test_another_providers_window_is_not_kept(server: Redis) -> None:
    desk, hand, _ = await kept(server)
    await desk.store.publish(config(providers={"p": provider(tokens=1000), "q": provider("n", tokens=1000)}))
    await desk.submit(CAROL, name="n")
    assert [job.name for job in await hand.take(20)] == ["n"]


async def test_whatever_name_they_came_through_the_overtakers_count(server: Redis) -> None:
    """The provider's window is kept, so tokens through any of its models count."""
    desk = await Desk.open(server, config(providers={"p": provider(*"mnopq", tokens=1000)}))
    hand = await desk.worker()
    await desk.submit(BOB, tokens=600, name="q")
    await hand.take_one()
    large = await desk.submit(ALICE, tokens=500, name="m")
    # A name may get ahead by half of the large one, so one alone would not be enough.
    for name in "nnoopp":
        await desk.submit(BOB, tokens=100, name=name)
    assert len(await hand.take(20)) == 4
    desk.clock.advance(MINUTE_MS + 2 * SECOND_MS)
    taken = await hand.take(20)
    # One hundred more may overtake: 500 in all; then the window is kept, whatever is free of it.
    assert sorted((job.user, job.prompt_tokens + job.output_tokens) for job in taken) in (
        [(ALICE, 500), (BOB, 100), (BOB, 100)],
        [(ALICE, 500), (BOB, 100)],
    )
    assert large.id in {job.id for job in taken}


async def test_a_large_jobs_own_lane_is_never_stopped_by_it(server: Redis) -> None:
    desk, hand, large = await kept(server)
    urgent = await desk.submit(ALICE, tokens=100, priority="interactive")
    for _ in range(12):
        if taken := await hand.take(20):
            break
        desk.clock.advance(STEP_MS)
    assert taken[0].id in (urgent.id, large.id)
    desk.clock.advance(2 * MINUTE_MS)
    taken += await hand.take(20)
    assert {urgent.id, large.id} <= {job.id for job in taken}


async def test_two_large_jobs_never_keep_each_other_waiting(server: Redis) -> None:
    """One lacks room in the provider's window alone, the other in its model's too: whoever keeps what, both run."""
    of_model = {"m": Model(tokens_per_minute=900)}
    desk = await Desk.open(server, config(providers={"p": provider("n", tokens=1000, of_model=of_model)}))
    await desk.user(CAROL)
    hand = await desk.worker()
    await desk.submit(CAROL, tokens=200, name="n")
    await desk.submit(CAROL, tokens=350, name="m")
    assert len(await hand.take(5)) == 2
    first = await desk.submit(ALICE, tokens=500, name="m")  # fits the model's, not the provider's
    second = await desk.submit(BOB, tokens=700, name="m")  # fits neither
    assert await hand.take(5) == []
    for _ in range(60):
        await desk.submit(CAROL, tokens=50, name="m")
    served: set[str] = set()
    for _ in range(60):
        served |= {job.id for job in await hand.take(30)}
        desk.clock.advance(5 * SECOND_MS)
    assert {first.id, second.id} <= served


async def test_many_users_before_its_own_do_not_hide_the_job_that_a_window_is_kept_for(server: Redis) -> None:
    desk, hand, large = await kept(server)
    for n in range(40):
        await desk.user(f"u{n}")
        await desk.submit(f"u{n}", tokens=100)
    # As after a correction of her turn: everybody's tag is lower than Alice's.
    await desk.redis.zadd("fair:ready:lanes:m", {ALICE: 10**9})
    desk.clock.advance(MINUTE_MS)
    assert large.id in {job.id for job in await hand.take(1)}


async def test_a_long_lane_of_jobs_that_keep_a_window_does_not_starve_a_larger_one_of_earlier_turn(
    server: Redis,
) -> None:
    """Bob's jobs come one after the other for what leaves the window; Alice's, a bit larger, has the first turn."""
    desk = await Desk.open(server, config(providers={"p": provider(tokens=1000)}))
    hand = await desk.worker()
    for _ in range(30):
        await desk.submit(BOB, tokens=100)
    for _ in range(10):
        for job in await hand.take(1):
            await hand.succeed(job)
        desk.clock.advance(5 * SECOND_MS)
    assert await hand.take(2) == []
    larger = await desk.submit(ALICE, tokens=150)
    served: list[str] = []
    for _ in range(10):
        desk.clock.advance(5 * SECOND_MS)
        for job in await hand.take(2):
            served.append(job.id)
            await hand.succeed(job)
    assert larger.id in served[:3]


async def test_one_name_gets_ahead_of_a_large_job_by_no_more_than_half_of_it(server: Redis) -> None:
    desk = await Desk.open(server, config(providers={"p": provider(*"mnq", tokens=1000)}))
    hand = await desk.worker()
    await desk.submit(BOB, tokens=600, name="q")
    await hand.take_one()
    await desk.submit(ALICE, tokens=500, name="m")
    for _ in range(6):
        await desk.submit(BOB, tokens=100, name="n")
    assert len(await hand.take(20)) == 2


async def test_a_job_that_all_pools_refuse_keeps_a_window_of_each(server: Redis) -> None:
    """Or small ones would overtake it in the second pool without end."""
    providers = {"p": provider("m", tokens=1000), "q": provider("n", tokens=1000)}
    desk = await Desk.open(server, config(providers=providers, routes={"r": ("p/m", "q/n")}))
    for user in (CAROL, "dan"):
        await desk.user(user)
    hand = await desk.worker()
    for _ in range(2):
        await desk.submit(CAROL, tokens=800, name="r")
    assert len(await hand.take(2)) == 2
    await desk.submit(ALICE, tokens=300, name="r")
    for _ in range(6):
        await desk.submit(BOB, tokens=50, name="r")
        await desk.submit("dan", tokens=50, name="r")
    # Half of 300 for each of the two, though 400 are free.
    assert sorted(job.user for job in await hand.take(20)) == [BOB] * 3 + ["dan"] * 3
