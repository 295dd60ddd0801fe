"""Who may ask: keys, scopes, the admin key, and callers without a key."""

import asyncio
import zlib
from typing import TYPE_CHECKING, cast

import pytest

from api.auth import Authenticator
from jobs.secrets import ALPHABET, digest, new_key
from jobs.users import KeyRecord, Users
from tests.api.harness import ADMIN, ADMIN_KEY, NOON_MS, Api, chat, client, config, problem, running_api
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from redis.asyncio import Redis

ANONYMOUS = config(anonymous={"tier": "free", "tokens_per_day": 1_000_000})


async def refused(api: Api, headers: dict[str, str] | list[tuple[str, str]]) -> None:
    answer = await api.http.get("/v1/jobs", headers=headers)
    problem(answer, 401, "invalid_key")
    assert answer.headers["www-authenticate"] == "Bearer"


def with_crc(head: str) -> str:
    """A key with the check digits that belong to it."""
    value, digits = zlib.crc32(head.encode()), ""
    for _ in range(6):
        value, digit = divmod(value, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return f"{head}_{digits}"


async def test_a_request_without_a_key_is_refused(api: Api) -> None:
    await refused(api, {})


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "bearer nonsense",
        "Bearer pk_",
        "Bearer pk_*_*_*",
        "Bearer key:*",
        "Bearer " + "x" * 10_000,
        "Bearer pk_AAAAAAAAAAAA_" + "B" * 43 + "_000000",
        "Bearer " + ADMIN_KEY + "x",
        ADMIN_KEY,
    ],
)
async def test_a_wrong_key_is_refused(api: Api, value: str) -> None:
    await refused(api, {"authorization": value})


async def test_a_key_that_was_never_made_is_refused(api: Api) -> None:
    await refused(api, {"authorization": f"Bearer {new_key().text}"})


async def test_a_header_of_bytes_is_refused(api: Api) -> None:
    answer = await api.http.get("/v1/jobs", headers=[(b"authorization", b"Bearer \xff\xfe\xed")])
    problem(answer, 401, "invalid_key")


async def test_two_keys_are_none(api: Api) -> None:
    ann = (await api.user("ann"))["authorization"]
    await refused(api, [("authorization", ann), ("authorization", ann)])


async def test_a_key_with_another_secret_is_refused(api: Api) -> None:
    mine, other = await api.key("ann"), new_key().text
    await refused(
        api, {"authorization": f"Bearer {with_crc('pk_' + mine.split('_')[1] + '_' + other.split('_')[2])}"}
    )


async def test_a_mistyped_key_costs_redis_nothing(api: Api) -> None:
    key = await api.key("ann")
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    await api.redis.config_resetstat()
    await refused(api, {"authorization": f"Bearer {wrong}"})
    assert "cmdstat_hgetall" not in await api.redis.info("commandstats")


async def test_the_scheme_is_written_as_one_likes(api: Api) -> None:
    key = await api.key("ann")
    assert (await api.http.get("/v1/jobs", headers={"authorization": f"BEARER  {key}"})).status_code == 200


async def test_a_key_ends_when_it_should(api: Api) -> None:
    ann = {"authorization": f"Bearer {await api.key('ann', expires_ms=NOON_MS + 1_000)}"}
    assert (await api.http.get("/v1/jobs", headers=ann)).status_code == 200
    api.clock.advance(0.999)
    assert (await api.http.get("/v1/jobs", headers=ann)).status_code == 200
    api.clock.advance(0.001)
    await refused(api, ann)


async def test_a_key_is_looked_up_once_and_forgotten_at_once(api: Api) -> None:
    ann = await api.user("ann")
    await api.http.get("/v1/jobs", headers=ann)
    await api.redis.config_resetstat()
    for _ in range(10):
        assert (await api.http.get("/v1/jobs", headers=ann)).status_code == 200
    assert "cmdstat_hgetall" not in await api.redis.info("commandstats")
    key_id = ann["authorization"].split("_")[1]
    known = api.app.service.authenticator.generation
    assert await api.app.service.users.revoke_key(key_id)
    await eventually(lambda: api.app.service.authenticator.generation > known)
    await refused(api, ann)


