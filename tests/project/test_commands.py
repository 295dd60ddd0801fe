"""make and .ci/run, in a copy of the project whose PATH holds only the interpreters of the case."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.files import ROOT

COPIED = ["Makefile", "pyproject.toml", "requirements-dev.lock"]
OLD = "import sys; sys.version_info = (3, 10, 14)"
WITHOUT_ENSUREPIP = (
    "import importlib.util as util; found = util.find_spec; "
    "util.find_spec = lambda name: None if name == 'ensurepip' else found(name)"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A fresh clone's files that make needs, and an empty `bin` that is to be the PATH."""
    for name in COPIED:
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    return tmp_path


def command(checkout: Path, name: str, script: str) -> None:
    """Put a shell script on the checkout's PATH."""
    path = checkout / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def python(checkout: Path, name: str, *, changed: str = "") -> None:
    """Put this interpreter on the PATH, changed by a statement; beyond -c it only notes what it was asked."""
    command(
        checkout,
        name,
        f'prelude="{changed}\nimport sys; exec(sys.argv[2])"\n'
        f'if [ "$1" = -c ]; then exec "{sys.executable}" -c "$prelude" "$@"; fi\n'
        f'echo "{name} $*" >> "{checkout}/asked"; exit 7',
    )


def make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make there, knowing nothing of a make or an environment that may run these tests."""
    program = shutil.which("make")
    assert program
    return subprocess.run(
        [program, *arguments],
        cwd=checkout,
        env={"PATH": str(checkout / "bin")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def complaint(result: subprocess.CompletedProcess[str]) -> str:
    """The one line with which a failed make says why."""
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("make: ***")]
    return line


def test_no_python_at_all_is_said_in_one_line(checkout: Path) -> None:
    line = complaint(make(checkout, "test"))
    assert line.startswith("penstock: no Python >= 3.11")
    assert "make PYTHON=" in line


def test_a_python_that_is_too_old_is_no_python(checkout: Path) -> None:
    python(checkout, "python3", changed=OLD)
    assert complaint(make(checkout, "demo")).startswith("penstock: no Python >= 3.11")


def test_a_python_without_ensurepip_is_named_with_the_remedy(checkout: Path) -> None:
    python(checkout, "python3", changed=WITHOUT_ENSUREPIP)
    line = complaint(make(checkout, "test"))
    assert line.startswith("penstock: python3 cannot make virtual environments")
    assert "apt install python3-venv" in line


def test_the_first_interpreter_that_works_makes_the_environment(checkout: Path) -> None:
    command(checkout, "python3.13", "echo 'python3.13: command not found' >&2; exit 127")
    python(checkout, "python3.12", changed=WITHOUT_ENSUREPIP)
    python(checkout, "python3.11")
    python(checkout, "python3")
    assert make(checkout, "test").returncode == 2
    assert (checkout / "asked").read_text().splitlines() == [
        "python3.11 --version",
        "python3.11 -m venv --clear .venv",
    ]


def test_the_interpreter_can_be_chosen(checkout: Path) -> None:
    python(checkout, "python3.13")
    python(checkout, "mine")
    assert make(checkout, "test", "PYTHON=mine").returncode == 2
    assert (checkout / "asked").read_text().startswith("mine ")


def test_a_second_demo_sets_nothing_up_again(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / ".installed").touch()
    result = make(checkout, "-n", "demo", "ARGS=--exit")
    assert result.stdout.splitlines() == ["exec .venv/bin/penstock demo --exit"]


def test_a_changed_lock_is_installed_before_the_tests_run(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    stamp = checkout / ".venv" / ".installed"
    stamp.touch()
    later = stamp.stat().st_mtime + 1
    os.utime(checkout / "requirements-dev.lock", (later, later))
    plan = make(checkout, "-n", "test").stdout
    assert plan.index("--require-hashes -r requirements-dev.lock") < plan.index("-m pytest")


def test_every_check_is_named_before_it_runs(checkout: Path) -> None:
    checks = ["ruff format --check", "ruff check", "mypy", "lint-imports", "pytest"]
    steps = [
        line for line in make(checkout, "-n", "test").stdout.splitlines() if line.startswith("echo '== ")
    ]
    assert len(steps) == len(checks)
    for step, check in zip(steps, checks, strict=True):
        title, _, program = step.partition("&&")
        assert check in title
        assert check in program


def test_ci_runs_make_test_in_the_root(checkout: Path) -> None:
    shutil.copytree(ROOT / ".ci", checkout / ".ci")
    command(checkout, "make", 'echo "make $* in $(pwd -P)"; exit 3')
    result = subprocess.run(
        [checkout / ".ci" / "run"],
        cwd=checkout / "bin",
        env={"PATH": f"{checkout / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.stdout.splitlines() == [f"make test in {checkout.resolve()}"]
    assert result.returncode == 3
