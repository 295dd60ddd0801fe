"""Webhooks over HTTP: endpoints and their secrets, deliveries, a job's own URL; each user sees his own alone."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest

from jobs.webhooks.outbox import Outbox, Outcome
from jobs.webhooks.record import Attempt, ClaimedDelivery
from jobs.webhooks.signing import SecretBox
from tests.api.harness import ADMIN, NOON_MS, SECRET, Api, config, problem, running_api
from tests.jobs.names import PUBLIC, SILENT, Names

if TYPE_CHECKING:
    from redis.asyncio import Redis

HOST = "hooks.example.com"
URL = f"https://{HOST}/in"
INWARD = "inward.example.com"
UNHEARD = "unheard.example.com"
SCOPES = ("jobs", "webhooks")
UNKNOWN = f"we_{'0' * 26}"


@pytest.fixture
async def hooks(redis: "Redis") -> AsyncIterator[Api]:
    """An API whose names lead where the tests say."""
    names = Names({HOST: [PUBLIC], INWARD: [("10.0.0.7",)], UNHEARD: [SILENT]})
    async with running_api(redis, resolver=names) as api:
        yield api


class Sender:
    """A worker's sending half: takes what there is and settles it so."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._outbox = Outbox(api.redis, "s1", lease_ms=60_000, clock=api.clock)
        self._box = SecretBox(SECRET)
        self._sequence = 0

    async def take(self) -> list[ClaimedDelivery]:
        await self._outbox.start()
        self._sequence += 1
        return list((await self._outbox.claim(self._sequence, 50)).deliveries)

    async def send(self, outcome: Outcome = "delivered", code: int | None = 204) -> list[ClaimedDelivery]:
        taken = await self.take()
        for one in taken:
            attempt = Attempt(self._api.clock.now_ms, 12, code, None if code == 204 else "no", "told")
            assert await self._outbox.settle(one, outcome, attempt, spread=1.0)
        return taken

    async def sent(self, outcome: Outcome, code: int | None) -> list[ClaimedDelivery]:
        """As soon as there is something to send."""
        async with asyncio.timeout(20):
            while True:
                if sent := await self.send(outcome, code):
                    return sent
                await asyncio.sleep(0.01)

    def secret(self, one: ClaimedDelivery, user: str = "ann") -> str:
        return self._box.open(one.secret, user)


async def made(api: Api, headers: Mapping[str, str], **fields: Any) -> dict[str, Any]:
    """A new endpoint."""
    answer = await api.http.post("/v1/webhook_endpoints", json={"url": URL, **fields}, headers=headers)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/webhook_endpoints/{told['id']}"
    return told


async def cancelled(api: Api, headers: Mapping[str, str], **fields: Any) -> str:
    """A job that has ended."""
    job_id = await api.submitted(headers, **fields)
    assert (await api.http.post(f"/v1/jobs/{job_id}/cancel", headers=headers)).status_code == 200
    return job_id


