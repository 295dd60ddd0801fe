"""What runs beside the requests: kept going, told when it fails, ended when asked."""

import asyncio

import structlog
from redis.exceptions import ConnectionError

from api.background import Background, repeat, until_done


async def test_a_task_that_loses_a_cancellation_is_ended_all_the_same() -> None:
    lost = 0

    async def stubborn() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                lost += 1
                if lost == 2:
                    raise

    background = Background()
    background.start(stubborn(), "stubborn")
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await background.stop()
    assert lost == 2


async def test_what_is_repeated_survives_its_failures_and_tells_the_first_of_a_row() -> None:
    outcomes = [None, ConnectionError(), ConnectionError(), None, ValueError("a secret"), None]
    done = asyncio.Event()

    async def action() -> None:
        if not outcomes:
            done.set()
            return
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    background = Background()
    with structlog.testing.capture_logs() as logs:
        background.start(repeat("work", 0, action), "work")
        await asyncio.wait_for(done.wait(), 20)
    await background.stop()
    told = [(entry["reason"], entry["exc_info"]) for entry in logs]
    assert told == [("ConnectionError", False), ("ValueError", True)]


async def test_what_is_to_be_done_is_done_once() -> None:
    outcomes: list[Exception | None] = [ConnectionError(), ConnectionError(), None]

    async def action() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    with structlog.testing.capture_logs() as logs:
        await until_done("work", 0, action)
    assert outcomes == []
    assert len(logs) == 1


async def test_a_task_that_ends_by_itself_with_an_error_is_told() -> None:
    async def failing() -> None:
        raise ValueError

    background = Background()
    with structlog.testing.capture_logs() as logs:
        background.start(failing(), "failing")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await background.stop()
    assert [(entry["event"], entry["task"]) for entry in logs] == [("background task ended", "failing")]
