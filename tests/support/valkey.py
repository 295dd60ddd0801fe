"""Servers for tests: a real Valkey per pytest worker, a fakeredis per test, and a fixture that runs on both.

tests/conftest.py hands the fixtures out. A test that stops, kills, freezes or configures its server starts one of
its own: `with running_valkey(tmp_path, aof=True) as valkey`.
"""

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError

from cli.embedded import server_binary
from cli.ports import claim_port
from jobs.connection import connect

HOST = "127.0.0.1"
_START_S = 20.0
_STOP_S = 10.0
_POLL_S = 0.01


class ValkeyProcess:
    """A valkey-server in a folder of its own. `settings` are further lines of its configuration.

    Without `aof` it keeps nothing on disk, with it every write before it is answered. A `sentinel` is one of
    Valkey's Sentinels instead.
    """

    def __init__(self, folder: Path, *settings: str, aof: bool = False, sentinel: bool = False) -> None:
        self._folder = folder
        self._sentinel = sentinel
        own = () if sentinel else ('save ""', f"appendonly {'yes' if aof else 'no'}", "appendfsync always")
        self._settings = (*own, *settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens; the same after a restart."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The server's process, once it was started."""
        assert self._process is not None, "start the server first"
        return self._process

    def start(self, *settings: str) -> None:
        """Start it, unless it runs, and wait until it serves; `settings` are further ones, for this time."""
        if self._process is not None and self._process.poll() is None:
            return
        wanted = self.port
        deadline = time.monotonic() + _START_S
        while True:
            self.port = wanted or free_port()
            self._launch(settings)
            while self.process.poll() is None:
                if self._serves():
                    return
                assert time.monotonic() < deadline, self._log()
                time.sleep(_POLL_S)
            # Another process may have taken the port between the look and the bind.
            assert "already in use" in self._log(), self._log()
            assert time.monotonic() < deadline, f"port {self.port} stays in use"

    def stop(self) -> None:
        """End it in order; also while it is frozen. Nothing to do if it does not run."""
        self._dismiss_guard()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(_STOP_S)

    def kill(self) -> None:
        """kill -9."""
        self._dismiss_guard()
        self.process.kill()
        self.process.wait(_STOP_S)

    def freeze(self) -> None:
        """It answers nothing any more, but its connections stay open, until `thaw`."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self.process.send_signal(signal.SIGCONT)

    def room_on_disk(self, more_bytes: int | None) -> None:
        """Let its append-only file grow by no more than that, as on a disk that is full; None: as it likes."""
        most = resource.RLIM_INFINITY
        if more_bytes is not None:
            most = max(path.stat().st_size for path in self.append_only_files) + more_bytes
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    @property
    def append_only_files(self) -> list[Path]:
        """The parts of its append-only file that hold commands; the last is the one that is written to."""
        return sorted((self._folder / "appendonlydir").glob("*.incr.aof"))

    def _launch(self, settings: tuple[str, ...]) -> None:
        self._dismiss_guard()
        self._folder.mkdir(parents=True, exist_ok=True)
        lines = (f"bind {HOST}", f"port {self.port}", f'dir "{self._folder}"', *self._settings, *settings)
        configuration = self._folder / "valkey.conf"
        configuration.write_text("\n".join(lines) + "\n")
        mode = ["--sentinel"] if self._sentinel else []
        with open(self._folder / "valkey.log", "wb") as log:
            self._process = subprocess.Popen(
                [server_binary(), configuration, *mode],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # As under Python itself, a write that `room_on_disk` does not let through fails, and kills nobody.
                restore_signals=False,
                # Ctrl-C ends pytest, which ends its servers.
                start_new_session=True,
            )

        # Its stdin ends with pytest, however that ends: a killed run leaves no server behind.
        self._guard = subprocess.Popen(
            ["sh", "-c", 'cat > /dev/null; kill -9 "$0"', str(self._process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            os.killpg(self._guard.pid, signal.SIGKILL)
            self._guard.communicate()
            self._guard = None

    def _serves(self) -> bool:
        with contextlib.closing(BlockingRedis(host=HOST, port=self.port, socket_timeout=1)) as client:
            try:
                info = cast(dict[str, object], client.info("server"))
                client.ping()
            except RedisError:
                return False
        # Another server may have been quicker to take the port.
        return info["process_id"] == self.process.pid

    def _log(self) -> str:
        return (self._folder / "valkey.log").read_text(errors="replace")


@contextlib.contextmanager
def running_valkey(folder: Path, *settings: str, aof: bool = False) -> Iterator[ValkeyProcess]:
    """A server of the test's own, ended with the block."""
    server = ValkeyProcess(folder, *settings, aof=aof)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """A port that nothing listens on at the moment; what is to listen there must be ready to find it taken."""
    return claim_port(HOST, 0)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    """A real Valkey that keeps nothing on disk, one for each pytest worker; leave its configuration alone."""
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(name="redis")
async def redis_on_valkey(valkey: ValkeyProcess) -> AsyncIterator[Redis]:
    """A client of an empty real Valkey."""
    client = connect(valkey.url, client_name="tests")
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def fake() -> AsyncIterator[Redis]:
    """A client of an empty fakeredis."""
    client = FakeAsyncRedis(server=FakeServer())
    yield client
    await client.aclose()


@pytest.fixture(params=["fakeredis", "valkey"])
def backend(request: pytest.FixtureRequest) -> ValkeyProcess | None:
    """Each test that asks for it, or for `server`, runs twice: None stands for fakeredis."""
    if request.param == "fakeredis":
        return None
    return cast(ValkeyProcess, request.getfixturevalue("valkey"))


@pytest.fixture
async def server(backend: ValkeyProcess | None) -> AsyncIterator[Redis]:
    """A client of an empty server, once of fakeredis and once of a real Valkey: for suites that both must pass."""
    client: Redis
    if backend is None:
        client = FakeAsyncRedis(server=FakeServer())
    else:
        client = connect(backend.url, client_name="tests")
        await client.flushall()
    yield client
    await client.aclose()
