"""What a provider's answers teach: lower limits, less than we thought, and what answers usually take."""

import pytest
from redis.asyncio import Redis

from jobs.claims import Heard
from jobs.config import Config, Model
from jobs.pools import Pools, PoolState
from jobs.record import ClaimedJob, State, Usage
from tests.jobs.builders import MINUTE_MS, POOL, Desk, Hand, config, provider, usage

LIMIT = 1000


def limited(**changes: object) -> Config:
    return config(providers={"p": provider(tokens=LIMIT, requests=100).model_copy(update=changes)})


async def state(desk: Desk) -> PoolState:
    pools = Pools(desk.redis, clock=desk.clock)
    await pools.start()
    [pool] = await pools.states([POOL])
    return pool


async def answered(desk: Desk, worker: Hand, heard: Heard, tokens: int = 100) -> ClaimedJob:
    """A job that is claimed and succeeds, its answer telling `heard`."""
    await desk.submit(tokens=tokens)
    job = await worker.take_one()
    await worker.claims.settle(
        job, State.SUCCEEDED, charge=usage(tokens), window="charged", result=b"{}", heard=heard
    )
    return job


async def refused(desk: Desk, worker: Hand, job: ClaimedJob, what: str = "tokens") -> None:
    heard = Heard(refused="requests") if what == "requests" else Heard(refused="tokens")
    assert await worker.claims.put_back(
        job, after_ms=1000, counts=False, window="tokens_back", cause="throttled", heard=heard
    )


async def test_a_lower_limit_in_the_headers_is_adopted_and_a_higher_one_is_not(server: Redis) -> None:
    desk = await Desk.open(server, limited())
    worker = await desk.worker()
    await answered(desk, worker, Heard(limit_tokens=400, limit_requests=5000))
    [scope] = (await state(desk)).scopes
    assert (scope.tokens_configured, scope.tokens_in_force) == (LIMIT, 400)
    assert (scope.requests_configured, scope.requests_in_force) == (100, 100)
    assert scope.lowered_because == "its headers named a lower limit of tokens"
    await desk.submit(tokens=350)
    assert await worker.take() == []
    await answered_again(desk, worker)
    [scope] = (await state(desk)).scopes
    assert scope.tokens_in_force == LIMIT


async def answered_again(desk: Desk, worker: Hand) -> None:
    """Once the window has room again, the waiting job is answered with the configured limit in its headers."""
    desk.clock.advance(2 * MINUTE_MS)
    [job] = await worker.take()
    await worker.claims.settle(
        job,
        State.SUCCEEDED,
        charge=usage(350),
        window="charged",
        result=b"{}",
        heard=Heard(limit_tokens=LIMIT),
    )


async def test_a_job_over_a_learned_limit_waits_until_that_recovers(server: Redis) -> None:
    desk = await Desk.open(server, limited())
    worker = await desk.worker()
    await answered(desk, worker, Heard(largest_tokens=300))
    large = await desk.submit(tokens=500)
    assert await worker.take() == []
    assert await desk.state(large) is State.QUEUED
    pools = Pools(desk.redis, clock=desk.clock)
    await pools.start()
    await pools.resume([POOL])
    assert [job.id for job in await worker.take()] == [large.id]


@pytest.mark.parametrize("what", ["tokens", "requests"])
async def test_a_refusal_nobody_foresaw_lowers_the_limit_once_and_it_recovers_slowly(
    server: Redis, what: str
) -> None:
    desk = await Desk.open(server, limited())
    worker = await desk.worker()
    for _ in range(2):
        await desk.submit()
    first, second = await worker.take(2)
    desk.clock.advance(100)
    await refused(desk, worker, first, what)
    # Sent before the limit was lowered: it says nothing new.
    await refused(desk, worker, second, what)

    async def in_force() -> int | None:
        [scope] = (await state(desk)).scopes
        return scope.tokens_in_force if what == "tokens" else scope.requests_in_force

    configured = LIMIT if what == "tokens" else 100
    assert await in_force() == configured * 7 // 10
    desk.clock.advance(2 * MINUTE_MS)
    assert await in_force() == configured * 8 // 10
    desk.clock.advance(10 * MINUTE_MS)
    assert await in_force() == configured


