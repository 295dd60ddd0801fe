"""What a process is told by its environment: where Redis and the configuration are, secrets, its own size.

Read once, at the start of a command, and passed on; nothing reads the environment when it is imported.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobs.config import text
from jobs.config.text import refused
from jobs.logging import LogFormat, LogLevel
from jobs.redis_url import parse as parse_redis_url

_HEADER_TEXT = re.compile(r"[!-~]+")


class SettingsError(ValueError):
    """Environment variables that cannot be used; as text, one line for each, which never repeats a value."""


def _whole_number(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,18}", value):
        raise refused("must be a whole number")
    return value


def _seconds(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]+)?", value):
        raise refused("must be a number of seconds")
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _redis_url(url: str) -> str:
    try:
        parse_redis_url(url)
    except ValueError as error:
        raise refused(str(error)) from None
    return url


def _api_url(url: str) -> str:
    return text.http_url(url).rstrip("/")


def _key(key: SecretStr) -> SecretStr:
    if not _HEADER_TEXT.fullmatch(key.get_secret_value()):
        raise refused("must be printable ASCII without spaces, since it travels in a header")
    return key


Key = Annotated[SecretStr, AfterValidator(_key)]


class Environment(BaseSettings):
    """The environment variables of every command. One that is set to nothing but blanks counts as not set."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", case_sensitive=True, hide_input_in_errors=True
    )

    redis_url: Annotated[str, AfterValidator(_redis_url)] | None = Field(
        default=None, validation_alias="REDIS_URL", repr=False
    )
    config_path: Path | None = Field(default=None, validation_alias="PENSTOCK_CONFIG")
    data_dir: Path = Field(default=Path(".penstock"), validation_alias="PENSTOCK_DATA_DIR")
    admin_key: Key | None = Field(default=None, validation_alias="PENSTOCK_ADMIN_KEY")
    secret: SecretStr | None = Field(default=None, validation_alias="PENSTOCK_SECRET")
    host: str = Field(default="127.0.0.1", validation_alias="PENSTOCK_HOST")
    port: Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=65535)] = Field(
        default=8080, validation_alias="PENSTOCK_PORT"
    )
    max_jobs: Annotated[int, BeforeValidator(_whole_number), Field(ge=1, le=10_000)] = Field(
        default=100, validation_alias="PENSTOCK_MAX_JOBS"
    )
    lease_s: Annotated[float, BeforeValidator(_seconds), Field(ge=1, le=3600)] = Field(
        default=6.0, validation_alias="PENSTOCK_LEASE_S"
    )
    drain_s: Annotated[float, BeforeValidator(_seconds), Field(ge=0, le=86_400)] | None = Field(
        default=None, validation_alias="PENSTOCK_DRAIN_S"
    )
    log_format: Annotated[LogFormat, BeforeValidator(_lower)] | None = Field(
        default=None, validation_alias="PENSTOCK_LOG"
    )
    log_level: Annotated[LogLevel, BeforeValidator(_lower)] = Field(
        default="info", validation_alias="PENSTOCK_LOG_LEVEL"
    )
    client_url: Annotated[str, AfterValidator(_api_url)] = Field(
        default="http://127.0.0.1:8080", validation_alias="PENSTOCK_URL"
    )
    client_key: Key | None = Field(default=None, validation_alias="PENSTOCK_KEY")
    webhook_secret: Key | None = Field(default=None, validation_alias="PENSTOCK_WEBHOOK_SECRET")

    @model_validator(mode="before")
    @classmethod
    def _drop_what_nobody_set(cls, values: dict[str, Any]) -> dict[str, Any]:
        # A mounted secret often ends in a newline, and compose files hand on unset variables as "".
        stripped = {
            name: value.strip() if isinstance(value, str) else value for name, value in values.items()
        }
        if str(stripped.get("PENSTOCK_PORT")).startswith("tcp://"):
            # Kubernetes puts this into every pod beside a Service of the name penstock.
            del stripped["PENSTOCK_PORT"]
        return {name: value for name, value in stripped.items() if value != ""}

    @classmethod
    def load(cls, **given: str | float | Path | None) -> Self:
        """This process's environment. Raises SettingsError.

        What is given (the options of a command, under the names of the fields) goes before it, unless None.
        """
        options = {
            cls.model_fields[name].validation_alias: value
            for name, value in given.items()
            if value is not None
        }
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            lines = [f"{one['loc'][0]}: {_told(one['type'], one['msg'])}" for one in error.errors()]
        raise SettingsError("\n".join(lines))


def _told(kind: str, message: str) -> str:
    if kind == "refused":
        return message
    plain = message.replace("Input should be", "must be").replace("'", "")
    return plain.replace("greater than or equal to", "at least").replace("less than or equal to", "at most")