async def deliveries(api: Api, headers: Mapping[str, str], query: str = "") -> list[dict[str, Any]]:
    answer = await api.http.get(f"/v1/deliveries{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_an_endpoint_is_made_read_changed_listed_and_deleted(hooks: Api) -> None:
    ann = await hooks.user("ann", scopes=SCOPES)
    first = await made(hooks, ann, event_types=["job.failed", "job.failed"], description="alerts")
    assert first["signing_secret"].startswith("whsec_")
    assert first["signing_secret_hint"].endswith(first["signing_secret"][-4:])
    assert (first["event_types"], first["name"], first["description"]) == (["job.failed"], "alerts", "alerts")
    assert (first["status"], first["created_at"]) == ("enabled", NOON_MS // 1000)
    second = await made(hooks, ann)
    assert second["event_types"] == ["job.succeeded", "job.failed", "job.cancelled", "job.expired"]

    path = f"/v1/webhook_endpoints/{first['id']}"
    del first["signing_secret"]
    assert (await hooks.http.get(path, headers=ann)).json() == first
    hooks.clock.advance(5)
    change = {"url": f"{URL}2", "event_types": ["job.expired"], "name": "late", "status": "disabled"}
    changed = (await hooks.http.post(path, json=change, headers=ann)).json()
    assert changed == first | change | {
        "description": "late", "disabled_because": "by its user", "updated_at": NOON_MS // 1000 + 5,
    }  # fmt: skip
    listed = (await hooks.http.get("/v1/webhook_endpoints?limit=1", headers=ann)).json()
    assert ([one["id"] for one in listed["data"]], listed["has_more"]) == ([second["id"]], True)
    rest = await hooks.http.get(f"/v1/webhook_endpoints?after={second['id']}", headers=ann)
    assert rest.json()["data"] == [changed]
    gone = await hooks.http.delete(path, headers=ann)
    assert gone.json() == {"id": first["id"], "object": "webhook_endpoint.deleted", "deleted": True}
    problem(await hooks.http.get(path, headers=ann), 404, "not_found")
    problem(await hooks.http.delete(path, headers=ann), 404, "not_found")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"url": None}, "/url"),
        ({"url": 1}, "/url"),
        ({"event_types": []}, "/event_types"),
        ({"event_types": ["job.started"]}, "/event_types/0"),
        ({"name": "x" * 257}, "/name"),
        ({"name": "a", "description": "b"}, ""),
        ({"secret": "mine"}, "/secret"),
    ],
)
async def test_what_is_wrong_with_an_endpoint_is_pointed_at(
    hooks: Api, fields: dict[str, Any], pointer: str
) -> None:
    ann = await hooks.user("ann", scopes=SCOPES)
    answer = await hooks.http.post("/v1/webhook_endpoints", json={"url": URL, **fields}, headers=ann)
    told = problem(answer, 422, "invalid_request")
    assert [one["pointer"] for one in told["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://hooks.example.com/", "scheme"),
        ("https://169.254.169.254/latest/meta-data", "cloud_metadata"),
        ("https://0x7f.1/", "address_spelling"),
        ("https://localhost/", "local_name"),
        (f"https://{INWARD}/", "private"),
        ("https://hooks.example.com:22/", "port"),
    ],
)
async def test_where_webhooks_may_not_go_is_refused_with_the_rule(hooks: Api, url: str, rule: str) -> None:
    ann = await hooks.user("ann", scopes=SCOPES)
    existing = await made(hooks, ann)
    for path, body, pointer in (
        ("/v1/webhook_endpoints", {"url": url}, "/url"),
        (f"/v1/webhook_endpoints/{existing['id']}", {"url": url}, "/url"),
        (
            "/v1/jobs",
            {"body": {"model": "m", "messages": [{"role": "user"}]}, "webhook_url": url},
            "/webhook_url",
        ),
    ):
        told = problem(await hooks.http.post(path, json=body, headers=ann), 422, "webhook_url_forbidden")
        assert told["rule"].startswith(rule), told
        assert told["errors"][0]["pointer"] == pointer
        assert "10.0.0.7" not in json.dumps(told)
    assert (await hooks.http.get("/v1/jobs", headers=ann)).json()["data"] == []


async def test_a_name_that_nobody_answers_for_is_left_to_the_delivery(hooks: Api) -> None:
    ann = await hooks.user("ann", scopes=SCOPES)
    await hooks.submitted(ann, webhook_url=f"https://{UNHEARD}/")


async def test_a_new_configuration_opens_what_it_allows(redis: "Redis") -> None:
    settings = config(webhooks={"allow": ["10.0.0.0/8"]})
    async with running_api(redis, settings, resolver=Names({INWARD: [("10.0.0.7",)]})) as api:
        ann = await api.user("ann", scopes=SCOPES)
        await api.submitted(ann, webhook_url=f"https://{INWARD}/")
        api.app.service.config = config()
        refused = await api.submit(ann, webhook_url=f"https://{INWARD}/")
        problem(refused, 422, "webhook_url_forbidden")


