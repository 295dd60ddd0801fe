"""Fixtures of the API's tests; what they are made of is in harness.py."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from tests.api.harness import Api, running_api

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
async def api(redis: "Redis") -> AsyncIterator[Api]:
    """An API process on an empty Valkey."""
    async with running_api(redis) as api:
        yield api
