"""A worker is killed at every point between the end of a job and the delivery that its receiver has acknowledged."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.chaos.caller import FINAL, Caller
from tests.chaos.dying import POINTS
from tests.chaos.hooks import Arrival, Hooks, receiving
from tests.chaos.processes import Process
from tests.chaos.system import USUAL, Start, System
from tests.chaos.waiting import until
from tests.support.valkey import HOST

pytestmark = pytest.mark.asyncio(loop_scope="package")


@contextmanager
def allowed(system: System, port: int) -> Iterator[None]:
    """Webhooks may go to this port of the machine."""
    path = system.folder / "penstock.yaml"
    before = path.read_text()
    path.write_text(f'{before}webhooks: {{allow_http: true, allow: ["{HOST}:{port}"]}}\n')
    try:
        yield
    finally:
        path.write_text(before)


async def accepted(system: System, user: Caller, hooks: Hooks) -> str:
    """A job whose end is to be told; the APIs may need a moment to let it be told there."""
    marker = system.marker()
    found: list[str] = []

    async def submitted() -> bool:
        answer = await user.submit(marker, webhook_url=hooks.url, key=marker)
        assert answer.status_code in (202, 422), answer.text
        if answer.status_code == 202:
            found.append(answer.json()["id"])
        return bool(found)

    await until(submitted)
    return found[0]


async def delivered(user: Caller, job_id: str) -> bool:
    answer = await user.ask("GET", f"/v1/jobs/{job_id}")
    return answer.status_code == 200 and answer.json()["webhook"]["status"] == "delivered"


async def test_no_end_without_its_webhook_and_no_webhook_before_its_end_can_be_seen(start: Start) -> None:
    async with start(USUAL) as system:
        user = await system.caller("hooked")
        on_arrival: list[Process] = []

        jobs: list[str] = []

        async def look(arrival: Arrival) -> None:
            if on_arrival:
                # Not while it runs a job, which would lose that attempt.
                for job_id in jobs:
                    await user.end_of(job_id)
            if on_arrival:
                on_arrival.pop().kill()
            view = await user.view(arrival.job["id"])
            assert view.status in FINAL, f"{view.id} was told as ended, and is {view.status}"
            assert view.status == arrival.job["status"]

        async with receiving(look) as hooks:
            with allowed(system, hooks.port):
                for worker in system.workers:
                    worker.kill()
                for point in POINTS:
                    jobs.append(await accepted(system, user, hooks))
                    dying = system.make(f"dying-when-{point}", "worker", runs=("tests.chaos.dying", point))
                    dying.start()
                    assert await dying.ended() == -signal.SIGKILL, dying.log
                # The last one dies while the receiver has the event in its hands.
                jobs.append(await accepted(system, user, hooks))
                last = system.make("dying-when-arrived", "worker")
                on_arrival.append(last)
                last.start()
                assert await last.ended() == -signal.SIGKILL, last.log
                await system.heal()
                for job_id in jobs:
                    end = await user.end_of(job_id)
                    assert end.status == "succeeded", end
                    await until(partial(delivered, user, job_id))
                    events = hooks.of(job_id)
                    assert len({one.event_id for one in events}) == 1, "one event has one id"
                    assert len({one.body for one in events}) == 1, "every attempt sends the same bytes"
        assert hooks.wrong == []
        # Where the receiver's answer was lost it got the event again, with the same id.
        assert max(len(hooks.of(job_id)) for job_id in jobs) > 1
