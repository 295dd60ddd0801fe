"""The locks pin every dependency with hashes, agree with each other, and name no registry."""

import re
from dataclasses import dataclass

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.project.files import ROOT, pyproject

LOCKS = ["requirements.lock", "requirements-build.lock", "requirements-dev.lock"]


@dataclass(frozen=True, slots=True)
class Pin:
    """One locked release."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def version(self) -> str:
        """The only version that the pin allows."""
        (specifier,) = self.requirement.specifier
        assert specifier.operator == "==", self.requirement
        return specifier.version


def read_lock(name: str) -> dict[str, Pin]:
    """The pins of a lock by canonical name."""
    logical_lines = (ROOT / name).read_text().replace("\\\n", " ").splitlines()
    pins: dict[str, Pin] = {}
    for line in logical_lines:
        if not line.lstrip().startswith("#"):
            requirement, *hashes = line.split(" --hash=")
            pin = Pin(Requirement(requirement.strip()), tuple(part.strip() for part in hashes))
            pins[canonicalize_name(pin.requirement.name)] = pin
    return pins


def assert_satisfied(wanted: list[Requirement], pins: dict[str, Pin]) -> None:
    """Every wanted requirement has a pin within its bounds."""
    for requirement in wanted:
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin, f"{requirement} is not locked: run make lock"
        assert requirement.specifier.contains(pin.version, prereleases=True), f"{requirement}: run make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_sha256_hashes(lock: str) -> None:
    pins = read_lock(lock)
    assert pins
    for name, pin in pins.items():
        assert pin.version, name
        assert pin.hashes, name
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", value) for value in pin.hashes), name


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_host_and_no_path(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "/" not in text
    assert "--index" not in text
    assert "--find-links" not in text


def test_every_declared_dependency_is_locked() -> None:
    declared = pyproject()
    runtime = [Requirement(text) for text in declared.project.dependencies]
    assert_satisfied(runtime, read_lock("requirements.lock"))
    assert_satisfied(runtime + declared.group("dev"), read_lock("requirements-dev.lock"))
    assert_satisfied(declared.group("build"), read_lock("requirements-build.lock"))


@pytest.mark.parametrize("lock", ["requirements-build.lock", "requirements-dev.lock"])
def test_the_build_backend_is_locked_where_the_project_is_installed_without_isolation(lock: str) -> None:
    assert_satisfied([Requirement(text) for text in pyproject().build_system.requires], read_lock(lock))


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-build.lock"])
def test_what_is_shipped_is_what_is_tested(lock: str) -> None:
    tested = read_lock("requirements-dev.lock")
    assert {
        name: pin.version for name, pin in read_lock(lock).items() if tested[name].version != pin.version
    } == {}
