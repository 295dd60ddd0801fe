"""Users and keys through the admin API: made, changed, rotated, revoked, each in force at once."""

from typing import Any, get_args

import pytest

from api.routes.keys import Scope
from jobs.users import SCOPES
from tests.api.harness import ADMIN, NOON_MS, Api, chat, problem

NOON_S = NOON_MS // 1000


async def post(api: Api, path: str, **body: Any) -> Any:
    return await api.http.post(f"/v1/admin/{path}", json=body, headers=ADMIN)


async def made(api: Api, **body: Any) -> dict[str, Any]:
    answer = await post(api, "keys", **body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["cache-control"] == "no-store"
    key: dict[str, Any] = answer.json()
    return key


def bearer(key: dict[str, Any]) -> dict[str, str]:
    return {"authorization": f"Bearer {key['key']}"}


async def status(api: Api, key: dict[str, Any]) -> int:
    return (await api.http.get("/v1/jobs", headers=bearer(key))).status_code


async def remaining(api: Api, key: dict[str, Any]) -> Any:
    return (await api.http.get("/v1/limits", headers=bearer(key))).json()["tokens"]["remaining"]


def test_the_scopes_are_those_there_are() -> None:
    assert get_args(Scope) == SCOPES


async def test_a_user_is_made_read_listed_and_changed(api: Api) -> None:
    answer = await post(api, "users", user="u1", tier="free", overrides={"tokens_per_day": 900_000})
    assert answer.status_code == 201
    user = answer.json()
    assert user.items() >= {"user": "u1", "tier": "free", "overrides": {"tokens_per_day": 900_000}}.items()
    assert answer.headers["location"] == "/v1/admin/users/u1"
    read = (await api.http.get("/v1/admin/users/u1", headers=ADMIN)).json()
    limits = read.pop("limits")
    assert read == user
    assert (limits["tier"], limits["tokens"]["limit"]) == ("free", 900_000)

    change = {"tier": "open", "overrides": {"max_concurrent": 7}}
    changed = await api.http.patch("/v1/admin/users/u1", json=change, headers=ADMIN)
    assert changed.status_code == 200
    assert changed.json()["tier"] == "open"
    assert changed.json()["overrides"] == {"tokens_per_day": 900_000, "max_concurrent": 7}


async def test_users_are_listed_by_name(api: Api) -> None:
    for name in ("cyd", "ann", "bob"):
        await post(api, "users", user=name, tier="free")
    first = (await api.http.get("/v1/admin/users?limit=2", headers=ADMIN)).json()
    assert [user["user"] for user in first["data"]] == ["ann", "bob"]
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, "ann", "bob")
    rest = (await api.http.get("/v1/admin/users?limit=2&after=bob", headers=ADMIN)).json()
    assert ([user["user"] for user in rest["data"]], rest["has_more"]) == (["cyd"], False)


async def test_an_override_is_in_force_at_once_and_can_be_taken_away(api: Api) -> None:
    key = await made(api, user="u1", tier="free")
    assert await remaining(api, key) == 50_000
    for change, left in (
        ({"overrides": {"tokens_per_day": 900_000}}, 900_000),
        ({"overrides": {"tokens_per_day": None}}, None),
        ({"remove_overrides": ["tokens_per_day"]}, 50_000),
        ({"tier": "open"}, None),
        ({}, None),
    ):
        answer = await api.http.patch("/v1/admin/users/u1", json=change, headers=ADMIN)
        assert answer.status_code == 200, answer.text
        assert await remaining(api, key) == left


