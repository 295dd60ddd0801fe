"""The API as a process: configuration, Redis and the HTTP server, from start to drain.

`penstock api` calls `run`; `penstock up` and the tests use `serve` inside a loop of their own.
"""

import asyncio
import gc
import socket
from types import FrameType

import structlog
import uvicorn

from api.app import Application, create_app
from api.protocol import BoundedProtocol
from jobs.config.load import load
from jobs.connection import connect
from jobs.environment import Environment, SettingsError

DRAIN_S = 10
"""Long polls are answered at the signal; what is left are requests in the middle of a body."""
KEEP_ALIVE_S = 75
"""Longer than usual load balancers keep an idle connection, so that they close it, not we under their request."""
MAX_CONNECTIONS = 100

log = structlog.get_logger(__name__)


class Server(uvicorn.Server):
    """uvicorn, but whoever waits for a job is answered at once when the process is told to stop."""

    def __init__(self, app: Application, *, host: str, port: int) -> None:
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=BoundedProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                # Which address counts is decided in clients.py, by the configuration.
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=DRAIN_S,
            )
        )

    def stop(self) -> None:
        """End as by SIGTERM; to be called on the server's loop."""
        self._app.service.waiters.drain()
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Remembers the loop for the signals."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends the drain. Unlike uvicorn's own, it lets the process end with 0."""
        self.force_exit = self.should_exit
        self.should_exit = True
        if self._loop is not None:
            # We may be between any two instructions: the loop has to do the rest.
            self._loop.call_soon_threadsafe(self._app.service.waiters.drain)

    @property
    def port(self) -> int:
        """The port that is listened on, which the system chose if it was to be 0."""
        address: tuple[str, int] = self.servers[0].sockets[0].getsockname()
        return address[1]


async def serve(environment: Environment) -> None:
    """Serves until told to stop. Raises ConfigError and SettingsError before it listens."""
    if environment.redis_url is None:
        raise SettingsError(
            "REDIS_URL: is required; penstock up brings its own server, penstock api does not"
        )
    config = load(environment.config_path)
    redis = connect(environment.redis_url, client_name="penstock-api", max_connections=MAX_CONNECTIONS)
    try:
        app = create_app(config, environment, redis)
        await Server(app, host=environment.host, port=environment.port).serve()
    finally:
        await redis.aclose()


def run(environment: Environment) -> None:
    """The whole process; returns after a drain. Raises ConfigError and SettingsError."""
    import uvloop  # not there on Windows, where asyncio's own loop has to do

    # What has been imported stays: garbage is not to be looked for in it again and again.
    gc.freeze()
    uvloop.run(serve(environment))
