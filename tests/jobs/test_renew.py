"""A heartbeat: leases run on, and the worker learns which of its jobs are lost and which are to stop."""

from redis.asyncio import Redis

from tests.jobs.builders import ALICE, LEASE_MS, MINUTE_MS, Desk


async def test_a_renewal_lengthens_every_lease_it_names_by_a_whole_period(server: Redis) -> None:
    desk = await Desk.open(server)
    for _ in range(3):
        await desk.submit()
    hand = await desk.worker()
    first, second, unnamed = await hand.take(3)
    taken_at = desk.clock.now_ms
    desk.clock.advance(2000)
    assert await hand.renew(first, second) == ((), ())
    leases = await desk.scores("leases")
    assert leases == {
        f"{first.id} {first.token}": taken_at + 2000 + LEASE_MS,
        f"{second.id} {second.token}": taken_at + 2000 + LEASE_MS,
        f"{unnamed.id} {unnamed.token}": taken_at + LEASE_MS,
    }


async def test_a_renewal_names_the_leases_that_are_no_longer_the_workers(server: Redis) -> None:
    desk = await Desk.open(server)
    for _ in range(3):
        await desk.submit()
    hand = await desk.worker()
    settled, back, kept = await hand.take(3)
    await hand.succeed(settled)
    await hand.put_back(back)
    again = await (await desk.worker()).take_one()
    assert again.id == back.id
    before = await desk.scores("leases")
    lost, stop = await hand.renew(settled, back, kept)
    assert (set(lost), stop) == ({settled.token, back.token}, ())
    assert await desk.scores("leases") == before


async def test_a_job_that_came_back_to_the_same_worker_is_not_taken_for_lost(server: Redis) -> None:
    """The renewal was on its way while the job was put back and claimed again."""
    desk = await Desk.open(server)
    await desk.submit()
    hand = await desk.worker()
    first = await hand.take_one()
    await hand.put_back(first, counts=False, window="given_back")
    again = await hand.take_one()
    assert again.id == first.id
    assert (await hand.renew(first))[0] == (first.token,)
    assert await hand.renew(again) == ((), ())


async def test_a_renewal_names_the_jobs_that_were_asked_to_end_until_they_have(server: Redis) -> None:
    desk = await Desk.open(server)
    for _ in range(2):
        await desk.submit()
    hand, other = await desk.worker(), await desk.worker()
    first, second = await hand.take_one(), await other.take_one()
    await desk.store.cancel(ALICE, first.id)
    for _ in range(2):
        assert await hand.renew(first) == ((), (first.id,))
    assert await other.renew(second) == ((), ())
    await hand.claims.settle(first, None, charge=None, window="given_back")
    assert await hand.renew() == ((), ())


async def test_a_renewal_without_jobs_says_that_the_worker_is_there(server: Redis) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker("w1")
    assert await hand.renew() == ((), ())
    assert await desk.scores("workers") == {"w1": desk.clock.now_ms}
    assert await desk.hash("worker:w1") == {"slots": "10", "running": "0", "seen": str(desk.clock.now_ms)}
    assert await desk.text("heartbeat") == str(desk.clock.now_ms)


async def test_a_worker_that_says_goodbye_is_forgotten(server: Redis) -> None:
    desk = await Desk.open(server)
    await desk.submit()
    hand = await desk.worker("w1")
    await hand.succeed((await hand.take(2))[0])
    await hand.renew()
    await hand.claims.goodbye()
    assert not {key for key in await desk.keys() if "w1" in key}
    assert (await desk.scores("workers"), await desk.scores("asleep")) == ({}, {})


async def test_a_worker_that_is_gone_without_a_word_is_forgotten_after_a_minute(server: Redis) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker("w1")
    await hand.renew()
    assert 0 < await server.pttl("worker:w1") <= MINUTE_MS
    desk.clock.advance(MINUTE_MS + 1)
    await desk.store.sweep()
    assert await desk.scores("workers") == {}