async def test_callers_without_a_key_have_no_webhooks(redis: "Redis") -> None:
    tiers: dict[str, Any] = {"guest": {}, "open": {}}
    async with running_api(redis, config(tiers=tiers, anonymous={"tier": "guest"})) as api:
        refused = await api.submit({}, webhook_url=URL)
        assert problem(refused, 422, "webhook_url_forbidden")["rule"] == "anonymous"
        problem(await api.http.get("/v1/webhook_endpoints", headers={}), 401, "invalid_key")


async def test_a_jobs_webhook_is_told_as_it_stands(hooks: Api) -> None:
    ann = await hooks.user("ann", scopes=SCOPES)
    sender = Sender(hooks)
    job_id = await hooks.submitted(ann, webhook_url=URL)
    path = f"/v1/jobs/{job_id}"

    async def told() -> tuple[dict[str, Any], str]:
        answer = await hooks.http.get(path, headers=ann)
        webhook: dict[str, Any] = answer.json()["webhook"]
        return webhook, answer.headers["etag"]

    none = {"attempts": 0, "last_status_code": None, "next_attempt_at": None}
    assert (await told())[0] == {"status": "pending", **none}
    await hooks.http.post(f"{path}/cancel", headers=ann)
    waiting, first = await told()
    assert waiting == {"status": "pending", **none, "next_attempt_at": NOON_MS // 1000}
    await sender.send("failed", 500)
    failed, second = await told()
    assert failed == {
        "status": "pending", "attempts": 1, "last_status_code": 500, "next_attempt_at": NOON_MS // 1000 + 5,
    }  # fmt: skip
    hooks.clock.advance(5)
    await sender.send()
    delivered, third = await told()
    assert delivered == {
        "status": "delivered",
        "attempts": 2,
        "last_status_code": 204,
        "next_attempt_at": None,
    }
    assert len({first, second, third}) == 3
    same = await hooks.http.get(path, headers={**ann, "if-none-match": third})
    assert same.status_code == 304
    assert (await hooks.http.get("/v1/jobs", headers=ann)).json()["data"][0]["webhook"] == delivered


async def test_deliveries_are_listed_read_and_sent_again(hooks: Api) -> None:
    ann = await hooks.user("ann", scopes=SCOPES)
    endpoint = await made(hooks, ann)
    sender = Sender(hooks)
    first, second = await cancelled(hooks, ann), await cancelled(hooks, ann)
    [held] = await deliveries(hooks, ann, f"?job_id={first}")
    assert (held["job_id"], held["endpoint_id"], held["status"]) == (first, endpoint["id"], "pending")
    assert (held["event_type"], held["event_id"]) == ("job.cancelled", f"evt_{first[4:]}")
    await sender.send("failed", 503)
    told = (await hooks.http.get(f"/v1/deliveries/{held['id']}", headers=ann)).json()
    assert told["attempt_log"] == [
        {
            "at_ms": NOON_MS, "duration_ms": 12, "status_code": 503, "error": "no", "answer": "told",
            "charged": True,
        }
    ]  # fmt: skip
    assert (told["attempts"], told["next_attempt_at"]) == (1, NOON_MS // 1000 + 5)
    again = await hooks.http.post(f"/v1/deliveries/{held['id']}/redeliver", headers=ann)
    assert (again.status_code, again.json()["next_attempt_at"]) == (202, NOON_MS // 1000)
    await sender.send()
    assert [one["job_id"] for one in await deliveries(hooks, ann, "?status=delivered")] == [first]
    assert [one["job_id"] for one in await deliveries(hooks, ann, "?status=pending")] == [second]
    again = await hooks.http.post(f"/v1/deliveries/{held['id']}/redeliver", headers=ann)
    assert again.json()["status"] == "pending"
    await hooks.http.delete(f"/v1/webhook_endpoints/{endpoint['id']}", headers=ann)
    gone = await hooks.http.post(f"/v1/deliveries/{held['id']}/redeliver", headers=ann)
    assert problem(gone, 409, "endpoint_unusable")
    assert gone.headers["x-should-retry"] == "false"
    problem(await hooks.http.get("/v1/deliveries?status=lost", headers=ann), 422, "invalid_request")
    problem(await hooks.http.get("/v1/deliveries?after=dlv_1", headers=ann), 422, "invalid_request")


async def test_what_failed_since_a_time_is_recovered(hooks: Api) -> None:
    ann = await hooks.user("ann", scopes=SCOPES)
    endpoint = await made(hooks, ann)
    await cancelled(hooks, ann)
    hooks.clock.advance(5 * 86_400)
    await hooks.app.service.store.sweep()
    assert [one["status"] for one in await deliveries(hooks, ann)] == ["failed"]
    path = f"/v1/webhook_endpoints/{endpoint['id']}/recover"
    later = await hooks.http.post(path, json={"since": NOON_MS // 1000 + 1}, headers=ann)
    assert (later.status_code, later.json()["deliveries"]) == (202, 0)
    assert (await hooks.http.post(path, json={"since": NOON_MS // 1000}, headers=ann)).json()[
        "deliveries"
    ] == 1
    assert [one["status"] for one in await deliveries(hooks, ann)] == ["pending"]
    problem(await hooks.http.post(path, headers=ann), 422, "invalid_request")


async def test_secrets_are_shown_once_and_rotate(hooks: Api) -> None:
    ann = await hooks.user("ann", scopes=SCOPES)
    sender = Sender(hooks)
    endpoint = await made(hooks, ann)
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    rotated = await hooks.http.post(
        f"{path}/rotate_secret", json={"keep_old_secret_active_for_24_hours": True}, headers=ann
    )
    assert rotated.json()["signing_secret"] != endpoint["signing_secret"]
    await cancelled(hooks, ann)
    [held] = await sender.take()
    assert sender.secret(held) == rotated.json()["signing_secret"]
    assert held.old_secret
    default = await hooks.http.post("/v1/webhook_endpoints/default/rotate_secret", headers=ann)
    assert (default.status_code, default.json()["object"]) == (200, "webhook_secret")
    await cancelled(hooks, ann, webhook_url=URL)
    [own] = await sender.take()
    assert sender.secret(own) == default.json()["signing_secret"]
    shown = (await hooks.http.get(path, headers=ann)).text + (
        await hooks.http.get("/v1/webhook_endpoints", headers=ann)
    ).text
    assert "signing_secret_hint" in shown
    assert 'signing_secret"' not in shown


async def test_a_test_waits_for_what_its_one_attempt_comes_to(hooks: Api) -> None:
    ann = await hooks.user("ann", scopes=SCOPES)
    endpoint = await made(hooks, ann)
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    sender = Sender(hooks)
    answers: list[tuple[Outcome, int | None, bool]] = [("failed", 500, True), ("failed", None, False)]
    for outcome, code, success in answers:
        asking = asyncio.create_task(hooks.http.post(f"{path}/test", headers=ann))
        sent = await sender.sent(outcome, code)
        told = (await asking).json()
        assert (told["object"], told["event_type"]) == ("webhook_endpoint.test", "webhook_endpoint.test")
        assert (told["success"], told["status_code"]) == (success, code)
        assert json.loads(sent[0].body)["data"]["webhook_endpoint_id"] == endpoint["id"]
        assert (await deliveries(hooks, ann))[0]["status"] == "failed"
        hooks.clock.advance(1)
    await hooks.http.post(path, json={"status": "disabled"}, headers=ann)
    problem(await hooks.http.post(f"{path}/test", headers=ann), 409, "endpoint_unusable")


async def test_others_endpoints_and_deliveries_are_as_unknown_as_those_that_never_were(hooks: Api) -> None:
    ann = await hooks.user("ann", scopes=SCOPES)
    ben = await hooks.user("ben", scopes=SCOPES)
    anns = (await made(hooks, ann))["id"]
    await cancelled(hooks, ann)
    [delivery] = await deliveries(hooks, ann)

    async def answers(endpoint: str, delivery_id: str) -> list[httpx2.Response]:
        base = f"/v1/webhook_endpoints/{endpoint}"
        return [
            await hooks.http.get(base, headers=ben),
            await hooks.http.post(base, json={"name": "mine"}, headers=ben),
            await hooks.http.post(f"{base}/rotate_secret", headers=ben),
            await hooks.http.post(f"{base}/test", headers=ben),
            await hooks.http.post(f"{base}/recover", json={"since": 0}, headers=ben),
            await hooks.http.delete(base, headers=ben),
            await hooks.http.get(f"/v1/deliveries/{delivery_id}", headers=ben),
            await hooks.http.post(f"/v1/deliveries/{delivery_id}/redeliver", headers=ben),
        ]

    others = await answers(anns, delivery["id"])
    never = await answers(UNKNOWN, f"dlv_{'0' * 26}_0")
    nonsense = await answers("we_..:*", "dlv_{}")
    for one, two, three in zip(others, never, nonsense, strict=True):
        problem(one, 404, "not_found")
        assert one.content == two.content == three.content
    assert await deliveries(hooks, ben) == []
    assert (await hooks.http.get("/v1/webhook_endpoints", headers=ben)).json()["data"] == []
    assert (await hooks.http.get(f"/v1/webhook_endpoints/{anns}", headers=ann)).json()["name"] == ""


async def test_a_key_needs_the_scope_webhooks(hooks: Api) -> None:
    ann = await hooks.user("ann", scopes=("jobs", "usage"))
    for method, path in (
        ("GET", "/v1/webhook_endpoints"),
        ("POST", "/v1/webhook_endpoints"),
        ("GET", f"/v1/webhook_endpoints/{UNKNOWN}"),
        ("POST", "/v1/webhook_endpoints/default/rotate_secret"),
        ("GET", "/v1/webhook_event_types"),
        ("GET", "/v1/deliveries"),
        ("GET", f"/v1/deliveries/dlv_{'0' * 26}_0"),
    ):
        problem(await hooks.http.request(method, path, headers=ann), 403, "forbidden")
    assert (await hooks.http.get("/v1/deliveries", headers=ADMIN)).status_code == 200


async def test_the_21st_endpoint_is_refused(hooks: Api) -> None:
    ann = await hooks.user("ann", scopes=SCOPES)
    for _ in range(20):
        await made(hooks, ann)
    answer = await hooks.http.post("/v1/webhook_endpoints", json={"url": URL}, headers=ann)
    assert "20" in problem(answer, 409, "endpoint_unusable")["detail"]


async def test_openais_client_manages_our_endpoints(hooks: Api) -> None:
    key = await hooks.key("ann", scopes=SCOPES)
    transport = hooks.http._transport
    async with openai.AsyncOpenAI(
        api_key=key,
        base_url="http://penstock.test/v1",
        http_client=openai.DefaultAsyncHttpxClient(transport=transport),
        max_retries=0,
    ) as client:
        kinds: Any = ["job.succeeded"]
        endpoint = await client.webhooks.create(name="batch", url=URL, event_types=kinds)
        assert endpoint.signing_secret.startswith("whsec_")
        assert (await client.webhooks.retrieve(endpoint.id)).event_types == ["job.succeeded"]
        changed = await client.webhooks.update(endpoint.id, name="other")
        assert (changed.name, changed.object) == ("other", "webhook_endpoint")
        rotated = await client.webhooks.rotate_secret(endpoint.id, keep_old_secret_active_for_24_hours=True)
        assert rotated.signing_secret != endpoint.signing_secret
        assert [one.id async for one in client.webhooks.list()] == [endpoint.id]
        assert "job.failed" in (await client.webhooks.event_types.list()).data
        kind: Any = "job.failed"
        testing = asyncio.create_task(client.webhooks.test(endpoint.id, event_type=kind))
        sender = Sender(hooks)
        await sender.sent("delivered", 204)
        tested = await testing
        assert (tested.success, tested.status_code, tested.event_type) == (True, 204, "job.failed")
        assert (await client.webhooks.delete(endpoint.id)).deleted
