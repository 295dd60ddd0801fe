"""What deploys Penstock on Kubernetes names what there is. Rendering with Helm itself: chart.py, by `make chart`."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.project.chart import CHART
from tests.project.files import ROOT

TEMPLATES = sorted(
    path for path in (CHART / "templates").iterdir() if path.suffix in (".yaml", ".tpl", ".txt")
)
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
KEDA = ROOT / "deploy" / "keda" / "worker.yaml"
SCALE = ROOT / "deploy" / "compose" / "scale.sh"
OPEN = ("config", "secrets")
"""Values in which everything may be."""


def named(text: str) -> set[str]:
    """The values that a template names."""
    return set(re.findall(r"\.Values\.([\w.]+)", text))


def all_values(values: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from all_values(value, f"{above}{name}.")
        else:
            yield above + name


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_value_that_a_template_names_is_in_the_values(template: Path) -> None:
    for path in named(template.read_text()):
        found: Any = VALUES
        for part in path.split("."):
            if path.split(".")[0] in OPEN:
                break
            assert part in found, path
            found = found[part]


def test_every_value_is_used() -> None:
    used = {path for template in TEMPLATES for path in named(template.read_text())}
    for value in all_values(VALUES):
        # A part that is used as a whole is written out by toYaml.
        assert any(value == path or value.startswith(f"{path}.") for path in used), value


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_close_what_they_open(template: Path) -> None:
    words = re.findall(r"\{\{-? *(?:/\*.*?\*/|(\w+))?", template.read_text(), re.DOTALL)
    opened = sum(word in ("if", "with", "range", "define") for word in words)
    assert opened == words.count("end")


def test_the_keda_example_reads_the_number_that_scaling_tells() -> None:
    authentication, scaled = yaml.safe_load_all(KEDA.read_text())
    [trigger] = scaled["spec"]["triggers"]
    assert trigger["type"] == "metrics-api"
    assert trigger["metadata"] == {
        "url": "http://penstock-api:8080/v1/scaling",
        "format": "json",
        "valueLocation": "workers.recommended",
        "targetValue": "1",
        "authMode": "bearer",
    }
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    assert authentication["spec"]["secretTargetRef"][0]["parameter"] == "token"


def test_the_chart_and_the_example_ask_alike() -> None:
    chart = (CHART / "templates" / "scaledobject.yaml").read_text()
    [trigger] = list(yaml.safe_load_all(KEDA.read_text()))[1]["spec"]["triggers"]
    for name, value in trigger["metadata"].items():
        if name != "url":
            assert re.search(rf'{name}: "?{value}"?$', chart, re.MULTILINE), name


def test_the_script_for_compose_can_be_run_and_names_a_service_that_there_is() -> None:
    assert os.access(SCALE, os.X_OK)
    subprocess.run(["sh", "-n", SCALE], check=True)
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert "worker" in services
    assert "--scale worker=" in SCALE.read_text()
