"""Valkey away, back, frozen, cut off and emptied: nothing is lost, sent twice, or accepted by half."""

import asyncio
import subprocess
import sys
import time

import pytest

from tests.chaos.caller import Caller
from tests.chaos.processes import ROOT
from tests.chaos.system import USUAL, Start, System
from tests.chaos.test_recovery import check_once
from tests.chaos.waiting import alongside, eventually, until

pytestmark = pytest.mark.asyncio(loop_scope="package")

BACK_S = 15.0
"""`bench/recovery.py` measures what is promised, 5 s: here a busy machine may take longer."""
A_CLAIM = b"8388608"
"""The most bytes that a claim's answer may have, which no other script is given."""


async def submitted(ann: Caller, marker: str) -> str:
    """The id of a new job, submitted again until it is accepted."""
    ids: list[str] = []

    async def is_accepted() -> bool:
        answer = await ann.submit(marker, key=marker)
        assert answer.status_code in (202, 503), answer.text
        if answer.status_code == 202:
            ids.append(answer.json()["id"])
        return bool(ids)

    await until(is_accepted)
    return ids[0]


async def until_flowing(system: System, ann: Caller) -> None:
    """Valkey is well again: soon a job is accepted and sent; waits for its end too, after which nothing goes on."""
    back_at = time.time()
    marker = system.marker()
    job_id = await submitted(ann, marker)
    took = (await system.until_sent(marker))[0].arrived_at - back_at
    print(f"a job was sent {took:.2f} s after Valkey was back")  # noqa: T201  (a figure that the project promises)
    assert took < BACK_S
    await ann.end_of(job_id)


async def test_while_valkey_is_away_nothing_is_accepted_and_what_was_paid_for_is_kept(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller()
        marker, refused = system.marker(), system.marker()
        job_id = await ann.accepted(marker, "[[slow:0.7]]", retry="never")
        await system.until_sent(marker)
        pids = [worker.pid for worker in system.workers]
        system.valkey.kill()

        answer = await ann.submit(refused)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
        assert int(answer.headers["retry-after"]) > 0

        async def is_answered() -> bool:
            return (await system.sent(marker))[0].finished_at is not None

        await until(is_answered)
        await asyncio.to_thread(system.valkey.start)
        await until_flowing(system, ann)
        await check_once(system, marker, job_id, ann, sends=1)
        assert await ann.job_named(refused) == []
        assert [worker.pid for worker in system.workers if worker.runs] == pids


async def test_an_outage_longer_than_a_lease_is_no_death_of_the_workers(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller()
        ids = {
            (marker := system.marker()): await ann.accepted(marker, "[[slow:1]]", retry="never")
            for _ in range(8)
        }
        for marker in ids:
            await system.until_sent(marker)
        system.valkey.freeze()
        frozen_at = time.monotonic()
        await eventually(lambda: time.monotonic() - frozen_at > USUAL.lease_s * 2)
        system.valkey.thaw()
        for marker, job_id in ids.items():
            await check_once(system, marker, job_id, ann, sends=1)


async def test_a_submission_whose_answer_was_lost_makes_one_job(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller()
        marker = system.marker()
        loss = system.proxy.lose(asked=marker.encode(), told=b"accepted")
        answer = await ann.submit(marker)
        assert (answer.status_code, loss.happened) == (202, 1)
        await ann.end_of(answer.json()["id"])
        assert [view.id for view in await ann.job_named(marker)] == [answer.json()["id"]]


async def test_a_submission_that_is_refused_for_a_lost_answer_is_taken_back(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller()
        marker = system.marker()
        loss = system.proxy.lose(asked=marker.encode(), told=b"accepted", times=2)
        answer = await ann.submit(marker, not_before=int(time.time()) + 600)
        assert (answer.status_code, loss.happened) == (503, 2)

        async def is_taken_back() -> bool:
            return [view.status for view in await ann.job_named(marker)] == ["cancelled"]

        await until(is_taken_back, within_s=20)
        assert await system.sent(marker) == []


async def test_a_claim_whose_answer_was_lost_is_answered_again(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller()
        marker = system.marker()
        loss = system.proxy.lose(asked=A_CLAIM, told=marker.encode())
        job_id = await ann.accepted(marker, retry="never")
        await check_once(system, marker, job_id, ann, sends=1)
        assert loss.happened == 1
        assert (await ann.view(job_id)).attempts == 1


async def test_a_worker_starts_whatever_it_is_told_of_valkey_is_lost(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller()
        worker, other = system.workers
        for one in (worker, other):
            one.terminate()
        for one in (worker, other):
            assert await one.ended() == 0
        system.proxy.lose(told=b"used_memory_human")
        await system.start(worker)
        await ann.end_of(await ann.accepted(system.marker()))
        assert worker.runs


async def test_a_settlement_whose_answer_was_lost_counts_once(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller()
        marker = system.marker()
        before = sum(worker.log.count("job succeeded") for worker in system.workers)
        loss = system.proxy.lose(asked=b"chatcmpl-", told=b"settled")
        job_id = await ann.accepted(marker)
        await ann.end_of(job_id)
        assert loss.happened == 1
        await eventually(
            lambda: sum(worker.log.count("job succeeded") for worker in system.workers) == before + 1
        )
        await check_once(system, marker, job_id, ann, sends=1)


async def test_whoever_waits_for_a_job_hears_of_its_end_through_cut_connections(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller()
        marker = system.marker()
        job_id = await ann.accepted(marker, "[[slow:2]]")
        async with alongside(ann.view(job_id, wait_s=30)) as waiting:
            sent = (await system.until_sent(marker))[0]
            system.proxy.cut()
            assert (await waiting[0]).status == "succeeded"
            assert time.time() - sent.arrived_at < 2 + BACK_S


async def test_an_emptied_valkey_stops_everything_until_an_operator_decides(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller()
        system.proxy.freeze()
        await system.redis.flushall()
        system.proxy.thaw()

        lost = system.marker()
        answer = await ann.submit(lost)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable"), answer.text
        assert (await ann.ask("GET", "/healthz")).status_code == 200
        assert (await ann.ask("GET", "/readyz")).status_code == 503
        users = await system.http.get(f"{system.urls[0]}/v1/admin/users", headers=system.admin)
        assert users.status_code == 200, users.text
        assert await system.sent(lost) == []

        command = [sys.executable, "-m", "cli.main", "doctor", "--accept-loss"]
        environment = {"REDIS_URL": system.valkey.url, "PYTHONPATH": str(ROOT), "PATH": ""}
        done = await asyncio.to_thread(
            subprocess.run, command, env=environment, cwd=system.folder, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        bob = await system.caller("bob")
        marker = system.marker()
        await check_once(system, marker, await submitted(bob, marker), bob, sends=1)
