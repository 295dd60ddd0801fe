"""The service that the pages' commands are run against: what `penstock demo` starts, without its jobs."""

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.cli.running import running_up
from tests.docs.pages import ROOT
from tests.simulator.process import started

ADMIN_KEY = "admin-of-the-documentation"
DATA_DIR = ".penstock/demo"

_CONFIG = """\
tiers:
  free: {{requests_per_minute: 20, block_s: 60, tokens_per_day: 50000, max_concurrent: 2, weight: 1}}
  pro: {{requests_per_minute: 60, block_s: 60, tokens_per_day: 500000, max_concurrent: 6, weight: 4}}
upgrade_url: /pricing
providers:
  simulator:
    base_url: {url}/v1
    tokens_per_minute: 60000
    requests_per_minute: 600
    timeout_s: 30
    models:
      gpt-4o-mini: {{context_tokens: 128000, max_output_tokens: 1024}}
"""


@dataclass(frozen=True, slots=True)
class Service:
    """A running service, the directory of whoever uses it, and the environment of their shell."""

    directory: Path
    environment: dict[str, str]

    @property
    def redis_url(self) -> str:
        """Its embedded server."""
        return (self.directory / DATA_DIR / "valkey.url").read_text().strip()


@contextmanager
def running_service(directory: Path) -> Iterator[Service]:
    """The service on free ports until the block ends; a user `me` on the tier `pro` has the key in PENSTOCK_KEY."""
    with started("tpm=60_000, rpm=600, latency_s=0.05") as simulator:
        (directory / "penstock.yaml").write_text(_CONFIG.format(url=simulator.url))
        settings = {
            "PENSTOCK_DATA_DIR": DATA_DIR,
            "PENSTOCK_ADMIN_KEY": ADMIN_KEY,
            "PENSTOCK_LOG_LEVEL": "warning",
        }
        with running_up(directory, **settings) as up:
            yield Service(
                directory,
                {
                    "PATH": f"{_programs(directory)}{os.pathsep}{os.environ['PATH']}",
                    "HOME": str(directory),
                    "PENSTOCK_URL": up.url,
                    "PENSTOCK_KEY": _key(up.url),
                    "PENSTOCK_ADMIN_KEY": ADMIN_KEY,
                    "PENSTOCK_DATA_DIR": DATA_DIR,
                },
            )


def _key(url: str) -> str:
    answer = httpx2.post(
        f"{url}/v1/admin/keys",
        json={"user": "me", "tier": "pro"},
        headers={"authorization": f"Bearer {ADMIN_KEY}"},
        trust_env=False,
    )
    key: str = answer.raise_for_status().json()["key"]
    return key


def _programs(directory: Path) -> Path:
    """A folder for the PATH: `penstock` of this checkout, and a `curl` for machines that have none."""
    folder = directory / "bin"
    folder.mkdir()
    programs = {"penstock": "-m cli.main"}
    if shutil.which("curl") is None:
        programs["curl"] = "-m tests.docs.curl"
    for name, module in programs.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -P {module} "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return folder
