"""Thousands of operations in no order: whatever is done when, Redis fits together, and in the end every job ends."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from jobs.claims import PoolPause, RetryCause, WindowEffect
from jobs.config import Anonymous, Config, Model, Tier
from jobs.record import ClaimedJob, JobError, JobView, NewJob, State, Submitted, Usage
from tests.jobs.builders import (
    ALICE,
    BOB,
    DAY_MS,
    LEASE_MS,
    MINUTE_MS,
    SECOND_MS,
    Desk,
    Hand,
    config,
    provider,
)
from tests.jobs.invariants import check, check_at_rest, kept

GUESTS = ("ip:192.0.2.1", "ip:192.0.2.2")
USERS = (ALICE, BOB, "carol", *GUESTS)
STEPS = 200
CALL_MS = 20 * SECOND_MS


def settings(accounting: str) -> Config:
    """Two providers, one with a small model, a route over both, and guests with a common budget."""
    return config(
        providers={
            "p": provider(
                "n",
                tokens=3000,
                requests=60,
                of_model={"m": Model(tokens_per_minute=2000)},
                accounting=accounting,
                timeout_s=CALL_MS / SECOND_MS,
            ),
            "q": provider("o", tokens=2000, accounting=accounting, timeout_s=CALL_MS / SECOND_MS),
        },
        routes={"best": ("p/m", "q/o")},
        tiers={"guest": Tier(tokens_per_day=6000, max_concurrent=2)},
        anonymous=Anonymous(tier="guest", tokens_per_day=8000),
    )


@dataclass
class Walk:
    """One seeded schedule over one server."""

    desk: Desk
    chance: random.Random
    hands: list[Hand]
    running: list[tuple[Hand, ClaimedJob]] = field(default_factory=list)
    stale: list[tuple[Hand, ClaimedJob]] = field(default_factory=list)
    submitted: list[NewJob] = field(default_factory=list)
    ended: dict[str, JobView] = field(default_factory=dict)
    claimed_ms: dict[str, int] = field(default_factory=dict)

    async def submit(self) -> None:
        pick, now = self.chance, self.desk.clock.now_ms
        job = self.desk.new(
            pick.choice(USERS),
            pick.choice((20, 100, 300, 900, 1900)),
            prompt=10,
            name=pick.choice(("m", "m", "n", "best", "o")),
            priority=pick.choice(("interactive", "standard", "batch")),
            on_budget=pick.choice(("reject", "wait")),
            retry=pick.choice(("safe", "safe", "never")),
            not_before_ms=pick.choice((None, None, now + 3000, now + MINUTE_MS, now + DAY_MS)),
            expires_after_ms=pick.choice((7 * DAY_MS, 7 * DAY_MS, 7 * DAY_MS, 40 * SECOND_MS)),
            idempotency_key=pick.choice((None, None, "a", "b", "c")),
        )
        if isinstance(await self.desk.store.submit(job), Submitted):
            self.submitted.append(job)

    async def submit_again(self) -> None:
        if self.submitted:
            await self.desk.store.submit(self.chance.choice(self.submitted))

    async def claim(self) -> None:
        hand = self.chance.choice(self.hands)
        self._got(hand, await hand.take(self.chance.choice((1, 2, 5))))

    async def claim_again(self) -> None:
        hand = self.chance.choice(self.hands)
        if hand.sequence:
            self._got(hand, list((await hand.claim_again(3)).jobs))

    def _got(self, hand: Hand, jobs: list[ClaimedJob]) -> None:
        known = {job.token for _, job in self.running}
        self.running += [(hand, job) for job in jobs if job.token not in known]
        for job in jobs:
            self.claimed_ms.setdefault(job.token, self.desk.clock.now_ms)

    def _take(self) -> tuple[Hand, ClaimedJob] | None:
        if not self.running:
            return None
        self.stale.append(self.running.pop(self.chance.randrange(len(self.running))))
        return self.stale[-1]

    async def settle(self) -> None:
        if taken := self._take():
            hand, job = taken
            tokens = self.chance.randint(10, job.prompt_tokens + job.output_tokens)
            await hand.succeed(job, tokens)

    async def fail(self) -> None:
        if taken := self._take():
            hand, job = taken
            window: WindowEffect = self.chance.choice(("kept", "tokens_back", "given_back", "in_flight"))
            charge = self.chance.choice((None, Usage(10, 5, 15, 0, "estimated")))
            error = JobError("provider_failed", "no", job.attempt, 500)
            await hand.claims.settle(
                job,
                self.chance.choice((State.FAILED, None)),
                charge=charge,
                window=window,
                error=error,
                replayable=self.chance.random() < 0.5,
            )

    async def put_back(self) -> None:
        if taken := self._take():
            hand, job = taken
            window: WindowEffect = self.chance.choice(("kept", "tokens_back", "given_back", "in_flight"))
            cause: RetryCause = self.chance.choice(("", "throttled", "unknown", "connect"))
            pause = self.chance.choice(
                (None, None, None, PoolPause(3000, "throttled", False), PoolPause(0, "key", True))
            )
            await hand.put_back(
                job,
                after_ms=self.chance.choice((0, 0, 1500, 20_000)),
                counts=self.chance.random() < 0.5,
                window=window,
                cause=cause,
                pause=pause,
            )

    async def settle_stale(self) -> None:
        """A worker that was frozen, or whose answer was lost, says it again: nothing changes."""
        hand, job = self.chance.choice(self.stale or [(self.hands[0], None)])
        leases = await self.desk.scores("leases")
        if job is not None and f"{job.id} {job.token}" not in leases:
            before = (await self.desk.store.read(job.user, job.id))[0]
            await hand.succeed(job, 7)
            await hand.put_back(job)
            after = (await self.desk.store.read(job.user, job.id))[0]
            assert after == before

    async def die(self) -> None:
        """A worker is not heard of again, and another takes its place."""
        place = self.chance.randrange(len(self.hands))
        dead = self.hands[place]
        self.hands[place] = await self.desk.worker()
        self.stale += [(hand, job) for hand, job in self.running if hand is dead]
        self.running = [(hand, job) for hand, job in self.running if hand is not dead]

    async def renew(self) -> None:
        for hand in self.hands:
            # No call is kept alive past its own deadline.
            mine = [job for other, job in self.running if other is hand and self._may_run(job)]
            lost, stop = await hand.renew(*mine)
            # What was asked to end is only told to the worker that has it.
            assert set(stop) <= {job.id for other, job in self.running if other is hand}
            gone = {(job.id, job.token) for job in mine if job.token in lost}
            self.stale += [(h, job) for h, job in self.running if (job.id, job.token) in gone]
            self.running = [(h, job) for h, job in self.running if (job.id, job.token) not in gone]

    def _may_run(self, job: ClaimedJob) -> bool:
        return self.desk.clock.now_ms < self.claimed_ms[job.token] + CALL_MS

    async def in_the_windows(self) -> None:
        """Whatever runs and may still be charged is on a receipt."""
        leases = await self.desk.scores("leases")
        ours = [job for _, job in self.running if f"{job.id} {job.token}" in leases and self._may_run(job)]
        assert {job.token for job in ours} <= set(await self.desk.hash("receipts"))

    async def cancel(self) -> None:
        if self.submitted:
            job = self.chance.choice(self.submitted)
            await self.desk.store.cancel(job.user, job.id)

    async def erase(self) -> None:
        if self.submitted:
            job = self.chance.choice(self.submitted)
            outcome = await self.desk.store.erase(job.user, job.id)
            if outcome.outcome == "erased":
                self.submitted.remove(job)
                self.ended.pop(job.id, None)

    async def a_moment(self) -> None:
        self.desk.clock.advance(self.chance.randint(0, 900))

    async def a_while(self) -> None:
        self.desk.clock.advance(self.chance.randint(SECOND_MS, 20 * SECOND_MS))
        await self.desk.store.sweep()

    async def to_midnight(self) -> None:
        self.desk.clock.advance(self.desk.clock.midnight_ms - self.desk.clock.now_ms)

    async def change_a_limit(self) -> None:
        await self.desk.user(BOB, tokens_per_day=self.chance.choice((None, 3000, 9000)))
        await self.desk.user("carol", max_concurrent=self.chance.choice((1, 2, None)))
        await self.desk.user(ALICE, weight=self.chance.choice((1, 3, 8)))

    async def step(self) -> None:
        likely: dict[Callable[[], Awaitable[None]], int] = {
            self.submit: 26, self.submit_again: 2, self.claim: 14, self.claim_again: 2, self.settle: 10,
            self.fail: 4, self.put_back: 6, self.settle_stale: 3, self.die: 1, self.renew: 6, self.cancel: 4,
            self.erase: 6, self.a_moment: 10, self.a_while: 4, self.desk.store.sweep: 3, self.change_a_limit: 1,
        }  # fmt: skip
        [what] = self.chance.choices(list(likely), list(likely.values()))
        await what()

    async def still_final(self) -> None:
        """What has ended never changes again."""
        for job in self.submitted:
            if job.id not in self.ended:
                view = (await self.desk.store.read(job.user, job.id))[0]
                if view is not None and view.state.final:
                    self.ended[job.id] = view
        for job_id, view in self.ended.items():
            assert (await self.desk.store.read(view.user, job_id))[0] == view

    async def to_the_end(self) -> None:
        """One good worker, and days enough: every job ends without anybody's help."""
        self.running.clear()
        hand = await self.desk.worker("good")
        for _ in range(1500):
            while jobs := await hand.take(20):
                for job in jobs:
                    await hand.succeed(job, 12)
            await hand.renew()
            left = sum([(await self.desk.limits(user)).queued_jobs for user in USERS])
            running = sum([(await self.desk.limits(user)).running for user in USERS])
            if left + running == 0:
                return
            self.desk.clock.advance(self.chance.choice((2, 5, 5, 60)) * SECOND_MS)
            if self.chance.random() < 0.02:
                await self.to_midnight()
                await hand.renew()
        raise AssertionError(f"{left} jobs are queued and {running} run for ever")


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens_in_whatever_order_redis_fits_together(server: Redis, seed: int) -> None:
    accounting = ("openai", "anthropic", "actual")[seed % 3]
    desk = await Desk.open(server, settings(accounting))
    await desk.user("carol", max_queued_jobs=20)
    await desk.user(ALICE, tokens_per_day=5000, max_concurrent=2)
    walk = Walk(desk, random.Random(seed), [await desk.worker() for _ in range(3)])
    for _ in range(STEPS):
        await walk.step()
        check(await kept(server))
        await walk.in_the_windows()
    await walk.still_final()
    await walk.to_the_end()
    await walk.still_final()
    desk.clock.advance(LEASE_MS + 30 * SECOND_MS)
    await desk.store.sweep()
    desk.clock.advance(2 * MINUTE_MS)
    await desk.store.sweep()
    await check_at_rest(server)
