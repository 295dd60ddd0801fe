"""Answers as they leave: what is whole goes out at once, all else as uvicorn would send it."""

import asyncio
import logging
from collections.abc import Iterable

import pytest
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from api.packet import OnePacket

START: Message = {"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"2")]}
WHOLE: Message = {"type": "http.response.body", "body": b"{}"}


class Recording(asyncio.Transport):
    """Keeps each write apart."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.writes.append(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def answered(*messages: Message, method: str = "GET", keep_alive: bool = True) -> Recording:
    """What an application that sends these messages makes the connection write."""
    transport = Recording()
    logger = logging.getLogger("uvicorn.error")
    cycle = RequestResponseCycle(
        scope={"type": "http", "method": method},  # type: ignore[typeddict-item]  # all that is looked at
        transport=transport,
        flow=FlowControl(transport),
        logger=logger,
        access_logger=logger,
        access_log=False,
        default_headers=[(b"date", b"today")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    await cycle.run_asgi(OnePacket(app, cycle))  # type: ignore[arg-type]  # uvicorn has types of its own
    assert cycle.response_complete or transport.closed
    return transport


async def test_a_whole_answer_is_one_write() -> None:
    transport = await answered(START, WHOLE)
    assert transport.writes == [b"HTTP/1.1 202 Accepted\r\ndate: today\r\ncontent-length: 2\r\n\r\n{}"]
    assert not transport.closed


async def test_the_last_answer_of_a_connection_says_so_and_ends_it() -> None:
    transport = await answered(START, WHOLE, keep_alive=False)
    assert b"\r\nconnection: close\r\n\r\n{}" in transport.writes[0]
    assert transport.closed
    told: Message = {**START, "headers": [*START["headers"], (b"connection", b"close")]}
    assert (await answered(told, WHOLE)).closed


async def test_the_head_of_a_stream_goes_out_before_its_body() -> None:
    start: Message = {**START, "headers": []}
    piece: Message = {**WHOLE, "more_body": True}
    transport = await answered(start, piece, WHOLE)
    assert transport.writes[0].endswith(b"transfer-encoding: chunked\r\n\r\n")
    assert transport.writes[1:] == [b"2\r\n{}\r\n", b"2\r\n{}\r\n0\r\n\r\n"]


async def test_an_answer_in_pieces_keeps_their_order() -> None:
    start: Message = {**START, "headers": [(b"content-length", b"4")]}
    transport = await answered(start, {**WHOLE, "more_body": True}, WHOLE)
    assert b"".join(transport.writes).endswith(b"content-length: 4\r\n\r\n{}{}")


async def test_an_answer_to_head_has_no_body() -> None:
    transport = await answered(START, WHOLE, method="HEAD")
    assert b"".join(transport.writes).endswith(b"content-length: 2\r\n\r\n")


@pytest.mark.parametrize(
    "headers",
    [[(b"location", b"/\r\nset-cookie: a=b"), *START["headers"]], [(b"content-length", b"3")]],
    ids=["a line break", "another length"],
)
async def test_what_would_break_the_connection_is_never_sent(headers: list[tuple[bytes, bytes]]) -> None:
    transport = await answered({**START, "headers": headers}, WHOLE)
    assert b"set-cookie" not in b"".join(transport.writes)
    assert transport.closed
