"""Where the repository is and what it declares about itself, for the tests beside this file."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from pydantic import BaseModel, ConfigDict, Field

ROOT = Path(__file__).resolve().parents[2]


class Declaration(BaseModel):
    """A table of pyproject.toml, of which only some keys matter here."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class IncludedGroup(Declaration):
    """A dependency group taken over by another one."""

    group: str = Field(alias="include-group")


class Project(Declaration):
    """The `project` table."""

    name: str
    dependencies: list[str]
    scripts: dict[str, str]


class BuildSystem(Declaration):
    """The `build-system` table."""

    requires: list[str]


class Pyproject(Declaration):
    """pyproject.toml without the tools' settings."""

    build_system: BuildSystem = Field(alias="build-system")
    project: Project
    groups: dict[str, list[str | IncludedGroup]] = Field(alias="dependency-groups")

    def group(self, name: str) -> list[Requirement]:
        """What a dependency group asks for, included groups resolved."""
        found: list[Requirement] = []
        for entry in self.groups[name]:
            found += self.group(entry.group) if isinstance(entry, IncludedGroup) else [Requirement(entry)]
        return found


def pyproject() -> Pyproject:
    """Read pyproject.toml."""
    return Pyproject.model_validate(tomllib.loads((ROOT / "pyproject.toml").read_text()))


def rooms() -> list[str]:
    """The top-level packages that are shipped: those at hand but for the tests and the benchmarks."""
    packages = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
    return [name for name in packages if name not in {"bench", "tests"}]
