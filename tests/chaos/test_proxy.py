"""The proxy of these tests leaves nothing open, whenever it ends."""

import asyncio
import gc
import socket
import warnings
from contextlib import suppress

import pytest

from tests.chaos.proxy import proxied
from tests.support.valkey import HOST


@pytest.mark.parametrize("turns", range(12))
async def test_a_connection_that_comes_at_the_very_end_is_closed(turns: int) -> None:
    with socket.create_server((HOST, 0)) as behind, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        async with proxied(HOST, behind.getsockname()[1]) as proxy:
            client = socket.create_connection((HOST, proxy.port))
            # It is accepted, gets its transport, is served and connected on, each a turn of the loop later.
            for _ in range(turns):
                await asyncio.sleep(0)
        # Whom nobody had accepted is reset.
        with client, suppress(ConnectionResetError):
            client.settimeout(10)
            assert client.recv(1) == b""
        gc.collect()
    assert [str(one.message) for one in told] == []
