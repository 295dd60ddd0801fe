"""Environments of their own for what we are measured against; each is made at its first use and then kept."""

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent.parent / ".bench"

PEERS: dict[str, tuple[str, ...]] = {
    "plots": ("matplotlib==3.11.2",),
    # Helm itself, behind a Python interface: `make chart` renders with it.
    "helm": ("helm-python-sdk==0.2.2",),
    # The newest from before the releases whose proxy extra cannot be installed from the registry alone.
    "litellm": ("litellm[proxy]==1.106.12",),
    "limits": ("limits[redis]==5.8.0",),
    "throttled": ("throttled-py[redis]==3.5.0",),
    "streaq": ("streaq==7.2.0", "aiohttp==3.14.5", "uvloop==0.23.0"),
    "taskiq": ("taskiq==0.13.0", "taskiq-redis==1.2.4", "aiohttp==3.14.5", "uvloop==0.23.0"),
}


class PeerMissing(Exception):  # noqa: N818  # it is no error: the report says that the peer was not measured
    """A peer cannot be installed here; the message says why."""


def environment(peer: str) -> Path:
    """The Python of the peer's environment, installed if it is not there yet. Raises PeerMissing."""
    home = FOLDER / peer
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    wanted = "\n".join(PEERS[peer])
    installed = home / "installed.txt"
    if installed.exists() and installed.read_text() == wanted:
        return python
    print(f"Installing {', '.join(PEERS[peer])} into .bench/{peer}", file=sys.stderr)
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q", *PEERS[peer]],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerMissing(
                f"{peer} cannot be installed: {done.stderr.strip()[-300:] or done.stdout[-300:]}"
            )
    installed.write_text(wanted)
    return python
