"""Pools that are paused or full: routes go round them, alarms are probed by one job, and others never suffer."""

from redis.asyncio import Redis

from jobs.claims import PoolPause
from jobs.record import ClaimedJob
from tests.jobs.builders import ALICE, BOB, MINUTE_MS, SECOND_MS, Desk, Hand, config, provider

THROTTLED = PoolPause(5 * SECOND_MS, "throttled", alarm=False)
ALARM = PoolPause(0, "invalid_key", alarm=True)


async def alarmed(hand: Hand, *jobs: ClaimedJob) -> None:
    """The provider refused our key for these jobs."""
    for job in jobs:
        await hand.put_back(job, counts=False, window="given_back", pause=ALARM)


async def test_a_throttled_pool_gets_no_job_until_its_pause_ends(server: Redis) -> None:
    desk = await Desk.open(server)
    for _ in range(3):
        await desk.submit()
    hand = await desk.worker()
    await hand.put_back(await hand.take_one(), window="tokens_back", cause="throttled", pause=THROTTLED)
    assert (await hand.claim(10)).jobs == ()
    desk.clock.advance(4900)
    assert (await hand.claim(10)).wait_ms == 100
    desk.clock.advance(99)
    assert await hand.take(10) == []
    desk.clock.advance(1)
    assert len(await hand.take(10)) == 3


async def test_a_success_does_not_shorten_a_pause_that_the_provider_asked_for(server: Redis) -> None:
    desk = await Desk.open(server)
    for _ in range(3):
        await desk.submit()
    hand = await desk.worker()
    throttled, sent_before = await hand.take(2)
    await hand.put_back(throttled, window="tokens_back", cause="throttled", pause=THROTTLED)
    await hand.succeed(sent_before)
    assert await hand.take(10) == []