async def test_a_user_who_exists_is_not_made_again(api: Api) -> None:
    await post(api, "users", user="u1", tier="free")
    answer = await post(api, "users", user="u1", tier="open")
    problem(answer, 409, "already_exists")
    assert answer.headers["x-should-retry"] == "false"
    assert (await api.http.get("/v1/admin/users/u1", headers=ADMIN)).json()["tier"] == "free"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"tier": "free"}, "/user"),
        ({"user": "u1"}, "/tier"),
        ({"user": "u1", "tier": "gold"}, "/tier"),
        ({"user": "", "tier": "free"}, "/user"),
        ({"user": "user:x", "tier": "free"}, "/user"),
        ({"user": "ip:127.0.0.1", "tier": "free"}, "/user"),
        ({"user": "a b", "tier": "free"}, "/user"),
        ({"user": "x" * 65, "tier": "free"}, "/user"),
        ({"user": "u1\n", "tier": "free"}, "/user"),
        ({"user": 5, "tier": "free"}, "/user"),
        ({"user": "u1", "tier": "free", "plan": "x"}, "/plan"),
        ({"user": "u1", "tier": "free", "overrides": {"tokens": 5}}, "/overrides/tokens"),
        ({"user": "u1", "tier": "free", "overrides": {"tokens_per_day": "5"}}, "/overrides/tokens_per_day"),
        ({"user": "u1", "tier": "free", "overrides": {"tokens_per_day": -1}}, "/overrides/tokens_per_day"),
        ({"user": "u1", "tier": "free", "overrides": {"weight": None}}, "/overrides/weight"),
    ],
)
async def test_a_wrong_user_is_refused(api: Api, body: dict[str, Any], pointer: str) -> None:
    told = problem(await post(api, "users", **body), 422, "invalid_request")
    assert told["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"tier": "gold"}, "/tier"),
        ({"remove_overrides": ["tokens"]}, "/remove_overrides/0"),
        ({"overrides": {"weight": 2}, "remove_overrides": ["weight"]}, "/remove_overrides/0"),
        ({"user": "u2"}, "/user"),
    ],
)
async def test_a_wrong_change_is_refused(api: Api, body: dict[str, Any], pointer: str) -> None:
    await post(api, "users", user="u1", tier="free")
    answer = await api.http.patch("/v1/admin/users/u1", json=body, headers=ADMIN)
    assert problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("name", ["nobody", "ip:127.0.0.1", "*", "a%0Ab", "x" * 100])
async def test_a_user_who_is_not_there_is_not_found(api: Api, name: str) -> None:
    problem(await api.http.get(f"/v1/admin/users/{name}", headers=ADMIN), 404, "not_found")
    problem(await api.http.patch(f"/v1/admin/users/{name}", json={}, headers=ADMIN), 404, "not_found")


async def test_a_key_works_at_once_and_is_shown_once(api: Api) -> None:
    key = await made(api, user="u1", tier="free")
    assert key.keys() >= {"id", "key", "user", "scopes", "created_at", "expires_at", "last_used_at"}
    assert (key["user"], key["scopes"], key["created_at"]) == ("u1", ["jobs", "usage", "webhooks"], NOON_S)
    assert key["expires_at"] is key["last_used_at"] is None
    assert await status(api, key) == 200
    listed = await api.http.get("/v1/admin/keys", headers=ADMIN)
    assert [one["id"] for one in listed.json()["data"]] == [key["id"]]
    secret = key["key"].split("_")[2]
    assert secret not in listed.text
    assert "digest" not in listed.text
    assert secret.encode() not in await api.redis.dump(f"key:{key['id']}")


async def test_keys_are_listed_of_one_user_or_all(api: Api) -> None:
    ids = {(await made(api, user=user, tier="free"))["id"]: user for user in ("u1", "u1", "u2")}
    listed = (await api.http.get("/v1/admin/keys?user=u1", headers=ADMIN)).json()["data"]
    assert {key["id"] for key in listed} == {key for key, user in ids.items() if user == "u1"}
    first = (await api.http.get("/v1/admin/keys?limit=2", headers=ADMIN)).json()
    rest = (await api.http.get(f"/v1/admin/keys?limit=2&after={first['last_id']}", headers=ADMIN)).json()
    assert [key["id"] for key in first["data"] + rest["data"]] == sorted(ids)
    assert (first["has_more"], rest["has_more"]) == (True, False)


async def test_a_key_for_a_new_user_needs_a_tier(api: Api) -> None:
    told = problem(await post(api, "keys", user="u1"), 422, "invalid_request")
    assert told["errors"][0]["pointer"] == "/user"
    await post(api, "users", user="u1", tier="free")
    await made(api, user="u1")
    await made(api, user="u1", tier="open")
    assert (await api.http.get("/v1/admin/users/u1", headers=ADMIN)).json()["tier"] == "free"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"user": "u:1", "tier": "free"}, "/user"),
        ({"user": "u1", "tier": "gold"}, "/tier"),
        ({"user": "u1", "tier": "free", "scopes": []}, "/scopes"),
        ({"user": "u1", "tier": "free", "scopes": ["jobs", "all"]}, "/scopes/1"),
        ({"user": "u1", "tier": "free", "scopes": "jobs"}, "/scopes"),
        ({"user": "u1", "tier": "free", "expires_at": NOON_S}, "/expires_at"),
        ({"user": "u1", "tier": "free", "expires_at": 1.5}, "/expires_at"),
        ({"user": "u1", "tier": "free", "expires_at": 10**30}, "/expires_at"),
    ],
)
async def test_a_wrong_key_is_refused(api: Api, body: dict[str, Any], pointer: str) -> None:
    told = problem(await post(api, "keys", **body), 422, "invalid_request")
    assert told["errors"][0]["pointer"] == pointer


