"""Whose turn it is: users by weight, their own jobs by priority, names by those who wait; and nobody behind a crowd."""

import asyncio
import random
from collections import Counter

import pytest
from redis.asyncio import Redis

from jobs.record import ClaimedJob, Priority
from tests.jobs.builders import ALICE, BOB, MODEL, Desk, Hand, config, provider


class Backlogs:
    """Users who always have jobs waiting, and what each has received: the actual tokens of settled jobs."""

    def __init__(self, desk: Desk, hand: Hand) -> None:
        self.desk = desk
        self.hand = hand
        self.received: Counter[str] = Counter()
        self.running: list[ClaimedJob] = []

    async def fill(self, user: str, count: int, tokens: int, name: str = MODEL) -> None:
        for _ in range(count):
            await self.desk.submit(user, tokens, name=name)

    async def claim(self, slots: int) -> list[ClaimedJob]:
        taken = await self.hand.take(slots)
        self.running += taken
        return taken

    async def settle(self, job: ClaimedJob, tokens: int) -> None:
        self.running.remove(job)
        await self.hand.succeed(job, tokens)
        self.received[job.user] += tokens

    def apart(self) -> int:
        """By how much the tokens received differ."""
        return abs(self.received[ALICE] - self.received[BOB])

    def in_flight(self) -> int:
        return sum(job.prompt_tokens + job.output_tokens for job in self.running)


@pytest.mark.parametrize("seed", range(3))
async def test_equal_users_are_never_further_apart_than_two_jobs_and_what_is_in_flight(
    server: Redis, seed: int
) -> None:
    desk = await Desk.open(server)
    chance = random.Random(seed)
    line = Backlogs(desk, await desk.worker())
    largest = 900
    for user, most in ((ALICE, largest), (BOB, 300)):
        for _ in range(4):
            await line.fill(user, 1, chance.randint(1, most))
    for _ in range(80):
        # Whoever's job is taken gets another in the queue: both backlogs stand.
        for job in await line.claim(1):
            await line.fill(job.user, 1, chance.randint(1, largest if job.user == ALICE else 300))
        if len(line.running) == 4:
            job = chance.choice(line.running)
            await line.settle(job, chance.randint(1, job.prompt_tokens + job.output_tokens))
        assert line.apart() <= 2 * largest + line.in_flight()


async def test_equal_users_get_equal_tokens_whatever_caps_they_ask_for(server: Redis) -> None:
    """Caps of 4,000 and of 1,000 for answers of 1,000: it is the answers that count."""
    desk = await Desk.open(server)
    line = Backlogs(desk, await desk.worker())
    await line.fill(ALICE, 60, 4000)
    await line.fill(BOB, 60, 1000)
    for _ in range(60):
        await line.claim(4 - len(line.running))
        await line.settle(line.running[0], 1000)
        assert line.apart() <= 2 * 4000 + line.in_flight()
    share = line.received[ALICE] / sum(line.received.values())
    assert share == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("pools", "furthest"), [(("p/m",), 2), (("p/m", "q/n"), 3)])
async def test_equal_users_stay_together_while_only_small_caps_fit_a_full_window(
    redis: Redis, pools: tuple[str, ...], furthest: int
) -> None:
    """Each large cap is overtaken by small ones, and its answer is counted only when it comes, seconds later.

    furthest: in jobs; what ends in several pools makes room for the next in none of them yet.
    """
    desk = await Desk.open(
        redis,
        config(
            providers={
                "p": provider("m", tokens=60_000, accounting="actual"),
                "q": provider("n", tokens=60_000, accounting="actual"),
            },
            routes={"r": pools},
        ),
    )
    line = Backlogs(desk, await desk.worker())
    chance = random.Random(5)
    caps = {ALICE: 4000, BOB: 1000}
    for user, tokens in caps.items():
        await line.fill(user, 20, tokens, "r")
    ends: dict[str, int] = {}

    async def claim() -> None:
        for job in await line.claim(20 - len(line.running)):
            ends[job.id] = desk.clock.now_ms + chance.randint(1000, 6000)
            await line.fill(job.user, 1, caps[job.user], "r")

    for _ in range(400):
        desk.clock.advance(250)
        for job in [job for job in line.running if ends[job.id] <= desk.clock.now_ms]:
            await line.settle(job, 1000)
            assert line.apart() <= furthest * 4000 + line.in_flight()
            await claim()
        await claim()
    assert sum(line.received.values()) > 80_000


