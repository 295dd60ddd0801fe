"""What the tests of the command line share: commands run in this process, as a user would type them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.main import main


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left: its exit status and what it printed."""

    status: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, and an environment that says nothing of Penstock."""
    for name in ("REDIS_URL", "OPENAI_API_KEY", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("CONFIG", "DATA_DIR", "ADMIN_KEY", "SECRET", "HOST", "PORT", "URL", "KEY", "DRAIN_S", "LOG"):
        monkeypatch.delenv(f"PENSTOCK_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def penstock(directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in the empty directory: `penstock("keys", "list", PENSTOCK_SECRET="...")`."""

    def run(*arguments: str, **environment: str) -> Done:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            capsys.readouterr()
            with pytest.raises(SystemExit) as left:
                main(arguments)
        printed = capsys.readouterr()
        status = left.value.code
        assert isinstance(status, int)
        return Done(status, printed.out, printed.err)

    return run
