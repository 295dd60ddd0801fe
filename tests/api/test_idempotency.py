"""Idempotency-Key: one key and one payload are one job, however often and at once they come."""

import asyncio

from tests.api.harness import Api, chat, problem


async def test_the_same_payload_again_is_answered_with_the_first_job(api: Api) -> None:
    ann = await api.user("ann") | {"idempotency-key": "k-1"}
    first = await api.submit(ann, custom_id="a")
    again = await api.submit(ann, custom_id="a")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]


async def test_order_and_white_space_make_no_other_payload(api: Api) -> None:
    ann = await api.user("ann") | {"idempotency-key": "k-1", "content-type": "application/json"}
    texts = (
        b'{"custom_id":"a","body":{"model":"m","messages":[{"role":"user","content":"x"}]}}',
        b'{ "body": {"messages": [{"content":"x", "role":"user"}], "model": "m"},\n "custom_id": "a" }',
    )
    answers = [await api.http.post("/v1/jobs", content=text, headers=ann) for text in texts]
    assert answers[0].json()["id"] == answers[1].json()["id"]


async def test_a_bare_and_a_quoted_key_are_the_same(api: Api) -> None:
    ann = await api.user("ann")
    first = await api.submitted(ann | {"idempotency-key": "abc"})
    assert await api.submitted(ann | {"idempotency-key": '"abc"'}) == first


async def test_another_payload_under_the_same_key_is_refused(api: Api) -> None:
    ann = await api.user("ann") | {"idempotency-key": "k-1"}
    await api.submitted(ann, custom_id="a")
    for fields in ({"custom_id": "b"}, {"custom_id": "a", "body": chat("another")}):
        told = problem(await api.submit(ann, **fields), 422, "idempotency_key_reused")
        assert told["errors"][0]["pointer"] == "Idempotency-Key"


async def test_fifty_at_once_make_one_job(api: Api) -> None:
    ann = await api.user("ann") | {"idempotency-key": "k-1"}
    answers = await asyncio.gather(*(api.submit(ann) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert len(await api.claim(100)) == 1


async def test_each_user_has_keys_of_his_own(api: Api) -> None:
    ids = {await api.submitted(await api.user(user) | {"idempotency-key": "k-1"}) for user in ("ann", "bob")}
    assert len(ids) == 2


async def test_a_finished_job_is_replayed_with_its_result(api: Api) -> None:
    ann = await api.user("ann") | {"idempotency-key": "k-1"}
    job_id = await api.submitted(ann)
    await api.run_all()
    again = await api.submit(ann)
    assert (again.json()["id"], again.json()["status"]) == (job_id, "succeeded")
    assert "retry-after" not in again.headers
    waited = await api.submit(ann | {"prefer": "wait=30"})
    assert (waited.status_code, waited.headers["preference-applied"]) == (200, "wait=30")


async def test_a_refusal_is_not_remembered(api: Api) -> None:
    ann = await api.user("ann", "free") | {"idempotency-key": "k-1"}
    problem(await api.submit(ann, body=chat(n=0)), 422, "invalid_request")
    problem(await api.submit(ann, body=chat(n=15, max_tokens=4_000)), 422, "job_too_large")
    await api.submitted(ann)


async def test_a_wrong_key_is_refused(api: Api) -> None:
    ann = await api.user("ann")
    told = problem(await api.submit(ann | {"idempotency-key": "x" * 256}), 422, "invalid_request")
    assert told["errors"][0]["pointer"] == "Idempotency-Key"
