"""What a figure was measured on."""

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from cli.embedded import server_binary

_NAMED = ("arq", "redis", "hiredis", "fastapi", "uvicorn", "uvloop", "openai", "aiohttp")


def machine() -> dict[str, str]:
    """The machine, its load before the run, the versions, and the commit measured."""
    one_minute = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "measured": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "load before": f"{one_minute:.1f}",
        "python": platform.python_version(),
        "server": _first_line([str(server_binary()), "--version"]),
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in _NAMED),
    }


def processor() -> str:
    """The processor's name as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def commit() -> str:
    """The commit that is checked out, marked if files differ from it."""
    return _first_line(["git", "describe", "--always", "--dirty", "--exclude=*"])


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.partition("\n")[0].partition(" sha=")[0]
