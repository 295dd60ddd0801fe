"""What a job costs Redis: one script to submit, a share of one claim, one to settle, and nothing else on the wire."""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from redis.asyncio import BlockingConnectionPool, Connection, Redis

from tests.jobs.builders import ALICE, BOB, Desk
from tests.support.valkey import HOST, ValkeyProcess

Sent = list[str]


class _Noting(Connection):
    """Notes the name of each command it sends."""

    def __init__(self, *, sent: Sent, **options: Any) -> None:
        super().__init__(**options)
        self._sent = sent

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self._sent += _names(command if isinstance(command, bytes) else b"".join(command))
        await super().send_packed_command(command, check_health)


def _names(payload: bytes) -> Sent:
    """The names of the commands in a request of the Redis protocol."""
    names, at = [], 0
    while at < len(payload):
        line = payload.index(b"\r\n", at)
        parts = int(payload[at + 1 : line])
        at = line + 2
        for part in range(parts):
            line = payload.index(b"\r\n", at)
            end = line + 2 + int(payload[at + 1 : line])
            if part == 0:
                names.append(payload[line + 2 : end].decode())
            at = end + 2
    return names


@pytest.fixture
def sent() -> Sent:
    """The names of all commands that went over the wire."""
    return []


@pytest.fixture
async def desk(valkey: ValkeyProcess, sent: Sent) -> AsyncIterator[Desk]:
    """A desk whose scripts have all been loaded by one job's life."""
    pool = BlockingConnectionPool(connection_class=_Noting, host=HOST, port=valkey.port, sent=sent)
    client = Redis.from_pool(pool)
    await client.flushall()
    desk = await Desk.open(client)
    hand = await desk.worker()
    job = await desk.submit()
    await hand.put_back(await hand.take_one())
    await hand.renew(await hand.take_one())
    await hand.succeed((await hand.claim_again()).jobs[0])
    await desk.store.cancel(ALICE, job.id)
    await desk.store.read(ALICE, job.id)
    await desk.store.list(ALICE, limit=1, after=None, status=None, custom_id=None)
    await desk.store.erase(ALICE, job.id)
    await desk.store.sweep()
    sent.clear()
    yield desk
    await client.aclose()


async def test_a_submission_is_one_script(desk: Desk, sent: Sent) -> None:
    await desk.submit(idempotency_key="k", payload_digest="a")
    assert sent == ["EVALSHA"]
    await desk.submit(idempotency_key="k", payload_digest="a")
    assert sent == ["EVALSHA"] * 2


async def test_a_refused_submission_is_one_script(desk: Desk, sent: Sent) -> None:
    await desk.user(BOB, tokens_per_day=10)
    sent.clear()
    await desk.refused(BOB, tokens=11)
    assert sent == ["EVALSHA"]


async def test_one_claim_of_many_jobs_is_one_script_and_carries_their_bodies(desk: Desk, sent: Sent) -> None:
    hand = await desk.worker()
    for n in range(100):
        await desk.submit(BOB if n % 3 else ALICE, body=f'{{"n": {n}}}'.encode())
    sent.clear()
    taken = await hand.take(100)
    assert sent == ["EVALSHA"]
    assert {job.body for job in taken} == {f'{{"n": {n}}}'.encode() for n in range(100)}


async def test_the_end_of_an_attempt_is_one_script(desk: Desk, sent: Sent) -> None:
    hand = await desk.worker()
    await desk.submit()
    await desk.submit()
    first, second = await hand.take(2)
    sent.clear()
    await hand.succeed(first)
    assert sent == ["EVALSHA"]
    await hand.put_back(second)
    assert sent == ["EVALSHA"] * 2


async def test_a_worker_renews_all_its_leases_in_one_script(desk: Desk, sent: Sent) -> None:
    hand = await desk.worker()
    for _ in range(50):
        await desk.submit()
    taken = await hand.take(50)
    sent.clear()
    await hand.renew(*taken)
    assert sent == ["EVALSHA"]


async def test_a_poll_a_page_a_cancel_and_a_sweep_are_one_script_each(desk: Desk, sent: Sent) -> None:
    job = await desk.submit()
    sent.clear()
    await desk.read(job)
    await desk.store.list(ALICE, limit=20, after=None, status=None, custom_id=None)
    await desk.store.cancel(ALICE, job.id)
    await desk.store.erase(ALICE, job.id)
    await desk.store.sweep()
    assert sent == ["EVALSHA"] * 5


async def test_the_server_ran_as_many_scripts_as_were_sent(desk: Desk, sent: Sent) -> None:
    async def scripts() -> int:
        stats = cast(dict[str, dict[str, int]], await desk.redis.info("commandstats"))
        return stats["cmdstat_evalsha"]["calls"]

    before = await scripts()
    hand = await desk.worker()
    for _ in range(10):
        await desk.submit()
    for job in await hand.take(10):
        await hand.succeed(job)
    assert await scripts() - before == 10 + 1 + 10


async def test_scripts_that_the_server_forgot_are_loaded_again_and_run_once(desk: Desk, sent: Sent) -> None:
    await desk.redis.script_flush()
    sent.clear()
    await desk.submit()
    assert sent == ["EVALSHA", "SCRIPT", "EVALSHA"]
    assert (await desk.limits()).queued_jobs == 1
