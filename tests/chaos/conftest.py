"""The fixtures that start systems of real processes; all tests of this folder run in one loop, to share one."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.chaos.system import Shape, Start, System, running_system


class Lender:
    """Hands one system from test to test while they want the same shape and leave it well; else starts another."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._system: System | None = None
        self._running = AsyncExitStack()

    @asynccontextmanager
    async def lend(self, shape: Shape) -> AsyncIterator[System]:
        """A system of this shape on which everything runs; it may have seen other users and jobs."""
        if self._system is None or self._system.shape != shape:
            await self.end()
            folder: Path = self._folders.mktemp("chaos") / "system"
            self._system = await self._running.enter_async_context(running_system(folder, shape))
        try:
            yield self._system
            await self._system.heal()
            await self._system.forget()
        except BaseException:
            print(self._system.logs())  # noqa: T201  (pytest shows it with the failure)
            await self.end()
            raise

    async def end(self) -> None:
        """Nothing is left running."""
        self._system = None
        await self._running.aclose()
        self._running = AsyncExitStack()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def lender(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lender]:
    """The one of this run."""
    lender = Lender(tmp_path_factory)
    yield lender
    await lender.end()


@pytest.fixture
def start(lender: Lender) -> Start:
    """Lends a system: `async with start(USUAL) as system`."""

    def lend(shape: Shape) -> AbstractAsyncContextManager[System]:
        return lender.lend(shape)

    return lend
