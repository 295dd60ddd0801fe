"""Endpoints of webhooks: how many, with which secrets, and what becomes of deliveries when one is out of use."""

import pytest
from redis.asyncio import Redis
from ulid import ULID

from jobs.webhooks import EVENT_TYPES
from jobs.webhooks.endpoints import TooManyEndpointsError
from tests.jobs.builders import (
    ALICE,
    BOB,
    DAY_MS,
    MINUTE_MS,
)
from tests.jobs.invariants import check, kept
from tests.jobs.post import URL, opened, own_url


async def test_410_puts_a_registered_endpoint_out_of_use_until_it_is_enabled(server: Redis) -> None:
    desk, post = await opened(server)
    endpoint = await post.endpoint()
    sender = await post.sender()
    for _ in range(2):
        await post.finished_job()
    await sender.settle(await sender.prepare((await sender.take(1))[0]), "gone")
    found = await post.endpoints.get(ALICE, endpoint.id)
    assert found is not None
    assert "410" in found.disabled
    await post.finished_job()
    assert len(await post.all()) == 2
    desk.clock.advance(10 * MINUTE_MS)
    assert await sender.take() == []
    check(await kept(server))
    await post.endpoints.change(ALICE, endpoint.id, {"disabled": ""})
    assert len(await sender.send()) == 2
    await post.finished_job()
    assert len(await post.all()) == 3


async def test_the_deliveries_of_a_deleted_endpoint_fail(server: Redis) -> None:
    _, post = await opened(server)
    endpoint = await post.endpoint()
    sender = await post.sender()
    for _ in range(3):
        await post.finished_job()
    held = (await sender.take(1))[0]
    assert await post.endpoints.delete(ALICE, endpoint.id)
    assert await sender.take() == []
    assert {one.status for one in await post.all()} == {"pending", "failed"}
    await sender.settle(await sender.prepare(held), "failed")
    assert await sender.take() == []
    statuses = [one.status for one in await post.all()]
    assert statuses.count("failed") == 2
    assert await post.deliveries.redeliver(ALICE, (await post.all())[-1].id) == "deleted"
    assert await post.endpoints.get(ALICE, endpoint.id) is None


async def test_a_user_may_have_twenty_endpoints_and_his_list_is_his(server: Redis) -> None:
    _, post = await opened(server)
    made = [(await post.endpoint()).id for _ in range(20)]
    with pytest.raises(TooManyEndpointsError):
        await post.endpoint()
    await post.endpoint(BOB)
    page, more = await post.endpoints.list(ALICE, limit=15, after=None)
    rest, end = await post.endpoints.list(ALICE, limit=15, after=page[-1].id)
    assert (more, end) == (True, False)
    assert sorted(one.id for one in (*page, *rest)) == sorted(made)
    assert {one.event_types for one in page} == {EVENT_TYPES}


async def test_a_secret_is_readable_with_the_pepper_alone_and_signs_on_for_a_day_if_asked(
    server: Redis,
) -> None:
    desk, post = await opened(server)
    endpoint, first = await post.endpoints.create(
        ALICE, f"we_{ULID()}", url=URL, event_types=EVENT_TYPES, name=""
    )
    rotated = await post.endpoints.rotate(ALICE, endpoint.id, keep_old=True)
    assert rotated is not None
    default = await post.endpoints.rotate(ALICE, None, keep_old=False)
    assert default is not None
    stored = str(await desk.snapshot())
    for secret in (first, rotated[1], default[1]):
        assert secret not in stored
        assert secret.removeprefix("whsec_") not in stored
    sender = await post.sender()
    await post.finished_job()
    [held] = await sender.send("failed")
    assert [post.box.open(one, ALICE) for one in (held.secret, held.old_secret)] == [rotated[1], first]
    desk.clock.advance(DAY_MS)
    [held] = await sender.send("failed")
    assert (post.box.open(held.secret, ALICE), held.old_secret) == (rotated[1], "")
    await post.endpoints.rotate(ALICE, endpoint.id, keep_old=False)
    desk.clock.advance(DAY_MS)
    [held] = await sender.send()
    assert held.old_secret == ""
    assert await post.endpoints.rotate(BOB, endpoint.id, keep_old=True) is None


async def test_a_user_without_a_default_secret_gets_one_with_the_first_delivery(server: Redis) -> None:
    _, post = await opened(server)
    for _ in range(2):
        await post.finished_job(**own_url())
    sender = await post.sender()
    first, second = await sender.take()
    ready, also = await sender.prepare(first), await sender.prepare(second)
    assert ready.secret == also.secret != ""
    assert post.box.open(ready.secret, ALICE).startswith("whsec_")