async def test_a_revoked_key_is_refused_from_then_on(api: Api) -> None:
    key = await made(api, user="u1", tier="free")
    assert await status(api, key) == 200
    answer = await api.http.delete(f"/v1/admin/keys/{key['id']}", headers=ADMIN)
    assert (answer.status_code, answer.content) == (204, b"")
    assert await status(api, key) == 401
    problem(await api.http.delete(f"/v1/admin/keys/{key['id']}", headers=ADMIN), 404, "not_found")


async def test_a_rotated_key_works_through_the_overlap(api: Api) -> None:
    old = await made(api, user="u1", tier="free", scopes=["jobs"])
    assert await status(api, old) == 200
    answer = await post(api, f"keys/{old['id']}/rotate", overlap_s=60)
    assert answer.status_code == 201
    new = answer.json()
    assert (new["user"], new["scopes"], new["expires_at"]) == ("u1", ["jobs"], None)
    assert new["id"] != old["id"]
    assert (await status(api, old), await status(api, new)) == (200, 200)
    api.clock.advance(60)
    assert (await status(api, old), await status(api, new)) == (401, 200)


async def test_without_an_overlap_the_old_key_ends_at_once(api: Api) -> None:
    old = await made(api, user="u1", tier="free")
    assert await status(api, old) == 200
    assert (await post(api, f"keys/{old['id']}/rotate")).status_code == 201
    assert await status(api, old) == 401
    problem(await post(api, f"keys/{old['id']}/rotate"), 404, "not_found")


async def test_a_body_in_which_nothing_is_required_may_be_left_out(api: Api) -> None:
    key = await made(api, user="u1", tier="free")
    for method, path, status_code in (
        ("POST", f"keys/{key['id']}/rotate", 201),
        ("PATCH", "users/u1", 200),
        ("POST", "users", 422),
        ("POST", "keys", 422),
    ):
        answer = await api.http.request(method, f"/v1/admin/{path}", headers=ADMIN)
        assert answer.status_code == status_code, answer.text


async def test_a_rotation_keeps_the_end_of_the_key_unless_told(api: Api) -> None:
    old = await made(api, user="u1", tier="free", expires_at=NOON_S + 600)
    kept = (await post(api, f"keys/{old['id']}/rotate", overlap_s=60)).json()
    assert kept["expires_at"] == NOON_S + 600
    longer = (await post(api, f"keys/{kept['id']}/rotate", overlap_s=60, expires_at=NOON_S + 6_000)).json()
    assert longer["expires_at"] == NOON_S + 6_000
    endless = (await post(api, f"keys/{kept['id']}/rotate", overlap_s=60, expires_at=None)).json()
    assert endless["expires_at"] is None


@pytest.mark.parametrize("overlap", [-1, 2_592_001, "60", 1.5, None])
async def test_a_wrong_overlap_is_refused(api: Api, overlap: object) -> None:
    key = await made(api, user="u1", tier="free")
    told = problem(await post(api, f"keys/{key['id']}/rotate", overlap_s=overlap), 422, "invalid_request")
    assert told["errors"][0]["pointer"] == "/overlap_s"
    assert await status(api, key) == 200


@pytest.mark.parametrize("key_id", ["nobody", "*", "AAAAAAAAAAAA", "key%3Ax"])
async def test_a_key_that_is_not_there_is_not_found(api: Api, key_id: str) -> None:
    problem(await post(api, f"keys/{key_id}/rotate", overlap_s=60), 404, "not_found")
    problem(await api.http.delete(f"/v1/admin/keys/{key_id}", headers=ADMIN), 404, "not_found")


async def test_nothing_of_this_is_for_others(api: Api) -> None:
    ann = await api.user("ann", scopes=("jobs", "usage", "webhooks", "metrics"))
    for method, path in (
        ("GET", "users"),
        ("POST", "users"),
        ("GET", "users/ann"),
        ("PATCH", "users/ann"),
        ("GET", "keys"),
        ("POST", "keys"),
        ("POST", "keys/AAAAAAAAAAAA/rotate"),
        ("DELETE", "keys/AAAAAAAAAAAA"),
    ):
        problem(await api.http.request(method, f"/v1/admin/{path}", headers=ann), 403, "forbidden")
        problem(await api.http.request(method, f"/v1/admin/{path}"), 401, "invalid_key")


async def test_a_user_keeps_his_jobs_through_a_rotation(api: Api) -> None:
    old = await made(api, user="u1", tier="free")
    job_id = await api.submitted(bearer(old), body=chat())
    new = (await post(api, f"keys/{old['id']}/rotate")).json()
    assert (await api.http.get(f"/v1/jobs/{job_id}", headers=bearer(new))).status_code == 200
