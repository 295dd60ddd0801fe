"""When all jobs have ended, nothing is left of them but records, ledger and counters, each with its expiry."""

from redis.asyncio import Redis

from jobs.claims import PoolPause
from jobs.config import Anonymous, Model, Tier
from jobs.record import JobError, State
from tests.jobs.builders import (
    ALICE,
    BOB,
    DAY_MS,
    LEASE_MS,
    MINUTE_MS,
    SECOND_MS,
    Desk,
    config,
    provider,
)
from tests.jobs.invariants import WITHOUT_EXPIRY, check_at_rest

GUEST = "ip:2001:db8::/64"


async def test_when_every_job_has_ended_only_what_expires_and_what_is_documented_is_left(
    server: Redis,
) -> None:
    """One job for each way to end, over every kind of place that a job can be in."""
    desk = await Desk.open(
        server,
        config(
            providers={
                "p": provider("n", tokens=5000, of_model={"m": Model(tokens_per_minute=1000)}),
                "q": provider("o", accounting="actual"),
            },
            routes={"best": ("p/m", "q/o")},
            tiers={"guest": Tier(tokens_per_day=1000, requests_per_minute=20, requests_per_day=100)},
            anonymous=Anonymous(tier="guest", tokens_per_day=1500),
        ),
    )
    await desk.user(ALICE, tokens_per_day=5000, requests_per_minute=60, max_concurrent=6)
    hand, other = await desk.worker("w1"), await desk.worker("w2")

    await desk.submit(name="best", idempotency_key="k", payload_digest="a")
    await desk.submit(GUEST)
    await desk.submit(priority="batch")
    await desk.submit(priority="interactive", retry="never")
    succeeded, failed, dead, throttled = await hand.take(4)
    await hand.succeed(succeeded, 40)
    await hand.fail(failed, window="in_flight")
    error = JobError("provider_failed", "five times", 1, 500)
    await hand.claims.settle(dead, State.FAILED, charge=None, window="kept", error=error, replayable=True)
    pause = PoolPause(5 * SECOND_MS, "throttled", alarm=False)
    await hand.put_back(throttled, after_ms=SECOND_MS, window="tokens_back", cause="throttled", pause=pause)

    await desk.submit(BOB, name="n")
    await desk.submit(BOB, name="n", retry="never")
    stopped, lost = await other.take(2)
    await desk.store.cancel(BOB, stopped.id)
    await other.claims.settle(stopped, None, charge=None, window="given_back")
    await desk.store.cancel(BOB, (await desk.submit(BOB)).id)
    await desk.store.cancel(BOB, (await desk.submit(BOB, not_before_ms=desk.clock.now_ms + DAY_MS)).id)
    await desk.submit(BOB, expires_after_ms=2 * SECOND_MS, not_before_ms=desk.clock.now_ms + DAY_MS)
    erased = await desk.submit(BOB, idempotency_key="k", payload_digest="a")
    await desk.store.cancel(BOB, erased.id)
    await desk.store.erase(BOB, erased.id)

    # Parked for a budget, and freed by a cancel; a guest's, by the end of another's.
    holding = await desk.submit(tokens=4500, not_before_ms=desk.clock.now_ms + MINUTE_MS, name="n")
    parked = await desk.submit(tokens=900, on_budget="wait", name="n")
    await hand.renew()
    assert await hand.take(5) == []
    await desk.store.cancel(ALICE, parked.id)
    await desk.store.cancel(ALICE, holding.id)

    # The worker w2 dies with a job that is never to be sent again; w1 goes on.
    for _ in range(8):
        desk.clock.advance(LEASE_MS // 6)
        await hand.renew()
    for job in await hand.take(5):
        await hand.succeed(job)
    assert await desk.state(lost) is State.FAILED
    for user in (ALICE, BOB, GUEST):
        limits = await desk.limits(user)
        assert (limits.queued_jobs, limits.running, limits.tokens_reserved) == (0, 0, 0)

    await hand.claim()
    await hand.claims.goodbye()
    desk.clock.advance(3 * MINUTE_MS)
    await desk.store.sweep()
    await check_at_rest(server)


async def test_a_configured_desk_has_no_other_lasting_keys_than_those_documented(server: Redis) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker()
    await desk.submit()
    await hand.succeed(await hand.take_one())
    lasting = {key.split(":")[0] for key in await desk.keys() if await server.pttl(key) == -1}
    assert lasting <= {*WITHOUT_EXPIRY, "asleep"}


async def test_what_is_kept_of_a_day_outlives_it_by_two_days_and_of_the_ledger_by_seven(
    server: Redis,
) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker()
    await desk.submit(expires_after_ms=MINUTE_MS)
    await hand.succeed(await hand.take_one())
    day_left = desk.clock.midnight_ms - desk.clock.now_ms
    slack = MINUTE_MS
    lives = {
        f"tokens:alice:{desk.clock.day}": max(day_left, MINUTE_MS + DAY_MS) + 2 * DAY_MS,
        f"ledger:{desk.clock.day}": day_left + 7 * DAY_MS,
        f"usage:alice:{desk.clock.day}": day_left + 90 * DAY_MS,
        f"charged:{desk.clock.day}": day_left + 90 * DAY_MS,
    }
    for key, life_ms in lives.items():
        assert life_ms - slack < await server.pttl(key) <= life_ms, key


async def test_the_order_of_turns_is_forgotten_an_hour_after_the_last_job(server: Redis) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker()
    await desk.submit()
    await desk.submit(BOB)
    first = await hand.take_one()
    clocks = {"fair:finish:lanes:m", "fair:virtual:lanes:m", "fair:finish:names", "fair:virtual:names"}
    assert {await server.pttl(key) for key in clocks & await desk.keys()} == {-1}
    second = await hand.take_one()
    # An answer longer than was thought corrects turns that nobody waits for any more.
    await hand.succeed(first, 500)
    await hand.succeed(second, 500)
    for key in clocks & await desk.keys():
        assert 0 < await server.pttl(key) <= 60 * MINUTE_MS
    await desk.submit()
    assert {await server.pttl(key) for key in clocks & await desk.keys()} == {-1}
