"""The example file and docs/configuration.md say what the code does, about every setting."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from jobs.config import Config, ConfigError
from jobs.config.load import load, parse
from jobs.environment import Environment

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "penstock.example.yaml"
REFERENCE = (ROOT / "docs" / "configuration.md").read_text()


def settings(kind: Any = Config) -> Iterator[str]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield name
            yield from settings(field.annotation)
    for part in get_args(kind):
        yield from settings(part)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", REFERENCE, re.MULTILINE | re.DOTALL)


def test_the_example_file_is_the_built_in_configuration() -> None:
    assert load(EXAMPLE) == Config()
    assert load(EXAMPLE).digest() == Config().digest()


@pytest.mark.parametrize("setting", sorted(set(settings())))
def test_every_setting_is_in_the_example_file_and_in_the_reference(setting: str) -> None:
    assert re.search(rf"^[# ]*{setting}:", EXAMPLE.read_text(), re.MULTILINE)
    assert f"`{setting}`" in REFERENCE


def test_the_commented_examples_can_be_used() -> None:
    examples = re.findall(r"^#   (.*)$", EXAMPLE.read_text(), re.MULTILINE)

    config = parse("\n".join(examples).encode(), EXAMPLE)

    assert config.anonymous is not None
    assert config.routes


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_example_of_the_reference_can_be_used(block: str) -> None:
    assert parse(block.encode(), EXAMPLE) != Config()


def test_the_references_messages_are_those_that_are_given() -> None:
    source = """\
tiers:
  free:
    tokens_per_day: 50k
providers:
  openai:
    base_url: https://api.openai.com/v1
    acounting: openai
    timeout_s: -1
    models: {gpt-4o: {}}
"""

    with pytest.raises(ConfigError) as refusal:
        parse(source.encode(), Path("penstock.yaml"))

    assert blocks("text") == [f"{refusal.value}\n"]


@pytest.mark.parametrize("field", Environment.model_fields.values(), ids=Environment.model_fields)
def test_every_environment_variable_is_in_the_reference(field: Any) -> None:
    assert re.search(rf"^\| `{field.validation_alias}` +\|", REFERENCE, re.MULTILINE)
