"""The guard of a connection: its loss ends what is awaited, and nothing else is taken for it."""

import asyncio

import pytest

from simulator.connection import ClientGoneError, Connection, connection_of


async def test_the_loss_of_the_connection_ends_the_guarded_and_leaves_no_cancellation_behind() -> None:
    connection = Connection()
    asyncio.get_running_loop().call_soon(connection.lost)
    with pytest.raises(ClientGoneError), connection.guard():
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_cancellation_by_somebody_else_stays_one() -> None:
    async def guarded() -> None:
        with Connection().guard():
            await asyncio.Event().wait()

    task = asyncio.create_task(guarded())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_loss_between_two_requests_disturbs_nobody() -> None:
    connection = Connection()
    with connection.guard():
        pass
    connection.lost()
    await asyncio.sleep(0)


def test_a_connection_of_another_server_cannot_be_cut() -> None:
    with pytest.raises(RuntimeError, match=r"start the simulator with simulator.serve"):
        connection_of({"type": "http"}).reset()
