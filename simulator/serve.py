"""Running the simulator: as a process until told to stop (`run`), or in the current loop (`running`)."""

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from uvicorn.config import Config
from uvicorn.server import ServerState

from simulator.app import Simulator, create_app
from simulator.connection import SimulatorProtocol
from simulator.errors import SimulatorError
from simulator.faults import parse_faults
from simulator.log import LogEntry
from simulator.settings import SimulatorSettings
from simulator.stats import Stats

__all__ = ["RunningSimulator", "create_app", "run", "running"]

_BACKLOG = 2048
_KEEP_ALIVE_S = 75
_NO_FULL_COLLECTION = 1_000_000


@dataclass(frozen=True, slots=True)
class RunningSimulator:
    """A simulator that listens at `url`, `http://host:port` (an OpenAI client wants `/v1` behind it)."""

    url: str
    _app: Simulator

    def log(self, after: int = 0) -> list[LogEntry]:
        """Copies of the log's entries with an id above `after`, finished or not."""
        return self._app.log(after)

    def stats(self) -> Stats:
        """The totals so far, and what the buckets hold now."""
        return self._app.stats()

    def clear(self) -> None:
        """Forget the log, the totals and the greatest windows."""
        self._app.clear()

    def set_faults(self, text: str) -> None:
        """Put other rates and another schedule in force (YAML or JSON); a `FaultsError` if they are wrong."""
        self._app.set_faults(parse_faults(text, "faults"))


@asynccontextmanager
async def running(settings: SimulatorSettings) -> AsyncIterator[RunningSimulator]:
    """Serve in the current event loop until the context ends, which cuts all connections.

    A `SimulatorError` says why it cannot start. Signals are left alone.
    """
    app = create_app(settings)
    # uvicorn's protocol without its server, which would take over the signals and take its time to stop.
    config = Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    config.load()
    state = ServerState()
    try:
        server = await asyncio.get_running_loop().create_server(
            lambda: SimulatorProtocol(config, state, {}), settings.host, settings.port, backlog=_BACKLOG
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise SimulatorError(
            f"cannot listen on {settings.host}:{settings.port}: {reason}; choose another host or port"
        ) from error
    try:
        yield RunningSimulator(f"http://{_authority(settings.host, server.sockets[0].getsockname()[1])}", app)
    finally:
        server.close()
        for connection in list(state.connections):
            if isinstance(connection, SimulatorProtocol):
                connection.transport.abort()
        if state.tasks:
            await asyncio.wait(list(state.tasks))
        await server.wait_closed()


def run(settings: SimulatorSettings) -> None:
    """Serve until SIGTERM or SIGINT; says `simulator listening on http://host:port` on stdout once it does.

    A `SimulatorError` says why it cannot start.
    """
    # A full collection would go through hundreds of thousands of log entries, and stop all answers meanwhile.
    gc.set_threshold(*gc.get_threshold()[:2], _NO_FULL_COLLECTION)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve_until_told(settings))


async def _serve_until_told(settings: SimulatorSettings) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, told.set)
    async with running(settings) as simulator:
        # Nobody may be reading any more: that is no reason to stop.
        with suppress(BrokenPipeError):
            sys.stdout.write(f"simulator listening on {simulator.url}\n")
            sys.stdout.flush()
        await told.wait()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's loops where it can be installed, else the standard ones."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _authority(host: str, port: int) -> str:
    """Host and port as they stand in a URL that this machine can call."""
    if host in ("0.0.0.0", "::", ""):
        host = "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
