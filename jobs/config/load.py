"""From a file to a `Config`, or to a `ConfigError` that gives file, line and reason for all that is wrong.

Runs at the start of every process, and again whenever the file changes (see watch.py).
"""

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jobs.config.crossing import Crossing, Location, crossings, suggestion
from jobs.config.document import Document, Problem, read
from jobs.config.model import Config
from jobs.logging import redact

DEFAULT_PATH = Path("penstock.yaml")
MAX_BYTES = 1_048_576
MAX_MESSAGE = 400

_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class ConfigError(ValueError):
    """A configuration that cannot be used; as text, a line for each problem: `file:line: setting: reason`."""

    def __init__(self, path: Path, problems: tuple[Problem, ...]) -> None:
        self.path = path
        self.problems = tuple(
            Problem(problem.line, _redacted(problem.location), redact(problem.reason))
            for problem in sorted(problems, key=lambda problem: problem.line or 0)
        )
        super().__init__("\n".join(_told(path, problem) for problem in self.problems))


class MissingConfigError(ConfigError):
    """There is no file where one was expected."""


def locate(configured: Path | None) -> Path:
    """Which file counts: the configured one (`PENSTOCK_CONFIG`), else `penstock.yaml` where we run."""
    return configured or DEFAULT_PATH


def load(configured: Path | None) -> Config:
    """The configuration in force at a start; the built-in one if no file is configured and none is there.

    Raises ConfigError.
    """
    path = locate(configured)
    if configured is None and not os.path.lexists(path):
        return Config()
    return parse(read_file(path), path)


def read_file(path: Path) -> bytes:
    """The bytes of a configuration file. Raises ConfigError, for a file that is too large as well."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _whole(path, "is not a regular file, so that changes of it could not be followed")
        with path.open("rb") as file:
            source = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        reason = "there is no such file; correct PENSTOCK_CONFIG or create it"
        raise MissingConfigError(path, (Problem(None, (), reason),)) from None
    except OSError as error:
        raise _whole(path, f"cannot be read: {error.strerror}") from None
    if len(source) > MAX_BYTES:
        raise _whole(path, f"is larger than {MAX_BYTES} bytes")
    return source


def parse(source: bytes, path: Path) -> Config:
    """The configuration in a file's bytes; `path` is for the messages only. Raises ConfigError."""
    document = read(source)
    try:
        config = Config.model_validate(document.values)
    except ValidationError as error:
        problems = (*document.problems, *_problems(error, document))
    else:
        if not document.problems:
            return config
        problems = tuple(document.problems)
    raise ConfigError(path, problems) from None


def _whole(path: Path, reason: str) -> ConfigError:
    return ConfigError(path, (Problem(None, (), reason),))


def _told(path: Path, problem: Problem) -> str:
    place = f"{path}" if problem.line is None else f"{path}:{problem.line}"
    setting = f"{setting_name(problem.location)}: " if problem.location else ""
    return f"{place}: {_on_one_line(setting + problem.reason)}"


def _on_one_line(text: str) -> str:
    """What a file quotes may be long and hold anything; a message stays one line that can be printed."""
    shown = text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…"
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in shown)


def setting_name(location: Location) -> str:
    """A setting as messages call it: `routes.chat[1]`, `providers.openai.models."gpt-4.1".encoding`."""
    name = ""
    for part in location:
        if isinstance(part, int):
            name += f"[{part}]"
        else:
            plain = part if _SIMPLE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False)
            name += f".{plain}" if name else plain
    return name


def _redacted(location: Location) -> Location:
    return tuple(redact(part) if isinstance(part, str) else part for part in location)


def _problems(error: ValidationError, document: Document) -> list[Problem]:
    already = {problem.location for problem in document.problems}
    found = []
    for one in error.errors(include_url=False):
        location = one["loc"][:-1] if one["loc"] and one["loc"][-1] == "[key]" else one["loc"]
        if one["type"] != "crossing" and location not in already:
            found.append(Problem(document.line(location), location, _reason(one, location)))
    crossed = _crossings(document.values)
    return found + [Problem(document.line(one.location), one.location, one.reason) for one in crossed]


def _reason(error: ErrorDetails, location: Location) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return f"is not a setting{suggestion(str(location[-1]), _settings_beside(location))}"
    if kind == "refused":
        return str(context["reason"])
    if kind == "missing":
        return "is required"
    if kind == "too_short":
        return "must have at least one entry"
    return f"{_rule(kind, context, error['msg'])}{_found(error['input'])}"


def _rule(kind: str, context: Mapping[str, Any], message: str) -> str:
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"must be {words} {context[bound]:.15g}"
    if kind == "literal_error":
        return "must be " + str(context["expected"]).replace("'", "")
    return _KINDS.get(kind, message)


_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_KINDS = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text (in quotes, if it looks like something else)",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping of settings",
}


def _found(value: object) -> str:
    if isinstance(value, dict):
        return " (found a mapping)"
    if isinstance(value, list):
        return " (found a list)"
    shown = json.dumps(value, ensure_ascii=False)
    return f" (found {shown})" if len(shown) <= 60 else ""


def _settings_beside(location: Location) -> tuple[str, ...]:
    """The names that would have been right where an unknown one stands."""
    kind: Any = Config
    for part in location[:-1]:
        kind = kind.model_fields[part].annotation if _is_model(kind) else get_args(kind)[-1]
        if get_origin(kind) in (Union, UnionType):
            kind = next(option for option in get_args(kind) if option is not type(None))
    return tuple(kind.model_fields) if _is_model(kind) else ()


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _crossings(values: Mapping[str, object]) -> tuple[Crossing, ...]:
    """The rules between parts, as far as a text with other mistakes in it lets them be judged."""
    built_in = Config()
    tiers = values.get("tiers", built_in.tiers)
    providers = values.get(
        "providers", {name: {"models": one.models} for name, one in built_in.providers.items()}
    )
    models = {name: tuple(_mapping(_mapping(one).get("models"))) for name, one in _mapping(providers).items()}
    routes = {
        name: [pool for pool in route if isinstance(pool, str)]
        for name, route in _mapping(values.get("routes")).items()
        if isinstance(route, list)
    }
    tier = _mapping(values.get("anonymous")).get("tier")
    return crossings(
        tiers=tuple(_mapping(tiers)),
        anonymous_tier=tier if isinstance(tier, str) else None,
        models=models,
        routes=routes,
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
