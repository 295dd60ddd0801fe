"""A simulated fleet that follows the advice settles, does not swing, and stays within what the provider allows."""

import itertools
from collections.abc import Sequence

from redis.asyncio import Redis

from bench.fleet import Case, Sample, beyond_useful, play, settled

STEP = Case("step", ((0, 1), (60, 4), (230, 1)), 370, slots=2)
LIMIT = Case("limit", ((0, 4),), 150, slots=2, tokens_per_minute=120_000)


def turns(samples: Sequence[Sample]) -> int:
    """How often the advice turned from growing to shrinking, or back."""
    advised = [number for number, _ in itertools.groupby(sample.recommended for sample in samples)]
    up = [later > earlier for earlier, later in itertools.pairwise(advised)]
    return sum(a != b for a, b in itertools.pairwise(up))


async def test_a_step_in_load_settles_within_two_minutes_without_oscillation(redis: Redis) -> None:
    samples = await play(redis, STEP)
    for step, need in ((1, 8), (2, 2)):
        after = settled(samples, STEP, step)
        assert after.after_s <= 120
        assert after.turned == 0
        assert need <= after.fewest <= after.most <= need * 1.3 + 2
    # From the first load up to the second and down again: as many turns as the load makes.
    assert turns([sample for sample in samples if sample.second >= 60]) == 1


async def test_no_more_workers_are_advised_than_carry_the_provider_s_limit(redis: Redis) -> None:
    samples = await play(redis, LIMIT)
    carried = LIMIT.most_jobs / LIMIT.per_worker
    told = [sample for sample in samples if sample.useful_max is not None]
    assert len(told) > 8
    assert beyond_useful(samples) <= 0
    assert max(sample.useful_max or 0 for sample in told[3:]) <= carried * 1.1 + 1
    assert samples[-1].recommended == samples[-1].useful_max
    assert all(
        sample.workers * LIMIT.per_worker <= LIMIT.most_jobs * 1.1 + LIMIT.per_worker for sample in told[3:]
    )
