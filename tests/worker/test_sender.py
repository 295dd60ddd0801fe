"""The sender: what it sends verifies by others' libraries, is the same each time, and nobody waits for anybody else."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import openai
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from standardwebhooks.webhooks import Webhook

from jobs.config import Config
from jobs.webhooks import EVENT_TYPES
from jobs.webhooks.record import DeliveryClaim
from tests.jobs.builders import ALICE, BOB, SECOND_MS
from tests.jobs.names import SILENT
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import eventually
from tests.worker.line import line, submit, until
from tests.worker.raw_provider import Request, http
from tests.worker.receiver import HOST, OK, Receiver
from tests.worker.receiver import Sender as Guarded
from tests.worker.sending import Sending, receiving, sending
from worker.webhooks.settings import forward_proxy

if TYPE_CHECKING:
    from redis.asyncio import Redis

FAILED = http(status="500 Internal Server Error")


def verify(request: Request, secret: str, at_ms: int) -> dict[str, Any]:
    """The event, verified by the reference library and by OpenAI's at that time."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    headers = dict(request.headers)
    with patch("standardwebhooks.webhooks.datetime") as clock:
        clock.now.return_value = at
        clock.fromtimestamp = datetime.fromtimestamp
        event: dict[str, Any] = Webhook(secret).verify(request.body, headers)
    with openai.OpenAI(api_key="none", webhook_secret=secret) as client:
        # The time of the test is not that of the machine.
        client.webhooks.verify_signature(request.body, headers, tolerance=2 * 86_400)
    return event


async def rotated(parts: Sending, *, keep_old: bool = False) -> str:
    """A new default secret of Alice's."""
    made = await parts.post.endpoints.rotate(ALICE, None, keep_old=keep_old)
    assert made is not None
    return made[1]


async def test_what_arrives_is_verified_by_the_libraries_that_receivers_use(redis: "Redis") -> None:
    async with receiving(redis, OK) as (parts, receiver):
        secret = await rotated(parts)
        parts.start()
        job_id = await parts.job(receiver)
        delivery, [attempt] = await parts.attempted(1)
        [request] = receiver.requests
        event = verify(request, secret, parts.desk.clock.now_ms)
        assert (event["object"], event["type"], event["data"]["id"]) == ("event", "job.cancelled", job_id)
        assert request.headers["webhook-id"] == event["id"] == delivery.event_id
        assert "." not in event["id"]
        assert request.headers["content-type"] == "application/json"
        assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 36
        assert delivery.status == "delivered"
        assert (attempt.status_code, attempt.error, attempt.answer) == (200, None, "ok")


async def test_each_attempt_has_the_same_id_and_bytes_and_a_fresh_timestamp(redis: "Redis") -> None:
    async with receiving(redis, FAILED, FAILED, OK) as (parts, receiver):
        secret = await rotated(parts)
        parts.start()
        await parts.job(receiver)
        for attempt, wait_s in ((1, 5), (2, 300)):
            delivery, _ = await parts.attempted(attempt)
            assert delivery.next_attempt_ms == parts.desk.clock.now_ms + wait_s * SECOND_MS
            parts.desk.clock.advance(wait_s * SECOND_MS)
            await parts.wake()
        delivery, attempts = await parts.attempted(3)
        assert delivery.status == "delivered"
        assert [one.status_code for one in attempts] == [500, 500, 200]
        assert len({request.body for request in receiver.requests}) == 1
        assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
        stamps = [int(request.headers["webhook-timestamp"]) for request in receiver.requests]
        assert [later - stamps[0] for later in stamps] == [0, 5, 305]
        for request, stamp in zip(receiver.requests, stamps, strict=True):
            verify(request, secret, stamp * 1000)


async def test_while_a_secret_rotates_either_verifies(redis: "Redis") -> None:
    async with receiving(redis, OK) as (parts, receiver):
        old = await rotated(parts)
        new = await rotated(parts, keep_old=True)
        parts.start()
        await parts.job(receiver)
        await parts.attempted(1)
        [request] = receiver.requests
        assert len(request.headers["webhook-signature"].split(" ")) == 2
        for secret in (old, new):
            verify(request, secret, parts.desk.clock.now_ms)


@pytest.mark.parametrize(
    ("answer", "code", "wait_s", "error"),
    [
        (http(status="404 Not Found"), 404, 5, "the receiver answered 404"),
        (http(status="429 Too Many", headers={"Retry-After": "600"}), 429, 600, "the receiver answered 429"),
        (
            http(status="503 Unavailable", headers={"Retry-After": "99999"}),
            503,
            3600,
            "the receiver answered 503",
        ),
        (http(status="500 Error", headers={"Retry-After": "600"}), 500, 5, "the receiver answered 500"),
        (
            http(status="302 Found", headers={"Location": "http://127.0.0.1:1/"}),
            302,
            5,
            "the receiver answered 302: redirects are not followed",
        ),
    ],
)
async def test_whatever_is_no_2xx_is_tried_again_in_its_time(
    redis: "Redis", answer: bytes, code: int, wait_s: int, error: str
) -> None:
    async with receiving(redis, answer) as (parts, receiver):
        parts.start()
        await parts.job(receiver)
        delivery, [attempt] = await parts.attempted(1)
        assert (delivery.status, delivery.last_status_code) == ("pending", code)
        assert (attempt.status_code, attempt.error) == (code, error)
        assert delivery.next_attempt_ms == parts.desk.clock.now_ms + wait_s * SECOND_MS
        assert len(receiver.requests) == 1


