"""docker-compose.yml: a durable Valkey, unprivileged processes, room to drain, commands that exist."""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field

from jobs.config import Config
from jobs.config.load import load
from jobs.environment import Environment
from tests.project.files import ROOT

DEMO_CONFIG = ROOT / "deploy" / "compose" / "penstock.demo.yaml"
OURS = ["api", "simulator", "worker"]
SECRETS = {"PENSTOCK_SECRET": "s" * 64, "PENSTOCK_ADMIN_KEY": "a" * 64}


class Part(BaseModel):
    """A mapping of the compose file, of which only some keys matter here."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class HealthCheck(Part):
    """How Docker learns that a container does its work."""

    test: list[str]


class Mount(Part):
    """A file or folder of the host in a container."""

    source: str
    target: str
    read_only: bool


class Condition(Part):
    """What a service waits for before it starts."""

    condition: str


class Service(Part):
    """One service, its merged parts included."""

    image: str
    command: list[str]
    environment: dict[str, str | None] = {}
    volumes: list[str | Mount] = []
    ports: list[str] = []
    profiles: list[str] = []
    healthcheck: HealthCheck | None = None
    depends_on: dict[str, Condition] = {}
    container_name: str | None = None
    read_only: bool = False
    tmpfs: str | None = None
    cap_drop: list[str] = []
    security_opt: list[str] = []
    user: str | None = None
    stop_grace_period: str = "10s"

    @property
    def stop_grace_s(self) -> int:
        """Seconds between SIGTERM and SIGKILL."""
        return int(self.stop_grace_period.removesuffix("s"))


class Compose(Part):
    """The whole file."""

    services: dict[str, Service]
    volumes: dict[str, None] = Field(default_factory=dict)


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """The text as compose reads it: `${NAME}`, `${NAME:-default}`, `${NAME:?message}` replaced, and `$$`."""

    def value(match: re.Match[str]) -> str:
        name, operator, operand = match["name"], match["operator"], match["operand"]
        if name is None:
            return "$"
        if variables.get(name):
            return variables[name]
        assert operator != ":?", f"{name}: {operand}"
        return operand or ""

    return re.sub(r"\$(?:\$|\{(?P<name>\w+)(?:(?P<operator>:[-?])(?P<operand>[^}]*))?\})", value, text)


def compose(variables: Mapping[str, str] = SECRETS) -> Compose:
    """docker-compose.yml, read with these variables set."""
    return Compose.model_validate(
        yaml.safe_load(interpolated((ROOT / "docker-compose.yml").read_text(), variables))
    )


def mounted_config(service: Service) -> Mount:
    """The service's mounted configuration."""
    (mount,) = [volume for volume in service.volumes if isinstance(volume, Mount)]
    return mount


def test_valkey_api_and_worker_run_and_the_simulator_only_in_the_demo() -> None:
    services = compose().services
    assert {name: service.profiles for name, service in services.items()} == {
        "valkey": [],
        "api": [],
        "worker": [],
        "simulator": ["demo"],
    }


def test_valkey_keeps_every_key_on_disk() -> None:
    whole = compose()
    valkey = whole.services["valkey"]
    options = dict(zip(valkey.command[1::2], valkey.command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert [f"{volume}:/data" for volume in whole.volumes] == valkey.volumes


@pytest.mark.parametrize("name", [*OURS, "valkey"])
def test_no_process_may_more_than_it_needs(name: str) -> None:
    service = compose().services[name]
    assert service.read_only
    assert service.tmpfs == "/tmp"
    assert service.cap_drop == ["ALL"]
    assert service.security_opt == ["no-new-privileges:true"]


def test_valkey_does_not_start_as_root() -> None:
    assert compose().services["valkey"].user == "valkey"


@pytest.mark.parametrize("name", OURS)
def test_every_process_runs_the_one_image_with_a_command_that_penstock_has(name: str) -> None:
    service = compose().services[name]
    assert service.image == "penstock"
    result = subprocess.run(
        [Path(sys.executable).with_name("penstock"), *service.command, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["valkey", "api", "simulator"])
def test_what_others_call_has_a_health_check(name: str) -> None:
    assert compose().services[name].healthcheck


def test_the_api_counts_as_healthy_when_it_is_ready() -> None:
    check = compose().services["api"].healthcheck
    assert check
    assert check.test[:3] == ["CMD", "python", "-c"]
    assert "http://127.0.0.1:8080/readyz" in check.test[3]
    compile(check.test[3], "health check", "exec")


@pytest.mark.parametrize("name", ["api", "worker"])
def test_nothing_starts_before_valkey_answers(name: str) -> None:
    assert compose().services[name].depends_on["valkey"].condition == "service_healthy"


def test_workers_can_be_scaled() -> None:
    worker = compose().services["worker"]
    assert worker.container_name is None
    assert worker.ports == []


@pytest.mark.parametrize("name", ["api", "worker"])
@pytest.mark.parametrize("config", [Config(), load(DEMO_CONFIG)], ids=["built-in", "demo"])
def test_a_stopping_process_has_time_for_its_longest_call(name: str, config: Config) -> None:
    drain_s = max(provider.timeout_s for provider in config.providers.values())
    assert compose().services[name].stop_grace_s > drain_s


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_a_missing_secret_stops_the_start_with_the_command_that_makes_one(missing: str) -> None:
    given = {name: value for name, value in SECRETS.items() if name != missing}
    with pytest.raises(AssertionError, match=f"{missing}: make one with openssl rand"):
        compose(given)


@pytest.mark.parametrize("name", ["api", "worker"])
def test_the_environment_is_one_that_penstock_accepts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = compose().services[name].environment
    known = {str(field.validation_alias) for field in Environment.model_fields.values()}
    assert set(variables) - known == {"OPENAI_API_KEY"}
    for variable in known:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value or "")
    environment = Environment.load()
    assert environment.redis_url == "redis://valkey:6379/0"
    assert environment.host == "0.0.0.0"
    assert environment.config_path == Path(mounted_config(compose().services[name]).target)


@pytest.mark.parametrize("name", ["api", "worker"])
def test_the_configuration_is_mounted_read_only_and_can_be_chosen(name: str) -> None:
    mount = mounted_config(compose().services[name])
    assert (mount.source, mount.read_only) == ("./penstock.yaml", True)
    chosen = compose({**SECRETS, "PENSTOCK_CONFIG_FILE": "./other.yaml"})
    assert mounted_config(chosen.services[name]).source == "./other.yaml"


def test_the_demo_configuration_keeps_the_limits_that_the_simulator_enforces() -> None:
    command = compose().services["simulator"].command
    options = dict(zip(command[1::2], command[2::2], strict=True))
    (provider,) = load(DEMO_CONFIG).providers.values()
    assert provider.base_url == f"http://simulator:{options['--port']}/v1"
    assert provider.tokens_per_minute == int(options["--tpm"])
    assert provider.requests_per_minute == int(options["--rpm"])
