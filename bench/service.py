"""Penstock's own processes under measurement, with limits in force that are never reached."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.processes import free_port, module, running
from jobs.connection import connect
from jobs.secrets import digest, new_key
from jobs.users import KeyRecord, Users

USER = "ann"
_SECRET = "a long random text that only benchmarks know"
_MANY = 1_000_000_000


def configuration(provider_url: str) -> str:
    """One provider and one tier, both with every limit; YAML is a superset of JSON."""
    tier = {
        "requests_per_minute": 10_000_000, "requests_per_day": _MANY, "tokens_per_day": 1_000_000_000_000,
        "max_concurrent": 100_000, "max_queued_jobs": 10_000_000, "max_queued_tokens": 1_000_000_000_000,
    }  # fmt: skip
    provider = {
        "base_url": provider_url, "tokens_per_minute": _MANY, "requests_per_minute": 10_000_000,
        "models": {"m": {"max_output_tokens": 4096}}, "timeout_s": 30,
    }  # fmt: skip
    return json.dumps({"tiers": {"bench": tier}, "providers": {"bench": provider}})


@contextmanager
def api(redis_url: str, provider_url: str) -> Iterator[tuple[str, int]]:
    """Address and process id of one API process."""
    port = free_port()
    with (
        _configured(redis_url, provider_url) as environment,
        running(
            module("cli.main", "api"), environment={**environment, "PENSTOCK_PORT": str(port)}, port=port
        ) as pid,
    ):
        yield f"http://127.0.0.1:{port}", pid


@contextmanager
def worker(redis_url: str, provider_url: str, *, slots: int) -> Iterator[int]:
    """The process id of one worker, which may still be starting."""
    with (
        _configured(redis_url, provider_url) as environment,
        running(module("cli.main", "worker", "--max-jobs", str(slots)), environment=environment) as pid,
    ):
        yield pid


@contextmanager
def _configured(redis_url: str, provider_url: str) -> Iterator[dict[str, str]]:
    with TemporaryDirectory() as folder:
        path = Path(folder, "penstock.yaml")
        path.write_text(configuration(provider_url))
        yield {
            "REDIS_URL": redis_url, "PENSTOCK_CONFIG": str(path), "PENSTOCK_SECRET": _SECRET,
            "PENSTOCK_LOG": "json", "PENSTOCK_LOG_LEVEL": "warning",
        }  # fmt: skip


def key_of(redis_url: str) -> str:
    """A new key of a user on the tier."""

    async def made() -> str:
        redis = connect(redis_url, client_name="bench")
        try:
            key = new_key()
            record = KeyRecord(
                id=key.id, user=USER, scopes=("jobs", "usage"), created_ms=0, expires_ms=None, last_used_ms=None,
                digest=digest(_SECRET, key.text),
            )  # fmt: skip
            await Users(redis).put_key(record, tier="bench")
            return key.text
        finally:
            await redis.aclose()

    return asyncio.run(made())