async def test_410_puts_the_endpoint_out_of_use(redis: "Redis") -> None:
    async with receiving(redis, http(status="410 Gone")) as (parts, receiver):
        endpoint = await parts.post.endpoint(url=receiver.url)
        parts.start()
        await parts.post.finished_job()
        await parts.attempted(1)
        found = await parts.post.endpoints.get(ALICE, endpoint.id)
        assert found is not None
        assert found.disabled != ""


async def test_a_name_server_of_ours_that_is_silent_costs_the_receiver_nothing(redis: "Redis") -> None:
    names = {HOST: [SILENT, ("127.0.0.1",)]}
    async with receiving(redis, OK, addresses=names) as (parts, receiver):
        parts.start()
        await parts.job(receiver)
        delivery, [attempt] = await parts.attempted(1)
        assert (attempt.ours, attempt.error) == (True, "the name servers gave no answer")
        assert not await redis.hexists(f"receiver:{await lane_of(parts)}", "failures")  # type: ignore[misc]
        assert delivery.next_attempt_ms is not None
        parts.desk.clock.now_ms = delivery.next_attempt_ms
        await parts.wake()
        delivery, _ = await parts.attempted(2)
        assert delivery.status == "delivered"


async def lane_of(parts: Sending) -> str:
    delivery = await parts.post.only()
    head = await parts.desk.hash(f"delivery:{delivery.id}")
    lane: str = json.loads(head["h"])["l"]
    return lane


async def test_a_name_that_leads_inward_by_now_is_not_connected_to_and_tells_nothing(redis: "Redis") -> None:
    async with receiving(redis, OK, allowed=False) as (parts, receiver):
        parts.start()
        await parts.post.endpoint(url=f"https://{HOST}/in")
        await parts.post.finished_job()
        delivery, [attempt] = await parts.attempted(1)
        assert delivery.status == "pending"
        assert attempt.error is not None
        assert attempt.error.startswith("loopback")
        assert (attempt.status_code, attempt.answer, attempt.ours) == (None, "", False)
        assert receiver.connections == 0


async def test_of_an_answer_only_the_start_is_kept(redis: "Redis") -> None:
    answer = http(b"\xff" + b"x" * 5000, status="500 Error")
    async with receiving(redis, answer) as (parts, receiver):
        parts.start()
        await parts.job(receiver)
        _, [attempt] = await parts.attempted(1)
        assert attempt.answer == "\ufffd" + "x" * 1023


def held(moment: asyncio.Event) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Answers well, but not before the moment."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await moment.wait()
        writer.write(OK)
        await writer.drain()

    return answer


async def test_a_slow_receiver_gets_four_at_once_and_nobody_waits_for_it(redis: "Redis") -> None:
    moment = asyncio.Event()
    async with (
        Receiver(held(moment)) as slow,
        Receiver(OK) as quick,
        Guarded(slow.authority, quick.authority) as guarded,
        sending(redis, guarded) as parts,
    ):
        parts.start(at_once=6)
        for _ in range(10):
            await parts.job(slow)
        await parts.requests(slow, 4)
        for _ in range(10):
            await parts.job(quick, BOB)
        await parts.requests(quick, 10)
        assert len(slow.requests) == 4
        moment.set()
        await parts.requests(slow, 10)


async def test_a_dead_receiver_is_left_alone_after_five_failures_and_the_rest_goes_on(redis: "Redis") -> None:
    async with (
        Receiver(FAILED) as dead,
        Receiver(OK) as quick,
        Guarded(dead.authority, quick.authority) as guarded,
        sending(redis, guarded) as parts,
    ):
        parts.start(at_once=1)
        for _ in range(20):
            await parts.job(dead)
        await parts.requests(dead, 5)
        await parts.job(quick, BOB)
        delivery, _ = await parts.attempted(1, BOB)
        assert delivery.status == "delivered"
        assert len(dead.requests) == 5


async def test_a_delivery_whose_lease_is_lost_is_dropped_without_a_word(redis: "Redis") -> None:
    async with receiving(redis, held(asyncio.Event())) as (parts, receiver):
        sender = parts.start()
        await parts.job(receiver)
        await parts.requests(receiver, 1)
        [(_, token)] = sender.leases()
        before = await parts.desk.snapshot()
        sender.lease_lost(token)
        await eventually(lambda: sender.leases() == [])
        after = await parts.desk.snapshot()
        assert {key: after[key] for key in before if key.startswith(("delivery", "outbox"))} == {
            key: before[key] for key in before if key.startswith(("delivery", "outbox"))
        }


