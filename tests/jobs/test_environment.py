"""What the environment variables may hold, and what is said about those that cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.environment import Environment, SettingsError


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PENSTOCK_") or name == "REDIS_URL":
            monkeypatch.delenv(name)


def refusal() -> str:
    with pytest.raises(SettingsError) as raised:
        Environment.load()
    return str(raised.value)


def test_defaults() -> None:
    environment = Environment.load()

    assert environment.redis_url is None
    assert environment.config_path is None
    assert environment.data_dir == Path(".penstock")
    assert environment.admin_key is None
    assert environment.secret is None
    assert (environment.host, environment.port) == ("127.0.0.1", 8080)
    assert environment.max_jobs == 100
    assert environment.lease_s == 6
    assert environment.drain_s is None
    assert (environment.log_format, environment.log_level) == (None, "info")
    assert environment.client_url == "http://127.0.0.1:8080"
    assert environment.client_key is None


def test_everything_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "REDIS_URL": "redis://127.0.0.1:6379/0",
        "PENSTOCK_CONFIG": "/etc/penstock.yaml",
        "PENSTOCK_DATA_DIR": "/var/lib/penstock",
        "PENSTOCK_ADMIN_KEY": "pk_admin",
        "PENSTOCK_SECRET": "a secret\n",
        "PENSTOCK_HOST": "0.0.0.0",
        "PENSTOCK_PORT": "0",
        "PENSTOCK_MAX_JOBS": "10000",
        "PENSTOCK_LEASE_S": "1.5",
        "PENSTOCK_DRAIN_S": "0",
        "PENSTOCK_LOG": "JSON",
        "PENSTOCK_LOG_LEVEL": "Debug",
        "PENSTOCK_URL": "https://penstock.example.com/",
        "PENSTOCK_KEY": "pk_user",
    }.items():
        monkeypatch.setenv(name, value)

    environment = Environment.load()

    assert environment.redis_url == "redis://127.0.0.1:6379/0"
    assert environment.config_path == Path("/etc/penstock.yaml")
    assert environment.data_dir == Path("/var/lib/penstock")
    assert environment.admin_key is not None
    assert environment.admin_key.get_secret_value() == "pk_admin"
    assert environment.secret is not None
    assert environment.secret.get_secret_value() == "a secret"
    assert (environment.host, environment.port) == ("0.0.0.0", 0)
    assert environment.max_jobs == 10_000
    assert environment.lease_s == 1.5
    assert environment.drain_s == 0
    assert (environment.log_format, environment.log_level) == ("json", "debug")
    assert environment.client_url == "https://penstock.example.com"
    assert environment.client_key is not None
    assert environment.client_key.get_secret_value() == "pk_user"


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_a_blank_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, blank: str) -> None:
    for field in Environment.model_fields.values():
        monkeypatch.setenv(str(field.validation_alias), blank)

    environment = Environment.load()

    for name, field in Environment.model_fields.items():
        assert getattr(environment, name) == field.default


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("REDIS_URL", "http://x", "a Redis URL must look like one of: redis://"),
        ("REDIS_URL", "127.0.0.1:6379", "a Redis URL must look like one of: redis://"),
        ("REDIS_URL", "rediss://:password@/0", "the Redis URL cannot be read: it must look like rediss://"),
        ("REDIS_URL", "unix://redis.sock", "the Redis URL cannot be read: it must look like unix://"),
        ("PENSTOCK_PORT", "80a", "must be a whole number"),
        ("PENSTOCK_PORT", "-1", "must be at least 0"),
        ("PENSTOCK_PORT", "65536", "must be at most 65535"),
        ("PENSTOCK_MAX_JOBS", "0", "must be at least 1"),
        ("PENSTOCK_MAX_JOBS", "10001", "must be at most 10000"),
        ("PENSTOCK_MAX_JOBS", "5.0", "must be a whole number"),
        ("PENSTOCK_MAX_JOBS", "1_0", "must be a whole number"),
        ("PENSTOCK_MAX_JOBS", "9" * 5000, "must be a whole number"),
        ("PENSTOCK_LEASE_S", "0.9", "must be at least 1"),
        ("PENSTOCK_LEASE_S", "nan", "must be a number of seconds"),
        ("PENSTOCK_LEASE_S", "6s", "must be a number of seconds"),
        ("PENSTOCK_LEASE_S", "3601", "must be at most 3600"),
        ("PENSTOCK_DRAIN_S", "-1", "must be at least 0"),
        ("PENSTOCK_DRAIN_S", "inf", "must be a number of seconds"),
        ("PENSTOCK_LOG", "xml", "must be console or json"),
        ("PENSTOCK_LOG_LEVEL", "loud", "must be debug, info, warning, error or critical"),
        ("PENSTOCK_ADMIN_KEY", "two words", "must be printable ASCII without spaces"),
        ("PENSTOCK_KEY", "schlüssel", "must be printable ASCII without spaces"),
        ("PENSTOCK_URL", "127.0.0.1:8080", "must be a URL such as"),
    ],
)
def test_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str) -> None:
    monkeypatch.setenv(name, value)

    told = refusal()

    assert told.startswith(f"{name}: {reason}")
    assert "\n" not in told


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://user:p%40ss@redis.internal:6380/2",
        "rediss://redis.internal",
        "unix:///run/redis.sock?db=1",
        "unix://:password@/run/redis.sock",
        "redis+sentinel://:password@a:26379,b:26379/mymaster/0",
    ],
)
def test_redis_urls(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)

    assert Environment.load().redis_url == url


def test_all_mistakes_are_told_at_once_and_no_value_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "http://:hunter2@x")
    monkeypatch.setenv("PENSTOCK_ADMIN_KEY", "hunter2 hunter2")
    monkeypatch.setenv("PENSTOCK_MAX_JOBS", "hunter2")

    with pytest.raises(SettingsError) as raised:
        Environment.load()

    lines = str(raised.value).split("\n")
    assert [line.partition(":")[0] for line in lines] == [
        "REDIS_URL",
        "PENSTOCK_ADMIN_KEY",
        "PENSTOCK_MAX_JOBS",
    ]
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None


def test_secrets_are_not_in_its_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PENSTOCK_ADMIN_KEY", "PENSTOCK_SECRET", "PENSTOCK_KEY"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@127.0.0.1")

    assert "hunter2" not in repr(Environment.load())
    assert "hunter2" not in str(Environment.load())


def test_the_port_that_kubernetes_sets_for_a_service_of_the_same_name_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PENSTOCK_PORT", "tcp://10.96.0.7:8080")
    monkeypatch.setenv("PENSTOCK_SERVICE_HOST", "10.96.0.7")

    assert Environment.load().port == 8080


def test_an_option_of_a_command_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_MAX_JOBS", "5")

    assert Environment.load(max_jobs=7, port=None).max_jobs == 7
    assert Environment.load(max_jobs=None).max_jobs == 5
    with pytest.raises(SettingsError, match="PENSTOCK_MAX_JOBS: must be at least 1"):
        Environment.load(max_jobs=0)


def test_other_cases_of_a_name_are_other_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("penstock_max_jobs", "5")
    monkeypatch.setenv("max_jobs", "5")
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "redis://elsewhere")

    assert Environment.load().max_jobs == 100
    assert Environment.load().redis_url is None


def test_nothing_is_read_at_import() -> None:
    environment = dict(os.environ, PENSTOCK_PORT="wrong", REDIS_URL="wrong")

    done = subprocess.run([sys.executable, "-c", "import jobs.environment"], env=environment, check=False)

    assert done.returncode == 0
