"""Jobs that failed for good are listed until they are replayed, as new jobs of the same user."""

from redis.asyncio import Redis

from jobs.dead import DeadJobs
from jobs.record import JobError, JobView, State, Submitted
from tests.jobs.builders import ALICE, BOB, Desk


async def dead_job(desk: Desk, user: str = ALICE) -> JobView:
    """A job whose attempts were used up."""
    job = await desk.submit(user, 50, custom_id="row-1", metadata={"team": "search"}, priority="batch")
    worker = await desk.worker()
    claimed = await worker.take_one()
    error = JobError("provider_failed", "no answer", 5, 503)
    await worker.claims.settle(
        claimed, State.FAILED, charge=None, window="kept", error=error, replayable=True
    )
    desk.clock.advance(1000)
    return job


async def opened(desk: Desk) -> DeadJobs:
    dead = DeadJobs(desk.redis, clock=desk.clock)
    await dead.start()
    return dead


async def test_dead_jobs_of_all_users_are_listed_the_last_first_page_by_page(server: Redis) -> None:
    desk = await Desk.open(server)
    jobs = [await dead_job(desk, user) for user in (ALICE, BOB, ALICE)]
    dead = await opened(desk)
    first, more = await dead.list(limit=2, after=None)
    assert [job.id for job in first] == [jobs[2].id, jobs[1].id]
    assert more
    rest, more = await dead.list(limit=2, after=first[-1].id)
    assert [job.id for job in rest] == [jobs[0].id]
    assert not more


async def test_a_replay_is_a_new_job_with_what_the_dead_one_had_and_takes_it_off_the_list(
    server: Redis,
) -> None:
    desk = await Desk.open(server)
    await desk.user(ALICE, requests_per_minute=1)
    job = await dead_job(desk)
    dead = await opened(desk)
    again = await dead.replay(job.id, desk.id())
    assert again is not None
    outcome = await desk.store.submit(again)
    # Alice has used up her request rate, but it is not she who replays.
    assert isinstance(outcome, Submitted)
    assert (outcome.job.custom_id, outcome.job.metadata) == ("row-1", {"team": "search"})
    assert (outcome.job.priority, outcome.job.estimated_tokens) == ("batch", 50)
    assert await dead.list(limit=10, after=None) == ([], False)
    worker = await desk.worker()
    [claimed] = await worker.take()
    assert (claimed.id, claimed.body) == (outcome.job.id, b'{"model": "m"}')
    assert (await desk.read(job)).state is State.FAILED


async def test_only_dead_jobs_are_replayed(server: Redis) -> None:
    desk = await Desk.open(server)
    job = await desk.submit()
    dead = await opened(desk)
    assert await dead.replay(job.id, desk.id()) is None
    assert await dead.replay("job_unknown", desk.id()) is None
