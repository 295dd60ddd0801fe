"""A TCP proxy in front of Valkey: cuts connections, loses answers of commands that ran, delays, goes deaf.

It stands between the processes of a system and their Valkey, in the loop of the test that does this to them.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

_CHUNK_BYTES = 1 << 20
_REMEMBERED_BYTES = 200_000


@dataclass(slots=True)
class Loss:
    """Answers to be lost: of commands that hold `asked`, where the answer holds `told`; `times` of them."""

    asked: bytes
    told: bytes
    times: int
    happened: int = 0


class Proxy:
    """Passes everything on, unless told otherwise. `delay_s` is added to each piece of an answer."""

    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self._open: set[_Connection] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self.port = 0
        self.delay_s = 0.0
        self.deaf = False
        self.half_cut = False
        self.losses: list[Loss] = []

    def cut(self) -> None:
        """Break all connections there are."""
        for connection in list(self._open):
            connection.abort()

    def freeze(self) -> None:
        """Nothing passes, and no connection breaks, until `thaw`."""
        self._flows.clear()

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._flows.set()

    def lose(self, *, asked: bytes = b"", told: bytes = b"", times: int = 1) -> Loss:
        """Cut the connection instead of passing on the next answers like this; what was asked for was done."""
        loss = Loss(asked, told, times)
        self.losses.append(loss)
        return loss

    def heal(self) -> None:
        """Pass everything on again."""
        self.delay_s, self.deaf, self.half_cut = 0.0, False, False
        self.losses.clear()
        self.thaw()

    async def serve(self, accepted: socket.socket) -> None:
        """One connection, from its beginning to its end."""
        client = await asyncio.open_connection(sock=accepted)
        try:
            if self.deaf:
                return
            try:
                server = await asyncio.open_connection(*self._to)
            except OSError:
                return
            connection = _Connection(self, client, server)
            self._open.add(connection)
            try:
                await connection.run()
            finally:
                connection.abort()
                self._open.discard(connection)
        finally:
            client[1].transport.abort()

    async def pass_on(self) -> None:
        """Returns when something may pass."""
        await self._flows.wait()
        if self.delay_s:
            await asyncio.sleep(self.delay_s)


class _Connection:
    def __init__(
        self,
        proxy: Proxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._asked = b""

    def abort(self) -> None:
        for _, writer in (self._client, self._server):
            writer.transport.abort()

    async def run(self) -> None:
        pumps = [asyncio.create_task(self._ask()), asyncio.create_task(self._answer())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _ask(self) -> None:
        with suppress(OSError):
            while asked := await self._client[0].read(_CHUNK_BYTES):
                await self._proxy.pass_on()
                # More than the last piece: other commands may follow before the answer comes.
                self._asked = (self._asked + asked)[-_REMEMBERED_BYTES:]
                self._server[1].write(asked)
                await self._server[1].drain()

    async def _answer(self) -> None:
        with suppress(OSError):
            while told := await self._server[0].read(_CHUNK_BYTES):
                await self._proxy.pass_on()
                if self._proxy.half_cut or self._is_lost(told):
                    return
                self._client[1].write(told)
                await self._client[1].drain()

    def _is_lost(self, told: bytes) -> bool:
        for loss in self._proxy.losses:
            if loss.happened < loss.times and loss.asked in self._asked and loss.told in told:
                loss.happened += 1
                return True
        return False


@asynccontextmanager
async def proxied(host: str, port: int) -> AsyncIterator[Proxy]:
    """A proxy of that server, on a port of its own."""
    proxy = Proxy(host, port)
    serving: set[asyncio.Task[None]] = set()

    # Not by asyncio.start_server: it makes the transport of what it accepted a turn of the loop later, and forgets
    # the connection if it was closed in between.
    def accept() -> None:
        accepted, _ = listener.accept()
        accepted.setblocking(False)
        task = asyncio.ensure_future(proxy.serve(accepted))
        serving.add(task)
        task.add_done_callback(serving.discard)
        # Also of one that was cancelled before it began.
        task.add_done_callback(lambda _: accepted.close())

    loop = asyncio.get_running_loop()
    with socket.create_server((host, 0), backlog=100) as listener:
        listener.setblocking(False)
        proxy.port = listener.getsockname()[1]
        loop.add_reader(listener, accept)
        try:
            yield proxy
        finally:
            loop.remove_reader(listener)
            left = list(serving)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            # What was aborted is closed in the next turn of the loop.
            await asyncio.sleep(0)