async def test_less_left_than_we_thought_counts_until_its_reset_or_the_next_answer(server: Redis) -> None:
    desk = await Desk.open(server, limited())
    worker = await desk.worker()
    # Somebody else uses the same account: of 900 that we thought were left, the provider had 200.
    await answered(desk, worker, Heard(remaining_tokens=200, reset_tokens_ms=10_000))
    [scope] = (await state(desk)).scopes
    assert scope.tokens_had_less == 700
    await desk.submit(tokens=300)
    nothing = await worker.claim()
    assert nothing.jobs == ()
    desk.clock.advance(10_000)
    [job] = await worker.take()
    await worker.claims.settle(
        job,
        State.SUCCEEDED,
        charge=usage(300),
        window="charged",
        result=b"{}",
        heard=Heard(remaining_tokens=900),
    )
    [scope] = (await state(desk)).scopes
    assert scope.tokens_had_less == 0


async def test_what_others_took_since_is_not_mistaken_for_less(server: Redis) -> None:
    desk = await Desk.open(server, limited())
    worker = await desk.worker()
    for _ in range(5):
        await desk.submit(tokens=100)
    jobs = await worker.take(5)
    # The first to be claimed was the last to arrive: the provider had counted all five before it answered.
    await worker.claims.settle(
        jobs[0],
        State.SUCCEEDED,
        charge=usage(100),
        window="charged",
        result=b"{}",
        heard=Heard(remaining_tokens=500),
    )
    [scope] = (await state(desk)).scopes
    assert scope.tokens_had_less == 0


async def test_learned_estimates_let_more_run_at_once_but_budgets_hold_the_cap(server: Redis) -> None:
    settings = config(
        providers={
            "p": provider(tokens=20_000, accounting="actual", of_model={"m": Model()}).model_copy(
                update={"estimates": "learned"}
            )
        }
    )
    desk = await Desk.open(server, settings)
    worker = await desk.worker()
    for _ in range(30):
        await desk.submit(tokens=4000)
        job = await worker.take_one()
        charge = Usage(1, 100, 101)
        await worker.claims.settle(job, State.SUCCEEDED, charge=charge, window="charged", result=b"{}")
    pool = await state(desk)
    assert (pool.answers_seen, pool.mean_answer_tokens) == (30, 100)
    desk.clock.advance(2 * MINUTE_MS)
    for _ in range(50):
        await desk.submit(tokens=4000)
    running = await worker.take(50)
    # By cap five would fit.
    assert len(running) == 50
    limits = await desk.limits()
    assert limits.tokens_reserved == 50 * 4000
    [scope] = (await state(desk)).scopes
    assert scope.tokens_in_flight == 50 * 101
    assert scope.margin_deviations is not None


async def test_a_window_that_passed_its_limit_widens_the_margin_at_once(server: Redis) -> None:
    settings = config(
        providers={
            "p": provider(tokens=20_000, accounting="actual").model_copy(update={"estimates": "learned"})
        }
    )
    desk = await Desk.open(server, settings)
    worker = await desk.worker()
    for _ in range(30):
        await desk.submit(tokens=4000)
        await worker.succeed(await worker.take_one(), 100)
    [before] = (await state(desk)).scopes
    desk.clock.advance(2 * MINUTE_MS)
    for _ in range(10):
        await desk.submit(tokens=4000)
    for job in await worker.take(10):
        await worker.succeed(job, 4000)
    [after] = (await state(desk)).scopes
    assert after.windows_passed == 1
    assert before.margin_deviations is not None
    assert after.margin_deviations is not None
    assert after.margin_deviations > before.margin_deviations


async def test_a_refusal_in_mirror_mode_puts_the_bucket_right_and_only_another_lowers_the_limit(
    server: Redis,
) -> None:
    desk = await Desk.open(server, limited(window="mirror"))
    worker = await desk.worker()
    await desk.submit()
    await refused(desk, worker, await worker.take_one(), "tokens")
    [scope] = (await state(desk)).scopes
    assert (scope.tokens_in_force, scope.tokens_charged) == (LIMIT, LIMIT), "the bucket is empty"
    desk.clock.advance(30_000)
    # Half of it is there again.
    await refused(desk, worker, await worker.take_one(), "tokens")
    [scope] = (await state(desk)).scopes
    assert scope.tokens_in_force == LIMIT * 7 // 10
