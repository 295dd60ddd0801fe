"""The secrets that an installation makes for itself."""

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from cli.errors import CommandError
from cli.secrets import ensure_secrets, known_admin_key, known_secret, secrets_file
from jobs.environment import Environment
from jobs.secrets import is_admin_key

GIVEN = {"admin_key": SecretStr("admin key of the tests"), "secret": SecretStr("secret of the tests")}


@pytest.fixture
def environment(directory: Path) -> Environment:
    """One that names no secrets, with a data directory that is not there yet."""
    return Environment.load().model_copy(update={"data_dir": directory / "data"})


def test_they_are_made_once_and_kept_for_the_owner_alone(environment: Environment) -> None:
    made = ensure_secrets(environment, environment.data_dir)
    assert made.admin_key_is_new
    assert is_admin_key(made.admin_key, made.admin_key)
    assert len(made.secret) >= 32
    assert made.secret != made.admin_key
    again = ensure_secrets(environment, environment.data_dir)
    assert not again.admin_key_is_new
    assert (again.admin_key, again.secret) == (made.admin_key, made.secret)
    assert (known_admin_key(environment), known_secret(environment)) == (made.admin_key, made.secret)
    (kept,) = environment.data_dir.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(environment.data_dir.stat().st_mode) == 0o700


def test_those_of_the_environment_count_and_nothing_is_kept(environment: Environment) -> None:
    given = environment.model_copy(update=GIVEN)
    used = ensure_secrets(given, given.data_dir)
    assert (used.admin_key, used.secret) == ("admin key of the tests", "secret of the tests")
    assert not used.admin_key_is_new
    assert not given.data_dir.exists()


def test_one_of_the_environment_goes_with_a_stored_one(environment: Environment) -> None:
    half = environment.model_copy(update={"admin_key": GIVEN["admin_key"]})
    used = ensure_secrets(half, half.data_dir)
    assert used.admin_key == "admin key of the tests"
    assert not used.admin_key_is_new
    assert ensure_secrets(environment, environment.data_dir).secret == used.secret


def test_of_two_that_start_at_once_the_first_decides(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ensure_secrets(environment, environment.data_dir)
    path = secrets_file(environment.data_dir)
    kept, looks = path.read_bytes(), []

    def read_bytes(self: Path) -> bytes:
        looks.append(self)
        if len(looks) == 1:
            raise FileNotFoundError
        return kept

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    second = ensure_secrets(environment, environment.data_dir)
    assert (second.admin_key, second.secret) == (first.admin_key, first.secret)
    assert not second.admin_key_is_new
    assert list(environment.data_dir.iterdir()) == [path]


@pytest.mark.parametrize("content", ["", "{}", '{"admin_key": "a", "secret": 1}', "not json"])
def test_a_damaged_file_is_told_and_left_alone(environment: Environment, content: str) -> None:
    path = secrets_file(environment.data_dir)
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(CommandError, match=r"secrets\.json is damaged"):
        ensure_secrets(environment, environment.data_dir)
    assert path.read_text() == content


def test_a_place_that_cannot_be_written_is_told(environment: Environment) -> None:
    environment.data_dir.write_text("a file where the directory should be")
    with pytest.raises(CommandError, match=r"PENSTOCK_DATA_DIR|run as the user"):
        ensure_secrets(environment, environment.data_dir)
