"""Redis comes back empty: nothing is done on it until an operator says so, and then all is in force again."""

import pytest
from redis.asyncio import Redis

from jobs.runner import EpochChanged
from jobs.store import JobStore
from tests.jobs.builders import ALICE, Desk


async def test_nothing_runs_on_an_emptied_redis(server: Redis) -> None:
    desk = await Desk.open(server)
    worker = await desk.worker()
    await server.flushall()
    with pytest.raises(EpochChanged):
        await desk.ask()
    with pytest.raises(EpochChanged):
        await worker.claim()
    assert await desk.keys() == set()


async def test_a_process_that_starts_on_the_emptied_redis_does_not_speak_for_the_others(
    server: Redis,
) -> None:
    desk = await Desk.open(server)
    await server.flushall()
    await JobStore(server).start()
    with pytest.raises(EpochChanged):
        await desk.ask()


async def test_after_the_loss_is_accepted_every_process_goes_on_with_its_configuration(server: Redis) -> None:
    desk = await Desk.open(server)
    worker = await desk.worker()
    await server.flushall()
    await JobStore(server).accept_loss()
    await desk.user(ALICE)
    job = await desk.submit()
    [claimed] = await worker.take()
    assert claimed.id == job.id
    assert await worker.succeed(claimed)