async def test_a_key_that_was_proved_proves_no_other(api: Api) -> None:
    key = await api.key("ann")
    assert (await api.http.get("/v1/jobs", headers={"authorization": f"Bearer {key}"})).status_code == 200
    _, key_id, _, crc = key.split("_")
    other = with_crc(f"pk_{key_id}_{new_key().text.split('_')[2]}")
    for wrong in (
        f"Bearer {other}",
        f"Bearer {key[:-1]}",
        f"Bearer {key}x",
        f"Basic {key}",
        f"pk_{key_id}_{crc}",
    ):
        await refused(api, {"authorization": wrong})
    await refused(api, [("authorization", f"Bearer {key}")] * 2)
    assert (await api.http.get("/v1/jobs", headers={"authorization": f"Bearer {key}"})).status_code == 200


async def test_a_key_is_looked_up_again_after_a_while(api: Api) -> None:
    ann = await api.user("ann")
    await api.http.get("/v1/jobs", headers=ann)
    # As if the message of its end had been lost.
    await api.redis.delete(f"key:{ann['authorization'].split('_')[1]}")
    assert (await api.http.get("/v1/jobs", headers=ann)).status_code == 200
    api.clock.advance(5)
    await refused(api, ann)


async def test_while_changes_cannot_be_heard_every_key_is_looked_up(api: Api) -> None:
    ann = await api.user("ann")
    await api.http.get("/v1/jobs", headers=ann)
    api.app.service.authenticator.hearing(False)
    assert (await api.http.get("/v1/jobs", headers=ann)).status_code == 200
    await api.redis.delete(f"key:{ann['authorization'].split('_')[1]}")
    await refused(api, ann)


async def test_the_use_of_a_key_is_noted(api: Api) -> None:
    ann = await api.user("ann")
    await api.http.get("/v1/jobs", headers=ann)
    await api.app.service.authenticator.note_uses()
    record = await api.app.service.users.key(ann["authorization"].split("_")[1])
    assert record is not None
    assert record.last_used_ms is not None


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [
        (("jobs",), {"/v1/jobs", "/v1/limits"}),
        (("usage",), {"/v1/usage", "/v1/limits"}),
        (("metrics", "webhooks"), set()),
        (("admin",), {"/v1/jobs", "/v1/limits", "/v1/usage", "/v1/admin/users", "/v1/admin/keys"}),
    ],
)
async def test_a_key_may_do_what_its_scopes_say(api: Api, scopes: tuple[str, ...], allowed: set[str]) -> None:
    ann = await api.user("ann", scopes=scopes)
    for path in ("/v1/jobs", "/v1/limits", "/v1/usage", "/v1/admin/users", "/v1/admin/keys"):
        answer = await api.http.get(path, headers=ann)
        if path in allowed:
            assert answer.status_code == 200
        else:
            problem(answer, 403, "forbidden")


async def test_submitting_takes_the_scope_jobs(api: Api) -> None:
    problem(await api.submit(await api.user("ann", scopes=("usage",))), 403, "forbidden")


async def test_the_admin_key_may_do_everything(api: Api) -> None:
    for path in ("/v1/jobs", "/v1/limits", "/v1/usage", "/v1/admin/users", "/v1/admin/keys"):
        assert (await api.http.get(path, headers=ADMIN)).status_code == 200


