"""A user's jobs, newest first, a page at a time."""

from dataclasses import replace
from typing import Any

from redis.asyncio import Redis

from jobs.record import JobView, State
from tests.jobs.builders import ALICE, BOB, Desk

Page = tuple[list[str], bool]


async def page(
    desk: Desk,
    limit: int = 20,
    *,
    after: str | None = None,
    status: State | None = None,
    custom_id: str | None = None,
) -> Page:
    """The ids of one page, and whether there are more."""
    jobs, more, _ = await desk.store.list(ALICE, limit=limit, after=after, status=status, custom_id=custom_id)
    return [job.id for job in jobs], more


async def submitted(desk: Desk, count: int, *, apart_ms: int = 1, **fields: Any) -> list[str]:
    """Ids of jobs submitted one after the other, newest first."""
    ids = []
    for _ in range(count):
        desk.clock.advance(apart_ms)
        ids.append((await desk.submit(**fields)).id)
    return ids[::-1]


async def all_pages(desk: Desk, limit: int, status: State | None = None) -> list[str]:
    found: list[str] = []
    while True:
        ids, more = await page(desk, limit, after=found[-1] if found else None, status=status)
        found += ids
        if not more:
            return found


async def test_jobs_are_listed_newest_first_and_only_the_users_own(server: Redis) -> None:
    desk = await Desk.open(server)
    ids = await submitted(desk, 3)
    await desk.submit(BOB)
    assert await page(desk) == (ids, False)
    listed, _, limits = await desk.store.list(ALICE, limit=1, after=None, status=None, custom_id=None)
    assert listed == [without_place(await desk.read(listed[0]))]
    assert limits.queued_jobs == 3


def without_place(job: JobView) -> JobView:
    """As a list shows a job: its place among all that wait is for polls alone."""
    start_ms = job.estimated_start_ms if job.blocked_on in ("not_before", "backoff") else None
    return replace(job, position=None, estimated_start_ms=start_ms)


async def test_a_list_shows_each_job_as_a_poll_does_but_for_its_place(server: Redis) -> None:
    desk = await Desk.open(server)
    hand = await desk.worker()
    await desk.user(ALICE, tokens_per_day=300)
    await desk.submit()
    await hand.succeed(await hand.take_one())
    await desk.submit()
    await hand.take_one()
    await submitted(desk, 2, on_budget="wait", tokens=200)
    await submitted(desk, 1, not_before_ms=desk.clock() + 60_000)
    listed, _, _ = await desk.store.list(ALICE, limit=9, after=None, status=None, custom_id=None)
    assert listed == [without_place(await desk.read(job)) for job in listed]
    assert [(job.state, job.blocked_on) for job in listed] == [
        (State.QUEUED, "not_before"),
        (State.QUEUED, "user_budget"),
        (State.QUEUED, "user_budget"),
        (State.RUNNING, None),
        (State.SUCCEEDED, None),
    ]


async def test_an_empty_list_is_empty(server: Redis) -> None:
    desk = await Desk.open(server)
    assert await page(desk) == ([], False)
    assert await page(desk, after="job_none") == ([], False)


async def test_pages_follow_each_other_without_a_gap_or_a_double(server: Redis) -> None:
    desk = await Desk.open(server)
    ids = await submitted(desk, 7)
    assert await page(desk, 3) == (ids[:3], True)
    assert await page(desk, 3, after=ids[2]) == (ids[3:6], True)
    assert await page(desk, 3, after=ids[5]) == (ids[6:], False)
    assert await page(desk, 7) == (ids, False)


async def test_several_jobs_of_one_millisecond_are_told_apart(server: Redis) -> None:
    desk = await Desk.open(server)
    ids = await submitted(desk, 7, apart_ms=0)
    assert await all_pages(desk, 2) == ids


async def test_a_page_may_follow_a_job_that_was_erased(server: Redis) -> None:
    desk = await Desk.open(server)
    ids = await submitted(desk, 6)
    for job_id in ids[1:3]:
        await desk.store.cancel(ALICE, job_id)
        await desk.store.erase(ALICE, job_id)
    assert await page(desk, 2, after=ids[2]) == (ids[3:5], True)
    assert await page(desk, 2, after=ids[1]) == (ids[3:5], True)


async def test_jobs_submitted_meanwhile_do_not_shift_the_pages(server: Redis) -> None:
    desk = await Desk.open(server)
    ids = await submitted(desk, 4)
    assert await page(desk, 2) == (ids[:2], True)
    await submitted(desk, 3)
    assert await page(desk, 2, after=ids[1]) == (ids[2:], False)


async def test_a_list_can_be_of_one_status(server: Redis) -> None:
    desk = await Desk.open(server)
    ids = await submitted(desk, 6)
    for job_id in ids[::2]:
        await desk.store.cancel(ALICE, job_id)
    assert await page(desk, status=State.CANCELLED) == (ids[::2], False)
    assert await page(desk, 2, status=State.QUEUED) == (ids[1:5:2], True)
    assert await all_pages(desk, 1, State.QUEUED) == ids[1::2]
    assert await page(desk, status=State.FAILED) == ([], False)


async def test_a_list_can_be_of_one_custom_id(server: Redis) -> None:
    desk = await Desk.open(server)
    rows = await submitted(desk, 2, custom_id="row 1")
    await submitted(desk, 2, custom_id="row 2")
    rows = await submitted(desk, 1, custom_id="row 1") + rows
    assert await page(desk, custom_id="row 1") == (rows, False)
    assert await page(desk, 2, custom_id="row 1") == (rows[:2], True)
    assert await page(desk, custom_id="row 3") == ([], False)


async def test_a_filter_looks_behind_as_many_jobs_as_there_are(server: Redis) -> None:
    desk = await Desk.open(server)
    oldest = await submitted(desk, 1, custom_id="needle")
    await submitted(desk, 210)
    assert await page(desk, 1, custom_id="needle") == (oldest, False)


async def test_jobs_past_their_retention_are_left_out_and_forgotten(server: Redis) -> None:
    desk = await Desk.open(server)
    ids = await submitted(desk, 4)
    for job_id in ids[1:3]:
        await desk.redis.delete(f"job:{job_id}")  # as its expiry does
    assert await page(desk, 2) == ([ids[0], ids[3]], False)
    assert set(await desk.scores("jobs:alice")) == {ids[0], ids[3]}


async def test_each_submission_forgets_the_oldest_that_are_gone(server: Redis) -> None:
    desk = await Desk.open(server)
    ids = await submitted(desk, 3)
    for job_id in ids:
        await desk.redis.delete(f"job:{job_id}")
    new = await submitted(desk, 2)
    assert set(await desk.scores("jobs:alice")) == set(new)


async def test_a_job_that_is_kept_for_long_does_not_hide_those_behind_it(server: Redis) -> None:
    desk = await Desk.open(server)
    kept = await submitted(desk, 8)
    gone = await submitted(desk, 40)
    for job_id in gone:
        await desk.redis.delete(f"job:{job_id}")
    await submitted(desk, 300)
    listed = set(await desk.scores("jobs:alice"))
    assert listed.issuperset(kept)
    assert len(listed.intersection(gone)) < 10
