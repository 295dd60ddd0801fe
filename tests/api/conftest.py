"""Fixtures of the API's tests; what they are made of is in harness.py."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from tests.api.harness import Api, running_api
from tests.api.server import Served, serving

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
async def api(redis: "Redis") -> AsyncIterator[Api]:
    """An API process on an empty Valkey."""
    async with running_api(redis) as api:
        yield api


@pytest.fixture
async def served(redis: "Redis") -> AsyncIterator[Served]:
    """An API process on an empty Valkey, behind the real server."""
    async with serving(redis) as served:
        yield served