async def test_without_a_key_one_is_ones_address(redis: "Redis") -> None:
    async with running_api(redis, ANONYMOUS) as api, client(api.app, "2001:db8:1:2::5") as other:
        answer = await api.http.post("/v1/jobs", json={"body": chat()})
        assert answer.status_code == 202
        assert (await api.http.get("/v1/limits")).json()["user"] == "ip:127.0.0.1"
        assert (await api.http.get("/v1/limits")).json()["tier"] == "free"
        assert (await other.get("/v1/limits")).json()["user"] == "ip:2001:db8:1:2::/64"
        problem(await other.get(f"/v1/jobs/{answer.json()['id']}"), 404, "not_found")
        for path in ("/v1/admin/users", "/v1/webhook_endpoints", "/v1/scaling", "/metrics"):
            locked = await api.http.get(path)
            problem(locked, 401, "invalid_key")
            assert locked.headers["www-authenticate"] == "Bearer"


async def test_a_bad_key_is_not_nobodys(redis: "Redis") -> None:
    async with running_api(redis, ANONYMOUS) as api:
        await refused(api, {"authorization": "Bearer nonsense"})


async def test_a_header_moves_nobody_to_another_address(redis: "Redis") -> None:
    async with running_api(redis, ANONYMOUS) as api:
        forged = {"x-forwarded-for": "198.51.100.1", "forwarded": "for=198.51.100.1"}
        assert (await api.http.get("/v1/limits", headers=forged)).json()["user"] == "ip:127.0.0.1"


async def test_behind_a_trusted_proxy_the_callers_address_counts(redis: "Redis") -> None:
    behind = config(anonymous={"tier": "free"}, trusted_proxies=["127.0.0.0/8"])
    async with running_api(redis, behind) as api:
        told = {"x-forwarded-for": "203.0.113.9, 198.51.100.1"}
        assert (await api.http.get("/v1/limits", headers=told)).json()["user"] == "ip:198.51.100.1"


async def test_all_without_a_key_share_a_budget_besides(redis: "Redis") -> None:
    tight = config(anonymous={"tier": "free", "tokens_per_day": 5_000})
    async with running_api(redis, tight) as api, client(api.app, "198.51.100.1") as other:
        body = {"body": chat(max_tokens=4_000)}
        assert (await api.http.post("/v1/jobs", json=body)).status_code == 202
        told = problem(await other.post("/v1/jobs", json=body), 429, "budget_exhausted")
        assert "all callers without a key" in told["detail"]


class SlowUsers:
    """Answers every question for a key with the same record, when told to."""

    def __init__(self, record: KeyRecord) -> None:
        self.asked = 0
        self.answer = asyncio.Event()
        self._record = record

    async def key(self, _key_id: str) -> KeyRecord | None:
        self.asked += 1
        await self.answer.wait()
        return self._record


async def _confirm() -> None:
    """Redis is the one it was."""


@pytest.mark.parametrize(("heard", "told", "asked"), [(True, False, 1), (True, True, 2), (False, False, 2)])
async def test_one_asks_for_all_that_come_with_a_key_unless_it_may_have_changed(
    heard: bool, told: bool, asked: int
) -> None:
    key = new_key()
    record = KeyRecord(key.id, "ann", ("jobs",), 0, None, None, digest("pepper", key.text))
    users = SlowUsers(record)
    authenticator = Authenticator(
        cast(Users, users),
        pepper="pepper",
        admin_key=None,
        clock=lambda: 0.0,
        now_ms=lambda: 0,
        confirm=_confirm,
    )
    authenticator.hearing(heard)
    scope = {"headers": [(b"authorization", b"Bearer " + key.text.encode())]}

    first = asyncio.create_task(authenticator.authenticate(scope, config()))
    await asyncio.sleep(0)
    gone = asyncio.create_task(authenticator.authenticate(scope, config()))
    await asyncio.sleep(0)
    gone.cancel()
    if told:
        authenticator.changed(key.id)
    before = users.asked
    second = asyncio.create_task(authenticator.authenticate(scope, config()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    users.answer.set()

    assert (await first).user == (await second).user == "ann"
    assert users.asked - before + 1 == asked