async def test_a_shorter_pause_does_not_shorten_a_longer_one(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    await desk.submit()
    hand = await desk.worker()
    first, second = await hand.take(2)
    await hand.put_back(first, pause=THROTTLED)
    await hand.put_back(second, pause=PoolPause(SECOND_MS, "throttled", alarm=False))
    desk.clock.advance(4999)
    assert await hand.take(10) == []


async def test_a_route_goes_to_its_next_pool_while_the_first_is_paused(server: Redis) -> None:
    desk = await Desk.open(
        server,
        config(providers={"p": provider(), "q": provider("n")}, routes={"best": ("p/m", "q/n")}),
    )
    for _ in range(3):
        await desk.submit(name="best")
    hand = await desk.worker()
    job = await hand.take_one()
    assert job.pool == "p/m"
    await hand.put_back(job, window="tokens_back", cause="throttled", pause=THROTTLED)
    assert [job.pool for job in await hand.take(2)] == ["q/n", "q/n"]
    desk.clock.advance(5 * SECOND_MS)
    assert [job.pool for job in await hand.take(2)] == ["p/m"]


async def test_after_an_alarm_one_job_is_tried_at_growing_intervals(server: Redis) -> None:
    desk = await Desk.open(server)
    for _ in range(5):
        await desk.submit(expires_after_ms=100 * MINUTE_MS)
    hand = await desk.worker()
    await alarmed(hand, await hand.take_one())
    for interval_s in (30, 60, 120, 240, 480, 600, 600):
        desk.clock.advance(interval_s * SECOND_MS - 1)
        assert await hand.take(10) == []
        desk.clock.advance(1)
        probe = await hand.take_one()
        assert await hand.take(10) == []
        await alarmed(hand, probe)


async def test_jobs_that_ran_when_the_alarm_came_do_not_lengthen_it(server: Redis) -> None:
    desk = await Desk.open(server)
    for _ in range(5):
        await desk.submit()
    hand = await desk.worker()
    await alarmed(hand, *await hand.take(5))
    desk.clock.advance(30 * SECOND_MS)
    probe = await hand.take_one()
    await alarmed(hand, probe)
    desk.clock.advance(60 * SECOND_MS)
    assert len(await hand.take(10)) == 1


async def test_a_probe_that_gets_through_ends_the_alarm(server: Redis) -> None:
    desk = await Desk.open(server)
    for _ in range(5):
        await desk.submit()
    hand = await desk.worker()
    await alarmed(hand, await hand.take_one())
    desk.clock.advance(30 * SECOND_MS)
    probe = (await hand.take(10))[0]
    await hand.succeed(probe)
    assert len(await hand.take(10)) == 4


async def test_a_probe_of_which_nothing_is_heard_is_followed_by_another(server: Redis) -> None:
    desk = await Desk.open(server)
    for _ in range(5):
        await desk.submit()
    hand = await desk.worker()
    await alarmed(hand, await hand.take_one())
    desk.clock.advance(30 * SECOND_MS)
    probe = await hand.take_one()
    await hand.put_back(probe, after_ms=10 * MINUTE_MS, window="in_flight", cause="unknown")
    desk.clock.advance(29_999)
    assert await hand.take(10) == []
    desk.clock.advance(1)
    assert len(await hand.take(10)) == 1


async def test_a_changed_configuration_tries_a_pool_with_an_alarm_at_once(server: Redis) -> None:
    desk = await Desk.open(server)
    for _ in range(5):
        await desk.submit()
    hand = await desk.worker()
    await alarmed(hand, await hand.take_one())
    await desk.store.publish(config(providers={"p": provider(timeout_s=60)}))
    assert len(await hand.take(10)) == 1


async def test_the_same_configuration_again_does_not_end_an_alarm(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    hand = await desk.worker()
    await alarmed(hand, await hand.take_one())
    await desk.store.publish(config())
    assert await hand.take(10) == []


async def test_many_paused_names_do_not_hide_the_one_that_may_go(server: Redis) -> None:
    paused = [f"a{n}" for n in range(20)]
    desk = await Desk.open(server, config(providers={"p": provider(*paused), "q": provider("z")}))
    hand = await desk.worker()
    # Its turn is the last: it has been served, and the others have not.
    await desk.submit(name="z")
    await hand.succeed(await hand.take_one())
    for name in paused:
        await desk.submit(name=name)
    for job in await hand.take(20):
        await hand.put_back(job, counts=False, window="given_back", pause=ALARM)
    await desk.submit(name="z", tokens=1000)
    await desk.submit(name="z", tokens=1000)
    assert [job.name for job in await hand.take(2)] == ["z", "z"]


async def test_many_lanes_before_a_full_window_do_not_hide_the_provider_that_is_free(server: Redis) -> None:
    names = [f"a{n}" for n in range(5)]
    desk = await Desk.open(server, config(providers={"p": provider(*names, tokens=100), "q": provider("z")}))
    hand = await desk.worker()
    await desk.submit(name="z", tokens=5000)
    await hand.succeed(await hand.take_one())
    await desk.submit(name="a0")
    await hand.take_one()
    for n in range(40):
        user = await desk.user(f"u{n}")
        for name in names:
            await desk.submit(user, name=name)
    for _ in range(10):
        await desk.submit(name="z")
    assert [job.name for job in await hand.take(10)] == ["z"] * 10


async def test_a_name_that_was_paused_has_no_credit_for_it(server: Redis) -> None:
    """Two names on one provider: after a pause of one they take turns again, and it does not catch up first."""
    both = {"p": provider("m", "n", tokens=10_000)}
    desk = await Desk.open(server, config(providers=both))
    hand = await desk.worker()
    for name in ("m", "n"):
        for _ in range(150):
            await desk.submit(ALICE, name=name, tokens=100)
    job = next(job for job in await hand.take(2) if job.name == "m")
    long = PoolPause(50 * SECOND_MS, "throttled", alarm=False)
    await hand.put_back(job, window="tokens_back", cause="throttled", pause=long)
    assert {job.name for _ in range(20) for job in await hand.take(3)} == {"n"}
    desk.clock.advance(50 * SECOND_MS)
    after = [job.name for job in await hand.take(20)]
    assert 8 <= after.count("n") <= 12


async def test_a_403_is_everybodys_when_two_users_got_one_in_whichever_workers(server: Redis) -> None:
    desk = await Desk.open(server)
    for who in (ALICE, ALICE, BOB):
        await desk.submit(who)
    one, other = await desk.worker(), await desk.worker()
    jobs = {job.user: job for job in await one.take(2)}
    [third] = await other.take(1)
    alices = [job for job in (*jobs.values(), third) if job.user == ALICE]
    [bobs] = [job for job in (*jobs.values(), third) if job.user == BOB]
    assert not await one.claims.forbidden_widely(alices[0])
    assert not await other.claims.forbidden_widely(alices[1])
    for hand in (one, other, one):
        # Asked again, since the answer may have been lost.
        assert await hand.claims.forbidden_widely(bobs)


async def test_who_is_tried_again_and_gets_another_403_is_alone_with_it(server: Redis) -> None:
    desk = await Desk.open(server)
    for who in (ALICE, BOB):
        await desk.submit(who)
    hand = await desk.worker()
    first, second = await hand.take(2)
    await hand.claims.forbidden_widely(first)
    assert await hand.claims.forbidden_widely(second)
    await hand.fail(first)
    await alarmed(hand, second)
    desk.clock.advance(30 * SECOND_MS)
    assert not await hand.claims.forbidden_widely(await hand.take_one())


async def test_a_job_that_gets_through_makes_a_403_its_users_own(server: Redis) -> None:
    desk = await Desk.open(server)
    for who in (ALICE, BOB, ALICE):
        await desk.submit(who)
    hand = await desk.worker()
    jobs = await hand.take(3)
    [bobs] = [job for job in jobs if job.user == BOB]
    first, second = (job for job in jobs if job.user == ALICE)
    await hand.claims.forbidden_widely(first)
    await hand.succeed(second)
    assert not await hand.claims.forbidden_widely(bobs)