async def test_a_drain_lets_deliveries_end_and_hands_back_what_is_left(redis: "Redis") -> None:
    moment = asyncio.Event()
    async with receiving(redis, held(moment)) as (parts, receiver):
        sender = parts.start()
        await parts.job(receiver)
        await parts.requests(receiver, 1)
        sender.stop()
        await parts.post.finished_job(BOB, **parts.url(receiver, BOB))
        draining = asyncio.create_task(sender.drain(20))
        moment.set()
        await draining
        assert (await parts.attempted(1))[0].status == "delivered"
        assert (await parts.post.only(BOB)).attempts == 0
        moment.clear()
        second = parts.start()
        await parts.requests(receiver, 2)
        second.stop()
        await second.drain(0)
        delivery, [attempt] = await parts.attempted(1, BOB)
        assert (delivery.status, attempt.ours) == ("pending", True)
        assert attempt.error == "the worker that sent it was stopped"


async def test_what_a_claim_took_before_its_answer_was_lost_is_sent_in_the_drain(redis: "Redis") -> None:
    async with receiving(redis, OK) as (parts, receiver):
        claim, lost = parts.outbox.claim, False

        async def unheard(sequence: int, slots: int) -> DeliveryClaim:
            nonlocal lost
            told = await claim(sequence, slots)
            if told.deliveries and not lost:
                lost = True
                sender.stop()
                raise RedisConnectionError("cut")
            return told

        with patch.object(parts.outbox, "claim", unheard):
            await parts.job(receiver)
            sender = parts.start()
            await eventually(lambda: bool(receiver.requests))
            await sender.drain(20)
        assert lost
        assert (await parts.attempted(1))[0].status == "delivered"


async def test_an_outcome_is_kept_until_redis_takes_it(redis: "Redis") -> None:
    async with receiving(redis, OK) as (parts, receiver):
        settle = parts.outbox.settle
        broken = iter((True, True, False))

        async def unsteady(*arguments: Any, **named: Any) -> bool:
            if next(broken):
                raise RedisConnectionError("cut")
            return await settle(*arguments, **named)

        with patch.object(parts.outbox, "settle", unsteady):
            parts.start()
            await parts.job(receiver)
            delivery, _ = await parts.attempted(1)
        assert delivery.status == "delivered"
        assert len(receiver.requests) == 1


async def test_under_another_secret_nothing_is_sent_and_nothing_charged(redis: "Redis") -> None:
    async with receiving(redis, OK) as (parts, receiver):
        await rotated(parts)
        parts.start(pepper="another one")
        await parts.job(receiver)
        delivery, [attempt] = await parts.attempted(1)
        assert (delivery.status, attempt.ours, len(receiver.requests)) == ("pending", True, 0)
        assert attempt.error is not None
        assert "PENSTOCK_SECRET" in attempt.error


async def test_a_worker_tells_the_end_of_a_job_at_once(
    redis: "Redis", valkey: ValkeyProcess, tmp_path: Path
) -> None:
    async with Receiver(OK) as receiver, line(redis, valkey.url, tmp_path) as parts:
        url = f"http://127.0.0.1:{receiver.port}/in"
        parts.webhooks = {"allow": [f"127.0.0.1:{receiver.port}"]}
        async with parts.store() as store, parts.worker():
            job = await submit(store, parts.job("Say hello.", webhook_url=url, webhook_lane="own_1"))
            ended = await until(store, job.id, lambda view: view.webhook.status == "delivered")
            [request] = receiver.requests
            event = json.loads(request.body)
            assert event["type"] == "job.succeeded"
            assert event["data"]["result"] == json.loads(ended.result or b"")
            assert event["timestamp"].endswith("Z")
            log = await redis.hget(f"delivery:dlv_{job.id[4:]}_0", "a1")  # type: ignore[misc]
            assert json.loads(log)["at"] - (ended.finished_ms or 0) < 1000


def test_the_proxy_is_what_the_named_variable_holds_and_never_passed_by() -> None:
    config = Config.model_validate({"webhooks": {"forward_proxy_env": "WEBHOOK_PROXY"}})
    proxy = forward_proxy(config, {"WEBHOOK_PROXY": "http://proxy.internal:3128"})
    assert proxy is not None
    assert (proxy.host, proxy.port) == ("proxy.internal", 3128)
    assert forward_proxy(Config(), {"WEBHOOK_PROXY": "http://proxy.internal:3128"}) is None
    for url in ("", "proxy.internal:3128"):
        with pytest.raises(ValueError, match="WEBHOOK_PROXY"):
            forward_proxy(config, {"WEBHOOK_PROXY": url})


def test_there_is_a_type_of_event_for_each_end() -> None:
    assert EVENT_TYPES == ("job.succeeded", "job.failed", "job.cancelled", "job.expired")
