"""The wheel carries the whole of every room, data files too, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.project.files import ROOT, pyproject, rooms


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the files in the project's wheel, built anew."""
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=True,
    )
    (file,) = directory.glob("*.whl")
    with zipfile.ZipFile(file) as wheel:
        return wheel.namelist()


def files_of(room: str) -> set[str]:
    """The room's files as the repository has them."""
    paths = (path for path in (ROOT / room).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in paths if "__pycache__" not in path.parts}


def test_every_file_of_every_room_is_in_the_wheel_and_nothing_else(packed: list[str]) -> None:
    code = {name for name in packed if ".dist-info/" not in name}
    assert code == set().union(*(files_of(room) for room in rooms()))


def test_the_licence_and_the_origins_come_with_it(packed: list[str]) -> None:
    names = {Path(name).name for name in packed if ".dist-info/licenses/" in name}
    assert names == {"LICENSE", "NOTICE"}


def test_the_command_is_declared() -> None:
    module, _, function = pyproject().project.scripts["penstock"].partition(":")
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    assert function == "main"
