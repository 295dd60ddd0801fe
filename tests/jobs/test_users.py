"""Users and keys as Redis keeps them, on fakeredis and on a real Valkey."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, RedisError

from jobs import keys
from jobs.connection import connect
from jobs.users import (
    OVERRIDABLE,
    KeyRecord,
    KeyTakenError,
    UnknownUserError,
    UserRecord,
    Users,
    is_user_name,
)
from tests.support.subscription import next_message, subscribed
from tests.support.valkey import running_valkey

LATER_MS = 1_900_000_000_000


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def users(server: Redis) -> Users:
    return Users(server)


def a_key(key_id: str = "k1", user: str = "ann", **changes: object) -> KeyRecord:
    record = KeyRecord(key_id, user, ("jobs", "usage"), 1_790_000_000_000, None, None, f"digest of {key_id}")
    return replace(record, **changes)  # type: ignore[arg-type]  # each test names the fields it changes


async def server_now_ms(server: Redis) -> int:
    seconds, microseconds = await server.time()
    return int(seconds * 1000 + microseconds // 1000)


@asynccontextmanager
async def told(server: Redis) -> AsyncIterator[list[str]]:
    """The ids that were published within the block."""
    heard: list[str] = []
    async with subscribed(server, keys.KEYS_CHANGED) as pubsub:
        yield heard
        await server.publish(keys.KEYS_CHANGED, "end")
        while (message := await next_message(pubsub)) != b"end":
            heard.append(message.decode())


async def use_is_noted(users: Users, server: Redis, key_id: str) -> bool:
    """Whether using the key now writes anything."""
    await cast(Awaitable[int], server.hset(keys.key(key_id), "used", ""))
    await users.touch_key(key_id)
    key = await users.key(key_id)
    assert key is not None
    return key.last_used_ms is not None


async def everything(server: Redis) -> dict[bytes, bytes | None]:
    return {key: await server.dump(key) for key in await server.keys()}


# Users


async def test_a_created_user_is_read_back(users: Users, server: Redis) -> None:
    before_ms = await server_now_ms(server)

    created = await users.create("ann", "pro", {"tokens_per_day": 900_000, "max_concurrent": None})

    assert created is not None
    assert created == UserRecord(
        "ann", "pro", {"tokens_per_day": 900_000, "max_concurrent": None}, created.created_ms
    )
    assert before_ms <= created.created_ms <= await server_now_ms(server)
    assert await users.get("ann") == created


async def test_a_user_is_created_once(users: Users, server: Redis) -> None:
    first = await users.create("ann", "pro", {"weight": 8})
    before = await everything(server)

    assert await users.create("ann", "free", {"weight": 1}) is None
    assert await everything(server) == before
    assert await users.get("ann") == first


async def test_of_many_who_create_one_user_one_does(users: Users) -> None:
    tiers = [f"tier-{n}" for n in range(20)]

    outcomes = await asyncio.gather(*(users.create("ann", tier, {}) for tier in tiers))

    winners = [outcome for outcome in outcomes if outcome]
    assert len(winners) == 1
    assert await users.get("ann") == winners[0]


async def test_an_unknown_user_is_neither_read_nor_changed(users: Users, server: Redis) -> None:
    assert await users.get("nobody") is None
    assert await users.change("nobody", tier="pro", overrides={"weight": 2}, remove=["block_s"]) is None
    assert await server.dbsize() == 0


async def test_a_change_touches_only_what_it_names(users: Users) -> None:
    created = await users.create("ann", "free", {"weight": 2, "block_s": 5, "max_queued_jobs": 10})
    assert created is not None

    changed = await users.change("ann", overrides={"weight": 3, "tokens_per_day": None}, remove=["block_s"])

    expected = {"tokens_per_day": None, "max_queued_jobs": 10, "weight": 3}
    assert changed == UserRecord("ann", "free", expected, created.created_ms)
    assert await users.get("ann") == changed


async def test_a_changed_tier_keeps_the_overrides(users: Users) -> None:
    await users.create("ann", "free", {"weight": 2})

    changed = await users.change("ann", tier="enterprise")

    assert changed is not None
    assert (changed.tier, changed.overrides) == ("enterprise", {"weight": 2})


async def test_a_change_of_nothing_answers_the_user(users: Users) -> None:
    created = await users.create("ann", "free", {})

    assert await users.change("ann") == created


async def test_every_limit_of_a_tier_can_be_overridden_and_taken_away(users: Users) -> None:
    await users.create("ann", "free", dict.fromkeys(OVERRIDABLE, 7))
    record = await users.get("ann")
    assert record is not None
    assert record.overrides == dict.fromkeys(OVERRIDABLE, 7)

    changed = await users.change("ann", remove=OVERRIDABLE)
    assert changed is not None
    assert changed.overrides == {}


async def test_the_scripts_find_tier_and_overrides_under_the_names_of_a_published_tier(
    users: Users, server: Redis
) -> None:
    await users.create("ann", "pro", {"tokens_per_day": 900_000, "max_concurrent": None})

    stored = await cast(Awaitable[dict[bytes, bytes]], server.hgetall(keys.user("ann")))
    stored.pop(b"created")
    assert stored == {b"tier": b"pro", b"tokens_per_day": b"900000", b"max_concurrent": b""}


@pytest.mark.parametrize(
    "overrides",
    [{"tier": 1}, {"created": 1}, {"tokens": 1}, {"weight": 0}, {"weight": None}, {"max_concurrent": -1}],
)
async def test_an_override_that_no_tier_could_have_changes_nothing(
    users: Users, overrides: Mapping[str, int | None]
) -> None:
    created = await users.create("ann", "free", {})

    with pytest.raises(ValueError, match=next(iter(overrides))):
        await users.create("bob", "free", overrides)
    with pytest.raises(ValueError, match=next(iter(overrides))):
        await users.change("ann", overrides=overrides)
    assert await users.list(limit=10, after=None) == ([created], False)


async def test_only_limits_can_be_taken_away(users: Users) -> None:
    created = await users.create("ann", "free", {})

    with pytest.raises(ValueError, match="tier"):
        await users.change("ann", remove=["tier"])
    assert await users.get("ann") == created


@pytest.mark.parametrize("name", ["a", "A1._@-", "0" * 64, "users", "user@example.com"])
def test_names_of_users(name: str) -> None:
    assert is_user_name(name)


@pytest.mark.parametrize(
    "name", ["", ".a", "-", "ip:1.2.3.4", "a:block", "a b", "a\n", "é", "0" * 65, "*", "{a}"]
)
async def test_a_name_that_could_be_taken_for_something_else_is_refused(users: Users, name: str) -> None:
    assert not is_user_name(name)
    with pytest.raises(ValueError, match="no name for a user"):
        await users.create(name, "free", {})
    with pytest.raises(ValueError, match="no name for a user"):
        await users.put_key(a_key(user=name), tier="free")


async def test_users_are_listed_by_name_in_pages(users: Users) -> None:
    names = ["Zoe", "ann", "ann.b", "annb", "bob", "10"]
    for name in names:
        await users.create(name, "free", {})

    first, more = await users.list(limit=4, after=None)
    rest, no_more = await users.list(limit=4, after=first[-1].user)

    assert [record.user for record in first] == ["10", "Zoe", "ann", "ann.b"]
    assert [record.user for record in rest] == ["annb", "bob"]
    assert (more, no_more) == (True, False)


async def test_a_full_last_page_has_no_more_behind_it(users: Users) -> None:
    for name in ("ann", "bob"):
        await users.create(name, "free", {})

    page, more = await users.list(limit=2, after=None)

    assert (len(page), more) == (2, False)
    assert await users.list(limit=2, after="bob") == ([], False)
    assert [record.user for record in (await users.list(limit=1, after="al"))[0]] == ["ann"]


# Keys


async def test_a_key_is_read_back_as_it_was_put(users: Users) -> None:
    forever, ending = a_key("k1"), a_key("k2", scopes=(), expires_ms=LATER_MS, last_used_ms=1_790_000_000_001)

    await users.put_key(forever, tier="free")
    await users.put_key(ending)

    assert await users.key("k1") == forever
    assert await users.key("k2") == ending
    assert await users.key("k3") is None


async def test_the_first_key_of_a_new_user_registers_it_on_the_tier(users: Users) -> None:
    registered = await users.put_key(a_key(), tier="pro")

    assert (registered.user, registered.tier, registered.overrides) == ("ann", "pro", {})
    assert await users.get("ann") == registered
    assert await users.list(limit=10, after=None) == ([registered], False)


async def test_a_further_key_leaves_its_user_as_it_is(users: Users) -> None:
    created = await users.create("ann", "free", {"weight": 2})

    assert await users.put_key(a_key(), tier="enterprise") == created


async def test_a_key_for_an_unknown_user_needs_a_tier(users: Users, server: Redis) -> None:
    with pytest.raises(UnknownUserError, match="ann"):
        await users.put_key(a_key())

    assert await server.dbsize() == 0


async def test_a_key_put_twice_is_kept_once(users: Users) -> None:
    await users.put_key(a_key(), tier="free")
    await users.put_key(a_key(), tier="free")

    assert await users.keys(user=None, limit=10, after=None) == ([a_key()], False)


async def test_an_id_in_use_is_not_given_to_another_key(users: Users) -> None:
    await users.put_key(a_key(), tier="free")

    with pytest.raises(KeyTakenError, match="k1"):
        await users.put_key(a_key(user="eve", digest="another"), tier="free")

    assert await users.key("k1") == a_key()
    assert await users.get("eve") is None


async def test_a_scope_that_is_none_is_refused(users: Users) -> None:
    with pytest.raises(ValueError, match="root"):
        await users.put_key(a_key(scopes=("jobs", "root")), tier="free")

    assert await users.key("k1") is None


async def test_keys_are_listed_by_id_in_pages_of_one_user_or_of_all(users: Users) -> None:
    for key_id, user in [("b", "ann"), ("a", "bob"), ("C", "ann"), ("d", "ann"), ("e", "bob")]:
        await users.put_key(a_key(key_id, user), tier="free")

    async def page(user: str | None, limit: int, after: str | None) -> tuple[list[str], bool]:
        found, more = await users.keys(user=user, limit=limit, after=after)
        assert all(record.user == user for record in found if user)
        return [record.id for record in found], more

    assert await page(None, 3, None) == (["C", "a", "b"], True)
    assert await page(None, 3, "b") == (["d", "e"], False)
    assert await page("ann", 2, None) == (["C", "b"], True)
    assert await page("ann", 2, "b") == (["d"], False)
    assert await page("nobody", 2, None) == ([], False)


async def test_an_expired_key_stays_listed_until_it_is_revoked(users: Users) -> None:
    expired = a_key(expires_ms=1)
    await users.put_key(expired, tier="free")

    assert await users.keys(user="ann", limit=10, after=None) == ([expired], False)


async def test_a_revoked_key_is_gone_at_once_and_everywhere(users: Users, server: Redis) -> None:
    await users.put_key(a_key("k1"), tier="free")
    await users.put_key(a_key("k2"))

    assert await users.revoke_key("k1") is True

    assert await users.key("k1") is None
    assert await users.keys(user=None, limit=10, after=None) == ([a_key("k2")], False)
    assert await users.keys(user="ann", limit=10, after=None) == ([a_key("k2")], False)
    assert await users.revoke_key("k1") is False


async def test_after_the_last_key_only_the_user_is_left(users: Users, server: Redis) -> None:
    await users.put_key(a_key(), tier="free")
    await users.revoke_key("k1")

    assert sorted(await server.keys()) == [b"user:ann", b"users"]


async def test_a_key_can_be_given_an_end_but_never_a_later_one(users: Users) -> None:
    await users.put_key(a_key("k1"), tier="free")

    assert await users.expire_key("k1", LATER_MS) == a_key("k1", expires_ms=LATER_MS)
    assert await users.expire_key("k1", LATER_MS - 1) == a_key("k1", expires_ms=LATER_MS - 1)
    assert await users.expire_key("k1", LATER_MS + 1) == a_key("k1", expires_ms=LATER_MS - 1)
    assert await users.key("k1") == a_key("k1", expires_ms=LATER_MS - 1)


async def test_a_key_that_is_not_there_cannot_be_given_an_end(users: Users, server: Redis) -> None:
    assert await users.expire_key("k1", LATER_MS) is None
    assert await server.dbsize() == 0


async def test_making_ending_and_revoking_a_key_is_told_to_whoever_has_it_in_a_cache(
    users: Users, server: Redis
) -> None:
    async with told(server) as heard:
        await users.put_key(a_key("k1"), tier="free")
        await users.expire_key("k1", LATER_MS)
        await users.revoke_key("k1")
        await users.revoke_key("k1")
        await users.expire_key("k1", LATER_MS)
        await users.touch_key("k1")

    assert heard == ["k1", "k1", "k1"]


async def test_a_key_is_out_of_reach_before_its_revocation_is_told(users: Users, server: Redis) -> None:
    await users.put_key(a_key(), tier="free")
    async with subscribed(server, keys.KEYS_CHANGED) as pubsub:
        revoking = asyncio.create_task(users.revoke_key("k1"))

        assert await next_message(pubsub) == b"k1"
        assert await users.key("k1") is None
        assert await revoking


# When a key was used


async def test_the_use_of_a_key_is_noted_with_the_servers_time(server: Redis) -> None:
    users = Users(server, clock=Clock())
    await users.put_key(a_key(), tier="free")
    before_ms = await server_now_ms(server)

    await users.touch_key("k1")

    key = await users.key("k1")
    assert key is not None
    assert key.last_used_ms is not None
    assert before_ms <= key.last_used_ms <= await server_now_ms(server)


async def test_a_busy_key_is_noted_once_a_minute(server: Redis) -> None:
    clock = Clock()
    users = Users(server, clock=clock)
    await users.put_key(a_key(), tier="free")

    noted = [await use_is_noted(users, server, "k1") for _ in range(2)]
    for seconds in (59.9, 0.1, 0.0):
        clock.now_s += seconds
        noted.append(await use_is_noted(users, server, "k1"))

    assert noted == [True, False, False, True, False]


async def test_keys_and_processes_are_noted_apart(server: Redis) -> None:
    clock = Clock()
    one, other = Users(server, clock=clock), Users(server, clock=clock)
    await one.put_key(a_key("k1"), tier="free")
    await one.put_key(a_key("k2"))

    assert await use_is_noted(one, server, "k1")
    assert await use_is_noted(one, server, "k2")
    assert await use_is_noted(other, server, "k1")
    assert not await use_is_noted(one, server, "k2")


async def test_only_the_keys_of_the_last_minute_are_remembered_for_that(server: Redis) -> None:
    clock = Clock()
    users = Users(server, clock=clock)
    for n in range(200):
        await users.touch_key(f"k{n}")
        clock.now_s += 10

    assert len(users._touched) <= 7


async def test_a_revoked_key_does_not_come_back_by_its_use(users: Users, server: Redis) -> None:
    await users.put_key(a_key(), tier="free")
    await users.revoke_key("k1")

    await users.touch_key("k1")

    assert await users.key("k1") is None
    assert not await server.exists(keys.key("k1"))


async def test_a_note_that_failed_is_made_again_at_the_next_use(redis: Redis) -> None:
    users = Users(redis, clock=Clock())
    await users.put_key(a_key(), tier="free")
    await redis.rename(keys.key("k1"), "aside")
    await redis.set(keys.key("k1"), "of the wrong type")

    with pytest.raises(RedisError):
        await users.touch_key("k1")
    await redis.rename("aside", keys.key("k1"))
    await users.touch_key("k1")

    key = await users.key("k1")
    assert key is not None
    assert key.last_used_ms is not None


# A full Redis


async def test_a_key_can_be_revoked_while_redis_is_full(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as valkey:
        redis = connect(valkey.url, client_name="tests")
        users = Users(redis)
        await users.put_key(a_key(), tier="free")
        await redis.config_set("maxmemory", "1")

        with pytest.raises(OutOfMemoryError):
            await users.put_key(a_key("k2"))
        assert await users.revoke_key("k1") is True

        assert await users.keys(user=None, limit=10, after=None) == ([], False)
        await redis.aclose()
