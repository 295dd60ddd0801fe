"""Wrong ways of sending that need no connection to be seen."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from simulator.connection import Connection
from simulator.exchange import JSON, Exchange
from simulator.faults import Fault
from simulator.log import LogEntry
from simulator.misbehave import Reply, misbehave


async def test_huge_lets_others_run_even_if_no_send_ever_waits() -> None:
    sent = 0

    async def send(_message: MutableMapping[str, Any]) -> None:
        nonlocal sent
        sent += 1
        assert sent < 1000, "nobody else got a turn"

    exchange = Exchange(send, Connection(), LogEntry(1, "req_1", 0))
    endless = asyncio.create_task(misbehave(Fault("huge"), exchange, Reply(b"", JSON, []), asyncio.sleep))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    endless.cancel()
    with pytest.raises(asyncio.CancelledError):
        await endless
    assert sent > 1
