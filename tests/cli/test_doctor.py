"""`penstock doctor`: what it finds wrong, and what it says to change."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Done, Run
from tests.simulator.process import started
from tests.support.valkey import ValkeyProcess, running_valkey

SECRETS = {"PENSTOCK_SECRET": "a secret of the tests", "PENSTOCK_ADMIN_KEY": "an-admin-key-of-the-tests"}
NO_PROVIDER = "providers: {{p: {{base_url: '{url}', {key} models: {{m: {{}}}}}}}}\n"


def findings(done: Done, about: str) -> list[tuple[str, str]]:
    """Level and text of what was found about one thing."""
    return [(one["level"], one["text"]) for one in json.loads(done.out) if one["about"] == about]


def configure(directory: Path, url: str, key: str = "") -> None:
    (directory / "penstock.yaml").write_text(NO_PROVIDER.format(url=url, key=key))


def test_a_fresh_directory_needs_only_the_providers_key(penstock: Run, directory: Path) -> None:
    done = penstock("doctor", "--json")
    assert done.status == 1
    assert [(one["about"], one["level"]) for one in json.loads(done.out)] == [
        ("configuration", "ok"),
        ("secrets", "ok"),
        ("redis", "ok"),
        ("tokenizer", "ok"),
        ("provider openai", "error"),
    ]
    assert findings(done, "provider openai")[0][1].startswith("OPENAI_API_KEY is not set")
    assert list(directory.iterdir()) == []


def test_the_table_says_the_same(penstock: Run) -> None:
    done = penstock("doctor")
    assert done.status == 1
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        ["ok", "configuration"],
        ["ok", "secrets"],
        ["ok", "redis"],
        ["ok", "tokenizer"],
        ["error", "provider"],
    ]


def test_every_mistake_of_the_configuration_is_named(penstock: Run, directory: Path) -> None:
    (directory / "penstock.yaml").write_text("tiers: {free: {weigth: 1}}\nlimits: {body_bytes: 0}\n")
    done = penstock("doctor", "--json")
    assert done.status == 1
    found = findings(done, "configuration")
    assert [level for level, _ in found] == ["error", "error"]
    assert "penstock.yaml:1: tiers.free.weigth" in found[0][1]
    assert "penstock.yaml:2: limits.body_bytes" in found[1][1]


def test_a_server_that_would_lose_jobs_is_an_error(penstock: Run, valkey: ValkeyProcess) -> None:
    done = penstock("doctor", "--json", REDIS_URL=valkey.url, **SECRETS)
    assert done.status == 1
    found = findings(done, "redis")
    assert found[0][0] == "ok"
    assert "Valkey" in found[0][1]
    assert "clock off by" in found[0][1]
    assert "error" in [level for level, _ in found]
    assert any("append-only" in text for _, text in found)


def test_a_server_that_keeps_everything_is_fine(penstock: Run, directory: Path) -> None:
    with running_valkey(directory / "valkey", aof=True) as server, started() as simulator:
        configure(directory, f"{simulator.url}/v1")
        done = penstock("doctor", "--json", REDIS_URL=server.url, **SECRETS)
    assert done.status == 0
    assert {one["level"] for one in json.loads(done.out)} == {"ok"}


def test_a_server_that_is_not_there_is_an_error_without_its_password(penstock: Run) -> None:
    done = penstock("doctor", "--json", REDIS_URL="redis://:opensesame@127.0.0.1:9/0", **SECRETS)
    ((level, text),) = findings(done, "redis")
    assert (done.status, level) == (1, "error")
    assert text.startswith("Redis cannot be used: ")
    assert "opensesame" not in done.out + done.err


@pytest.mark.parametrize(
    ("given", "level", "text"),
    [
        ({}, "error", "PENSTOCK_SECRET is not set"),
        ({**SECRETS, "PENSTOCK_SECRET": "short"}, "error", "PENSTOCK_SECRET could be guessed"),
        ({**SECRETS, "PENSTOCK_ADMIN_KEY": "short"}, "error", "PENSTOCK_ADMIN_KEY could be guessed"),
        ({"PENSTOCK_SECRET": SECRETS["PENSTOCK_SECRET"]}, "warning", "PENSTOCK_ADMIN_KEY is not set"),
        (SECRETS, "ok", "the secret and the admin key are set"),
    ],
)
def test_secrets(penstock: Run, valkey: ValkeyProcess, given: dict[str, str], level: str, text: str) -> None:
    done = penstock("doctor", "--json", REDIS_URL=valkey.url, **given)
    found = findings(done, "secrets")
    assert found[0][0] == level
    assert found[0][1].startswith(text)


def test_a_provider_that_is_not_there_is_a_warning(penstock: Run, directory: Path) -> None:
    configure(directory, "http://127.0.0.1:9/v1")
    done = penstock("doctor", "--json")
    ((level, text),) = findings(done, "provider p")
    assert (done.status, level) == (0, "warning")
    assert text.startswith("http://127.0.0.1:9/v1/models does not answer")


def test_a_key_that_the_provider_refuses_is_a_warning_without_the_key(penstock: Run, directory: Path) -> None:
    with started("api_key='the right one'") as simulator:
        configure(directory, f"{simulator.url}/v1", key="api_key_env: P_KEY,")
        refused = penstock("doctor", "--json", P_KEY="a-wrong-one")
        taken = penstock("doctor", "--json", P_KEY="the right one")
    ((level, text),) = findings(refused, "provider p")
    assert (refused.status, level) == (0, "warning")
    assert text.endswith("refuses the key (401): check P_KEY")
    assert "a-wrong-one" not in refused.out
    assert findings(taken, "provider p")[0][0] == "ok"


def test_an_address_without_the_api_is_a_warning(penstock: Run, directory: Path) -> None:
    with started() as simulator:
        configure(directory, f"{simulator.url}/v2")
        done = penstock("doctor", "--json")
    ((level, text),) = findings(done, "provider p")
    assert (done.status, level) == (0, "warning")
    assert text.endswith("answers 404: check base_url")
