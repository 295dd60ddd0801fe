"""What the tests of the command line share: commands run in this process, as a user would type them."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.main import main
from tests.cli.running import RunningUp, running_up
from tests.simulator.process import SimulatorProcess, started


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C, and all processes that these tests start after it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left: its exit status and what it printed."""

    status: int
    out: str
    err: str


Run = Callable[..., Done]
As = Callable[..., Done]

CONFIG = """\
tiers:
  free: {{requests_per_minute: 3, block_s: 60, tokens_per_day: 50000}}
  pro: {{tokens_per_day: 500000}}
providers:
  simulator:
    base_url: {url}/v1
    models: {{gpt-4o-mini: {{max_output_tokens: 100}}}}
"""
ADMIN_KEY = "the-admin-key-of-these-tests"


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


@pytest.fixture(scope="session")
def simulator() -> Iterator[SimulatorProcess]:
    with started("answer_tokens=20") as process:
        yield process


@pytest.fixture(scope="session")
def service(
    simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, RunningUp]]:
    """The directory of a service that is up, and the service."""
    directory = tmp_path_factory.mktemp("service")
    (directory / "penstock.yaml").write_text(CONFIG.format(url=simulator.url))
    with running_up(directory, PENSTOCK_ADMIN_KEY=ADMIN_KEY) as up:
        yield directory, up


@pytest.fixture
def here(service: tuple[Path, RunningUp], penstock: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in the directory of the service, which is told by PENSTOCK_URL."""
    directory, up = service
    monkeypatch.chdir(directory)
    monkeypatch.setenv("PENSTOCK_URL", up.url)
    return penstock


@pytest.fixture
def mine(here: Run, request: pytest.FixtureRequest) -> As:
    """Runs a command with a key of a new user, named after the test."""
    user = request.node.name.removeprefix("test_")[:64]
    key = here("keys", "create", "--user", user, "--tier", "pro")
    assert key.status == 0, key.err

    def run(*arguments: str, **environment: str) -> Done:
        return here(*arguments, **{"PENSTOCK_KEY": key.out.strip(), **environment})

    return run
