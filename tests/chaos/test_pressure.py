"""No file descriptors, wrong clocks, a storm of cuts, clients that give up: jobs end once all the same."""

import asyncio
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.chaos.processes import Process
from tests.chaos.system import USUAL, Start
from tests.chaos.test_outage import submitted, until_flowing
from tests.chaos.test_recovery import check_once
from tests.chaos.waiting import until
from tests.support.valkey import HOST

pytestmark = pytest.mark.asyncio(loop_scope="package")

CUTS, CUT_EVERY_S = 20, 0.1
QUITTERS = 100


@contextmanager
def no_file_descriptors(processes: list[Process]) -> Iterator[None]:
    """Those that they have are left to them; they get no other."""
    before = {one.pid: resource.prlimit(one.pid, resource.RLIMIT_NOFILE) for one in processes}
    for pid, (_, most) in before.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, most))
    try:
        yield
    finally:
        for pid, limits in before.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


async def test_processes_without_file_descriptors_go_on_when_there_are_some(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller()
        marker = system.marker()
        job_id = await ann.accepted(marker, "[[slow:1]]", retry="never")
        await system.until_sent(marker)
        with no_file_descriptors(system.processes):
            system.proxy.cut()

            async def is_answered() -> bool:
                return (await system.sent(marker))[0].finished_at is not None

            await until(is_answered)
        await until_flowing(system, ann)
        await check_once(system, marker, job_id, ann, sends=1)
        assert all(one.runs for one in system.processes)


async def test_clocks_of_processes_that_are_an_hour_off_and_run_double_change_nothing(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller()
        wrong = (system.apis[0], system.workers[0])
        for one in wrong:
            one.send(signal.SIGUSR2)
        prompts = {"": 1, "[[slow:1]]": 1, "[[fail:500x1]]": 2, "[[fail:429x1]]": 2}
        jobs = {}
        for prompt, sends in (*prompts.items(), *prompts.items()):
            marker = system.marker()
            jobs[marker] = (await ann.accepted(marker, prompt, retry="never"), sends)
        later = await ann.accepted(system.marker(), not_before=int(time.time()) + 600)
        for marker, (job_id, sends) in jobs.items():
            await check_once(system, marker, job_id, ann, sends)
            finished = (await ann.view(job_id)).finished_at
            assert finished is not None
            assert abs(finished - time.time()) < 600
        assert (await ann.view(later)).status == "queued"
        for one in wrong:
            one.send(signal.SIGUSR2)


async def test_a_storm_of_cut_connections_costs_time_only(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller()

        async def storm() -> None:
            for _ in range(CUTS):
                system.proxy.cut()
                await asyncio.sleep(CUT_EVERY_S)

        storming = asyncio.create_task(storm())
        jobs = {(marker := system.marker()): await submitted(ann, marker) for _ in range(10)}
        await storming
        for marker, job_id in jobs.items():
            await check_once(system, marker, job_id, ann, sends=1)
            assert len(await ann.job_named(marker)) == 1


async def test_clients_that_give_up_in_the_middle_are_forgotten(start: Start) -> None:
    async with start(USUAL) as system:
        ann = await system.caller("quitter")
        later = await ann.accepted(system.marker(), not_before=int(time.time()) + 600)
        head = f"Host: x\r\nAuthorization: Bearer {ann.key}\r\n".encode()
        begun = (
            b"POST /v1/jobs HT",
            b"POST /v1/jobs HTTP/1.1\r\n" + head + b'Content-Length: 900\r\n\r\n{"body": {"model',
            f"GET /v1/jobs/{later}?wait=60 HTTP/1.1\r\n".encode() + head + b"\r\n",
            f"GET /v1/jobs/{later}/events HTTP/1.1\r\n".encode() + head + b"\r\n",
        )
        port = system.ports[system.apis[0].name]
        quitters = await asyncio.gather(*(asyncio.open_connection(HOST, port) for _ in range(QUITTERS)))
        for n, (_, writer) in enumerate(quitters):
            writer.write(begun[n % len(begun)])
            await writer.drain()
        for _, writer in quitters:
            writer.transport.abort()
        for _ in range(len(system.urls)):
            marker = system.marker()
            await check_once(system, marker, await ann.accepted(marker), ann, sends=1)
        assert len(await ann.all_jobs()) == len(system.urls) + 1
