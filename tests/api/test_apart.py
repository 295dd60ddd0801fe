"""Users apart: what is another's is answered byte for byte as what never was, whoever asks and whatever he asks."""

import itertools
from collections.abc import Mapping

import httpx2

from tests.api.harness import NOON_MS, Api

NEVER = "job_00000000000000000000000000"
USERS = ("ann", "bob", "ann.b", "users")
NOT_COMPARED = {"x-request-id", "date"}

CALLS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("GET", "/v1/jobs/{id}", {}),
    ("GET", "/v1/jobs/{id}", {"if-none-match": "*"}),
    ("GET", "/v1/jobs/{id}?wait=5", {}),
    ("GET", "/v1/jobs/{id}/events", {}),
    ("GET", "/v1/jobs/{id}/events", {"last-event-id": "9.done"}),
    ("POST", "/v1/jobs/{id}/cancel", {}),
    ("DELETE", "/v1/jobs/{id}", {}),
    ("HEAD", "/v1/jobs/{id}", {}),
)


def seen(answer: httpx2.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """All of an answer that could tell something."""
    headers = sorted((name, value) for name, value in answer.headers.items() if name not in NOT_COMPARED)
    return answer.status_code, headers, answer.content


async def jobs_in_every_state(api: Api, user: Mapping[str, str]) -> list[str]:
    """One queued, one running, one succeeded, one cancelled."""
    succeeded, running = [await api.submitted(user, custom_id="theirs") for _ in range(2)]
    first, second = await api.claim(2)
    assert (first.id, second.id) == (succeeded, running)
    await api.succeed(first, b'{"choices":["a secret"]}')
    cancelled, queued = [await api.submitted(user, not_before=NOON_MS // 1000 + 3600) for _ in range(2)]
    assert (await api.http.post(f"/v1/jobs/{cancelled}/cancel", headers=user)).status_code == 200
    return [succeeded, running, cancelled, queued]


async def test_what_is_anothers_is_answered_as_what_never_was(api: Api) -> None:
    users = {name: await api.user(name) for name in USERS}
    theirs = {name: await jobs_in_every_state(api, headers) for name, headers in users.items()}

    for asking, owner in itertools.permutations(USERS, 2):
        for method, path, headers in CALLS:
            asked = users[asking] | headers
            never = seen(await api.http.request(method, path.replace("{id}", NEVER), headers=asked))
            assert never[0] == 404
            for job_id in theirs[owner]:
                answer = await api.http.request(method, path.replace("{id}", job_id), headers=asked)
                assert seen(answer) == never, (asking, owner, method, path)

    for name, headers in users.items():
        listed = (await api.http.get("/v1/jobs?limit=100", headers=headers)).json()
        assert {job["id"] for job in listed["data"]} == set(theirs[name])
        statuses = {job["status"] for job in listed["data"]}
        assert statuses == {"succeeded", "running", "cancelled", "queued"}, "somebody changed another's job"


async def test_a_list_does_not_tell_whether_anothers_job_is_there(api: Api) -> None:
    users = {name: await api.user(name) for name in USERS}
    theirs = {name: await jobs_in_every_state(api, headers) for name, headers in users.items()}
    for asking, owner in itertools.permutations(USERS, 2):
        headers = users[asking]
        for job_id in theirs[owner]:
            # An id between the same two of one's own that was never issued.
            made_up = job_id[:-1] + ("0" if job_id[-1] != "0" else "1")
            there = await api.http.get(f"/v1/jobs?after={job_id}", headers=headers)
            never = await api.http.get(f"/v1/jobs?after={made_up}", headers=headers)
            assert seen(there) == seen(never)
        found = await api.http.get("/v1/jobs?custom_id=theirs", headers=headers)
        assert {job["id"] for job in found.json()["data"]} == set(theirs[asking][:2])


async def test_an_idempotency_key_is_ones_own(api: Api) -> None:
    made = []
    for name in USERS:
        headers = await api.user(name) | {"idempotency-key": "the same"}
        answer = await api.submit(headers, custom_id=name)
        assert "idempotent-replayed" not in answer.headers
        made.append(answer.json()["id"])
    assert len(set(made)) == len(USERS)


async def test_what_is_used_and_left_is_ones_own(api: Api) -> None:
    ann, bob = await api.user("ann", "free"), await api.user("bob", "free")
    untouched = (await api.http.get("/v1/limits", headers=bob)).json()
    await api.submitted(ann)
    await api.run_all()
    assert (await api.http.get("/v1/limits", headers=bob)).json() == untouched
    assert (await api.http.get("/v1/usage", headers=bob)).json()["total"]["jobs"] == 0
    assert (await api.http.get("/v1/usage?user=ann", headers=bob)).status_code == 403
    assert (await api.http.get("/v1/usage?user=never", headers=bob)).status_code == 403


NEVER_SENT = "dlv_00000000000000000000000000_0"
NO_ENDPOINT = "we_00000000000000000000000000"
OF_DELIVERIES = (("GET", "/v1/deliveries/{id}"), ("POST", "/v1/deliveries/{id}/redeliver"))
OF_ENDPOINTS: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("GET", "/v1/webhook_endpoints/{id}", {}),
    ("POST", "/v1/webhook_endpoints/{id}", {"status": "disabled"}),
    ("POST", "/v1/webhook_endpoints/{id}/rotate_secret", {}),
    ("POST", "/v1/webhook_endpoints/{id}/test", {}),
    ("POST", "/v1/webhook_endpoints/{id}/recover", {"since": 0}),
    ("DELETE", "/v1/webhook_endpoints/{id}", {}),
)


async def test_webhooks_of_others_are_answered_as_what_never_was(api: Api) -> None:
    users = {name: await api.user(name, scopes=("jobs", "webhooks")) for name in USERS}
    endpoints, deliveries = {}, {}
    for name, headers in users.items():
        made = await api.http.post(
            "/v1/webhook_endpoints", json={"url": "https://93.184.216.34/hook"}, headers=headers
        )
        endpoints[name] = made.json()["id"]
        await api.submitted(headers)
        await api.run_all()
        [sent] = (await api.http.get("/v1/deliveries", headers=headers)).json()["data"]
        deliveries[name] = sent["id"]

    for asking, owner in itertools.permutations(USERS, 2):
        headers = users[asking]
        for method, path in OF_DELIVERIES:
            theirs, never = [
                seen(await api.http.request(method, path.replace("{id}", one), headers=headers))
                for one in (deliveries[owner], NEVER_SENT)
            ]
            assert theirs == never, (method, path)
            assert never[0] == 404
        for method, path, body in OF_ENDPOINTS:
            theirs, never = [
                seen(await api.http.request(method, path.replace("{id}", one), headers=headers, json=body))
                for one in (endpoints[owner], NO_ENDPOINT)
            ]
            assert theirs == never, (method, path)
            assert never[0] == 404

    for name, headers in users.items():
        [endpoint] = (await api.http.get("/v1/webhook_endpoints", headers=headers)).json()["data"]
        [delivery] = (await api.http.get("/v1/deliveries", headers=headers)).json()["data"]
        assert (endpoint["id"], endpoint["status"]) == (endpoints[name], "enabled")
        assert (delivery["id"], delivery["status"]) == (deliveries[name], "pending")
