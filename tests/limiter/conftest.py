"""Rigs for the limiter's tests: on both servers, or on the real one alone."""

import contextlib
from collections.abc import Iterator

import pytest
from fakeredis import FakeRedis, FakeServer
from redis import Redis

from tests.limiter.rig import Rig
from tests.support.valkey import HOST, ValkeyProcess


@pytest.fixture
def rig(backend: ValkeyProcess | None) -> Iterator[Rig]:
    """A limiter on an empty server, once of fakeredis and once of a real Valkey."""
    if backend is None:
        client: Redis = FakeRedis(server=FakeServer())
    else:
        client = Redis(host=HOST, port=backend.port)
        client.flushall()
    with contextlib.closing(client):
        yield Rig(client)


@pytest.fixture
def blocking(valkey: ValkeyProcess) -> Iterator[Redis]:
    """A blocking client of an empty real Valkey, for whoever makes rigs of his own."""
    with contextlib.closing(Redis(host=HOST, port=valkey.port)) as client:
        client.flushall()
        yield client