async def test_users_get_tokens_by_their_weights(server: Redis) -> None:
    desk = await Desk.open(server)
    line = Backlogs(desk, await desk.worker())
    jobs = {"one": (1, 100), "four": (4, 50), "sixteen": (16, 100)}
    for name, (weight, tokens) in jobs.items():
        await desk.user(name, weight=weight)
        await line.fill(name, 7 * weight * 100 // tokens, tokens)
    for _ in range(6):
        for job in await line.claim(25):
            await line.settle(job, job.prompt_tokens + job.output_tokens)
    total = sum(line.received.values())
    for name, (weight, _) in jobs.items():
        assert line.received[name] / total == pytest.approx(weight / 21, rel=0.05)


async def test_ones_own_jobs_go_by_priority_eight_to_four_to_one(server: Redis) -> None:
    desk = await Desk.open(server)
    waiting: dict[Priority, int] = {"batch": 10, "standard": 30, "interactive": 60}
    for priority, count in waiting.items():
        for _ in range(count):
            await desk.submit(priority=priority)
    taken: Counter[str] = Counter()
    hand = await desk.worker()
    for _ in range(3):
        for job in await hand.take(26):
            taken[(await desk.read(job)).priority] += 1
            await hand.succeed(job)
    assert taken == {"interactive": 48, "standard": 24, "batch": 6}


async def test_a_priority_that_was_away_has_no_credit_for_it(server: Redis) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker()
    waiting: dict[Priority, int] = {"standard": 20, "interactive": 40}
    for priority, count in waiting.items():
        for _ in range(count):
            await desk.submit(priority=priority)
    await hand.take(30)
    batch = {(await desk.submit(priority="batch")).id for _ in range(5)}
    assert len(batch & {job.id for job in await hand.take(13)}) == 1


async def test_the_turns_of_priorities_are_kept_only_while_several_wait(server: Redis) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker()
    for priority in ("standard", "interactive", "standard", "interactive"):
        await desk.submit(priority=priority)
    await hand.take_one()
    assert "turns:m alice" in await desk.keys()
    await hand.take(2)
    assert "turns:m alice" not in await desk.keys()


async def test_an_urgent_job_goes_before_ones_own_earlier_ones_and_in_order_of_submission(
    server: Redis,
) -> None:
    desk = await Desk.open(server)
    standard = [await desk.submit() for _ in range(3)]
    urgent = [await desk.submit(priority="interactive") for _ in range(2)]
    taken = [job.id for job in await (await desk.worker()).take(5)]
    assert taken[0] == urgent[0].id
    assert taken.index(urgent[1].id) < taken.index(standard[1].id)
    assert [job_id for job_id in taken if job_id in {job.id for job in standard}] == [
        job.id for job in standard
    ]


async def test_a_priority_gives_no_right_over_other_users(server: Redis) -> None:
    desk = await Desk.open(server)
    line = Backlogs(desk, await desk.worker())
    for _ in range(20):
        await desk.submit(ALICE, priority="interactive")
        await desk.submit(BOB, priority="batch")
    for job in await line.claim(20):
        await line.settle(job, 100)
    assert line.received == {ALICE: 1000, BOB: 1000}


async def test_who_was_away_has_no_credit_for_it(server: Redis) -> None:
    desk = await Desk.open(server)
    line = Backlogs(desk, await desk.worker())
    await line.fill(BOB, 1, 100)
    await line.fill(ALICE, 60, 100)
    for job in await line.claim(30):
        await line.settle(job, 100)
    assert line.received == {ALICE: 2900, BOB: 100}
    await line.fill(BOB, 20, 100)
    line.received.clear()
    for job in await line.claim(20):
        await line.settle(job, 100)
    assert line.apart() <= 100


async def test_one_large_job_at_a_time_gains_nothing_over_many_small_ones(server: Redis) -> None:
    desk = await Desk.open(server)
    line = Backlogs(desk, await desk.worker())
    await line.fill(ALICE, 60, 100)
    await line.fill(BOB, 1, 1000)
    for _ in range(50):
        [job] = await line.claim(1)
        await line.settle(job, job.prompt_tokens + job.output_tokens)
        # His lane is empty each time his job is taken.
        if job.user == BOB:
            await line.fill(BOB, 1, 1000)
        assert line.apart() <= 2 * 1000


async def test_attempts_that_cost_nothing_cost_no_turn(server: Redis) -> None:
    desk = await Desk.open(server)
    line = Backlogs(desk, await desk.worker())
    await line.fill(ALICE, 1, 100)
    for _ in range(5):
        await line.hand.put_back(
            await line.hand.take_one(), window="tokens_back", cause="throttled", counts=False
        )
    await line.fill(ALICE, 9, 100)
    await line.fill(BOB, 10, 100)
    for job in await line.claim(10):
        await line.settle(job, 100)
    assert line.apart() <= 200


async def test_names_take_turns_by_the_weights_of_those_who_wait_in_each(server: Redis) -> None:
    desk = await Desk.open(server, config(providers={"p": provider("m", "n")}))
    await desk.user("carol", weight=2)
    for user, name in ((ALICE, "m"), (BOB, "n"), ("carol", "n")):
        for _ in range(45):
            await desk.submit(user, name=name)
    hand = await desk.worker()
    taken: Counter[str] = Counter()
    for _ in range(4):
        for job in await hand.take(20):
            taken[job.user] += 1
            await hand.succeed(job)
    assert taken[ALICE] == pytest.approx(20, abs=2)
    assert taken[BOB] == pytest.approx(20, abs=2)
    assert taken["carol"] == pytest.approx(40, abs=2)


async def test_a_light_user_waits_beside_many_jobs_as_long_as_beside_five_in_a_full_window(
    redis: Redis,
) -> None:
    async def waits_ms(queued: int) -> list[int]:
        await redis.flushall()
        desk = await Desk.open(redis, config(providers={"p": provider(tokens=100_000)}))
        line = Backlogs(desk, await desk.worker())
        chance = random.Random(5)
        asked: dict[str, int] = {}
        waits: list[int] = []
        for step in range(400):
            desk.clock.advance(500)
            if step < 123:
                await line.fill(ALICE, 1, 100_000 // 123)
            elif step == 123:
                for _ in range(queued):
                    await line.fill(ALICE, 1, chance.randint(200, 800))
            elif step % 20 == 0:
                asked[(await desk.submit(BOB, 1000)).id] = desk.clock.now_ms
            while taken := await line.claim(20):
                for job in taken:
                    await line.settle(job, job.prompt_tokens + job.output_tokens)
                    if job.user == BOB:
                        waits.append(desk.clock.now_ms - asked[job.id])
                    elif step >= 123:
                        await line.fill(ALICE, 1, chance.randint(200, 800))
        assert len(waits) >= len(asked) - 1
        return waits

    few, many = sum(await waits_ms(5)), sum(await waits_ms(500))
    assert 0 < many <= 1.2 * few


async def test_a_light_user_is_not_delayed_by_one_with_five_thousand_jobs(redis: Redis) -> None:
    desk = await Desk.open(redis)
    for _ in range(50):
        await asyncio.gather(*(desk.submit(ALICE, 1000) for _ in range(100)))
    hand = await desk.worker()
    for _ in range(10):
        for job in await hand.take(20):
            await hand.succeed(job)
        light = await desk.submit(BOB, 500)
        # Alice's job may be before it, of the same tag; never a second one.
        assert light.id in {job.id for job in await hand.take(2)}
    assert (await desk.limits(ALICE)).queued_jobs > 4700
