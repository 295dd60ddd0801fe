"""The fixture that starts a system of real processes for one test."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.chaos.system import Shape, Start, System, running_system


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a system: `async with start(Shape(workers=2)) as system`."""

    def run(shape: Shape) -> AbstractAsyncContextManager[System]:
        return running_system(tmp_path / "system", shape)

    return run
