"""What `penstock doctor` looks at; each check says what it found and, where something is wrong, what to change."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import httpx2

from cli.errors import CommandError
from cli.redis_access import opened_redis
from cli.secrets import known_admin_key, known_secret, secrets_file
from jobs.config import Config, ConfigError, Provider
from jobs.config.load import load, locate
from jobs.connection import ServerFacts, durability_problems, server_facts
from jobs.environment import Environment
from jobs.logging import redact
from jobs.secrets import ADMIN_KEY_MIN_CHARS
from jobs.tokens.text import count_text
from jobs.tokens.vocabulary import VocabularyError

PROVIDER_TIMEOUT_S = 4.0

Level = Literal["ok", "note", "warning", "error"]
_LEVELS: Mapping[str, Level] = {"info": "note", "warning": "warning", "error": "error"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check; only an `error` keeps Penstock from working as it should."""

    about: str
    level: Level
    text: str


async def examine(environment: Environment) -> list[Finding]:
    """All checks, in the order in which a start would stumble."""
    config, findings = check_configuration(environment)
    findings += check_secrets(environment)
    findings += await check_redis(environment)
    if config is not None:
        findings += check_tokenizer(config)
        providers = config.providers.items()
        for found in await asyncio.gather(
            *(check_provider(name, one, os.environ) for name, one in providers)
        ):
            findings += found
    return findings


def check_configuration(environment: Environment) -> tuple[Config | None, list[Finding]]:
    """Whether the file can be used, and the configuration if so."""
    path = locate(environment.config_path)
    try:
        config = load(environment.config_path)
    except ConfigError as error:
        return None, [Finding("configuration", "error", line) for line in str(error).splitlines()]
    source = (
        str(path) if environment.config_path or path.exists() else "built-in, since there is no penstock.yaml"
    )
    count = len(config.all_pools())
    models = f"{count} model{'' if count == 1 else 's'}"
    text = f"{source}: tiers {', '.join(config.tiers)}; providers {', '.join(config.providers)}; {models}"
    return config, [Finding("configuration", "ok", text)]


def check_secrets(environment: Environment) -> list[Finding]:
    """Whether the pepper and the admin key are there, and long enough."""
    try:
        secret, admin_key = known_secret(environment), known_admin_key(environment)
    except CommandError as error:
        return [Finding("secrets", "error", error.message)]
    if secret is None and admin_key is None and environment.redis_url is None:
        return [
            Finding(
                "secrets", "ok", f"made by the first `penstock up`, in {secrets_file(environment.data_dir)}"
            )
        ]
    found = []
    if secret is None:
        text = "PENSTOCK_SECRET is not set: make one with `openssl rand -hex 32`, and keep it"
        found.append(Finding("secrets", "error", text))
    if admin_key is None:
        text = "PENSTOCK_ADMIN_KEY is not set, so that nobody can use the admin API: `openssl rand -hex 32` makes one"
        found.append(Finding("secrets", "warning", text))
    for name, value in (("PENSTOCK_SECRET", secret), ("PENSTOCK_ADMIN_KEY", admin_key)):
        if value is not None and len(value) < ADMIN_KEY_MIN_CHARS:
            text = f"{name} could be guessed: use {ADMIN_KEY_MIN_CHARS} characters or more, `openssl rand -hex 32`"
            found.append(Finding("secrets", "error", text))
    return found or [Finding("secrets", "ok", "the secret and the admin key are set")]


async def check_redis(environment: Environment) -> list[Finding]:
    """Whether the server can be reached, and keeps what it is given."""
    if environment.redis_url is None and not environment.data_dir.exists():
        text = f"REDIS_URL is not set: `penstock up` starts an embedded Valkey with its data in {environment.data_dir}"
        return [Finding("redis", "ok", text)]
    try:
        async with opened_redis(environment) as redis:
            facts = await server_facts(redis)
    except CommandError as error:
        return [Finding("redis", "error", error.message)]
    name = f"{facts.flavour.capitalize()} {'.'.join(map(str, facts.version))}"
    where = "at REDIS_URL" if environment.redis_url else f"embedded, its data in {environment.data_dir}"
    problems = [Finding("redis", _LEVELS[one.severity], one.message) for one in durability_problems(facts)]
    return [Finding("redis", "ok", f"{name} {where}{_measured(facts)}"), *problems]


def check_tokenizer(config: Config) -> list[Finding]:
    """Whether the vocabularies that the models need are there and whole."""
    encodings = sorted({pool.model_settings.encoding for pool in config.all_pools()})
    try:
        for encoding in encodings:
            count_text("one two three", encoding)
    except VocabularyError as error:
        return [Finding("tokenizer", "error", str(error))]
    return [Finding("tokenizer", "ok", f"{', '.join(encodings)} loaded")]


async def check_provider(name: str, provider: Provider, variables: Mapping[str, str]) -> list[Finding]:
    """Whether a provider's key is set and its address answers to it."""
    about, headers = f"provider {name}", {}
    if provider.api_key_env is not None:
        key = variables.get(provider.api_key_env, "").strip()
        if not key:
            text = (
                f"{provider.api_key_env} is not set, and its calls will be refused: set it where workers run"
            )
            return [Finding(about, "error", text)]
        headers = {"authorization": f"Bearer {key}"}
    url = f"{provider.base_url}/models"
    try:
        async with httpx2.AsyncClient(timeout=PROVIDER_TIMEOUT_S) as http:
            answer = await http.get(url, headers=headers)
    except (httpx2.HTTPError, ValueError) as error:
        text = f"{url} does not answer ({redact(str(error)) or type(error).__name__}): check base_url and the network"
        return [Finding(about, "warning", text)]
    if answer.is_success:
        return [Finding(about, "ok", f"{provider.base_url} answers")]
    if answer.status_code in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
        variable = provider.api_key_env or "api_key_env (not configured)"
        return [Finding(about, "warning", f"{url} refuses the key ({answer.status_code}): check {variable}")]
    return [Finding(about, "warning", f"{url} answers {answer.status_code}: check base_url")]


def _measured(facts: ServerFacts) -> str:
    parts = [f"clock off by {facts.clock_offset_ms:+d} ms"]
    if facts.used_memory_bytes is not None:
        most = f" of {facts.maxmemory_bytes / 2**20:,.0f}" if facts.maxmemory_bytes else ""
        parts.append(f"{facts.used_memory_bytes / 2**20:,.1f}{most} MiB used")
    return "; " + ", ".join(parts)
