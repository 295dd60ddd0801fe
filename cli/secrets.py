"""The admin key and the pepper of an installation that was not given any: made at the first `up` or `demo`, and kept
beside its data.

`keys` and `doctor` read them there too, so that the machine that runs `up` needs no further set-up.
"""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from cli.errors import CommandError
from jobs.environment import Environment

FILE_NAME = "secrets.json"


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the API needs; `admin_key_is_new` when it has just been made and nobody has seen it."""

    admin_key: str
    secret: str
    admin_key_is_new: bool


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    admin_key: SecretStr
    secret: SecretStr


def secrets_file(data_dir: Path) -> Path:
    """Where the secrets of a data directory are."""
    return data_dir / FILE_NAME


def ensure_secrets(environment: Environment, data_dir: Path) -> Secrets:
    """Those of the environment, else the stored ones, else new ones, which are stored. Raises CommandError."""
    given = environment.admin_key, environment.secret
    if given[0] is not None and given[1] is not None:
        return Secrets(given[0].get_secret_value(), given[1].get_secret_value(), admin_key_is_new=False)
    stored, is_new = _read(data_dir), False
    if stored is None:
        stored, is_new = _make(data_dir)
    admin_key, secret = given[0] or stored.admin_key, given[1] or stored.secret
    return Secrets(
        admin_key.get_secret_value(), secret.get_secret_value(), admin_key_is_new=is_new and given[0] is None
    )


def known_secret(environment: Environment) -> str | None:
    """The pepper of the environment, else the stored one, else None. Raises CommandError."""
    if environment.secret is not None:
        return environment.secret.get_secret_value()
    stored = _read(environment.data_dir)
    return stored.secret.get_secret_value() if stored else None


def known_admin_key(environment: Environment) -> str | None:
    """The admin key of the environment, else the stored one, else None. Raises CommandError."""
    if environment.admin_key is not None:
        return environment.admin_key.get_secret_value()
    stored = _read(environment.data_dir)
    return stored.admin_key.get_secret_value() if stored else None


def _read(data_dir: Path) -> _Stored | None:
    path = secrets_file(data_dir)
    try:
        return _Stored.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}; run as the user who owns it") from None
    except ValidationError:
        raise CommandError(
            f"{path} is damaged: restore it from a backup (without it, issued keys are worthless), "
            "or delete it to have new secrets made"
        ) from None


def _make(data_dir: Path) -> tuple[_Stored, bool]:
    """New secrets in a new file; if another process was quicker, its own. The bool: whether they are new."""
    path = secrets_file(data_dir)
    made = {"admin_key": f"admin-{secrets.token_urlsafe(32)}", "secret": secrets.token_urlsafe(32)}
    draft = path.with_name(f"{FILE_NAME}.{os.getpid()}")
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(file, "w") as opened:
            opened.write(json.dumps(made) + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        # A link, unlike a rename, never replaces a file that is there.
        os.link(draft, path)
    except FileExistsError:
        stored = _read(data_dir)
        if stored is None:
            raise CommandError(f"{path} appeared and vanished; start again") from None
        return stored, False
    except OSError as error:
        raise CommandError(
            f"cannot write {path}: {error.strerror}; choose another directory with PENSTOCK_DATA_DIR"
        ) from None
    finally:
        draft.unlink(missing_ok=True)
    return _Stored(admin_key=SecretStr(made["admin_key"]), secret=SecretStr(made["secret"])), True
