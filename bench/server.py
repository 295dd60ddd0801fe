"""A Valkey of a benchmark's own, so that it measures nobody else's."""

import ctypes.util
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from cli.embedded import server_binary

START_S = 10.0


def jemalloc() -> str | None:
    """The library with the allocator that Redis and Valkey are built with where they are installed, in the dynamic
    linker's words; None if this machine does not have it. The embedded server has the C library's."""
    return ctypes.util.find_library("jemalloc")


@contextmanager
def valkey(*, aof: bool = False, preload: str | None = None) -> Iterator[str]:
    """The URL of an empty server, which ends with the block; with `aof` it writes its file every second. `preload`:
    a library that is to come before the server's own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [
                server_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "",
                "--appendonly", "yes" if aof else "no",
            ],
            stdout=subprocess.DEVNULL,
            env={**os.environ, **({"LD_PRELOAD": preload} if preload else {})},
        )  # fmt: skip
        try:
            _wait(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait()


def _wait(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with redis.Redis(port=port) as client:
                client.ping()
            return
        except redis.RedisError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
