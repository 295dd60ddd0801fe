"""The embedded server: one for a data directory however many use it, and nothing lost whoever dies."""

import fcntl
import os
import platform
import shutil
import signal
import socket
import socketserver
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import cast

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from cli import embedded
from cli.embedded import EmbeddedValkey, server_binary
from cli.errors import CommandError
from tests.support.valkey import HOST, free_port

# Uses a server until it is killed, or told to stop by the end of its stdin.
USER = """
import sys
from pathlib import Path
from cli.embedded import EmbeddedValkey
user = EmbeddedValkey(Path(sys.argv[1]), port=int(sys.argv[2]))
print(user.start(), flush=True)
sys.stdin.read()
print(user.stop(), flush=True)
"""


class DataDirectory:
    """A data directory, and whatever a test starts on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = free_port()
        self._users: list[EmbeddedValkey] = []
        self._processes: list[subprocess.Popen[str]] = []

    @property
    def pid(self) -> int:
        return int((self.path / "valkey.pid").read_text())

    def user(self, *, port: int | None = None, patience_s: float = 20.0) -> EmbeddedValkey:
        self._users.append(EmbeddedValkey(self.path, port=port or self.port, patience_s=patience_s))
        return self._users[-1]

    def process(self) -> subprocess.Popen[str]:
        """Another process, on its way to use the server."""
        arguments = [sys.executable, "-c", USER, str(self.path), str(self.port)]
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._processes.append(process)
        return process

    def clean_up(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
        for user in self._users:
            user.stop()
        with suppress(FileNotFoundError, ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        # What a user left running for others was ended by them, or just now.
        while embedded._outliving:
            embedded._outliving.pop().wait()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[DataDirectory]:
    made = DataDirectory(tmp_path / "data with a space")
    yield made
    made.clean_up()


def client_of(url: str) -> "closing[Redis]":
    return closing(Redis.from_url(url, decode_responses=True, socket_timeout=10))


def put(url: str, value: str) -> None:
    with client_of(url) as client:
        client.set("value", value)


def value_at(url: str) -> object:
    with client_of(url) as client:
        return client.get("value")


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def answers(url: str) -> bool:
    with client_of(url) as client:
        try:
            return bool(client.ping())
        except RedisConnectionError:
            return False


class Loading(socketserver.ThreadingTCPServer):
    """Says that it is reading back its data for `for_s` seconds, and then what a start asks."""

    daemon_threads = True

    def __init__(self, folder: Path, for_s: float) -> None:
        super().__init__((HOST, 0), LoadingHandler)
        self.folder = folder
        self.until_s = time.monotonic() + for_s
        self.url = f"redis://:password@{HOST}:{self.server_address[1]}/0"


class LoadingHandler(socketserver.StreamRequestHandler):
    """One connection of it."""

    def handle(self) -> None:
        server = cast(Loading, self.server)
        while header := self.rfile.readline():
            words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(header[1:]))]
            if words[0] == b"PING" and time.monotonic() < server.until_s:
                answer = b"-LOADING Valkey is loading the dataset in memory"
            elif words[0] == b"CONFIG":
                folder = str(server.folder).encode()
                answer = b"*2\r\n$3\r\ndir\r\n$%d\r\n%s" % (len(folder), folder)
            elif words[0] == b"INFO":
                answer = b"$15\r\nprocess_id:4711"
            else:
                answer = b"+PONG" if words[0] == b"PING" else b"+OK"
            self.wfile.write(answer + b"\r\n")


# What it is


def test_it_keeps_every_write_and_evicts_nothing(directory: DataDirectory) -> None:
    url = directory.user().start()

    with client_of(url) as client:
        settings = cast(dict[str, str], client.config_get("*"))
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["save"] == ""
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["bind"] == "127.0.0.1"
    assert os.path.samefile(settings["dir"], directory.path)


def test_its_data_and_its_address_survive_a_restart(directory: DataDirectory) -> None:
    user = directory.user()
    url = user.start()
    put(url, "kept")

    assert user.stop() is True
    assert not answers(url)
    assert not (directory.path / "valkey.pid").exists()

    assert user.start() == url
    assert value_at(url) == "kept"


def test_only_who_can_read_the_data_directory_can_use_it(directory: DataDirectory) -> None:
    url = directory.user().start()
    password = url.split(":")[2].split("@")[0]

    with client_of(f"redis://{HOST}:{directory.port}") as stranger, pytest.raises(AuthenticationError):
        stranger.ping()
    assert (directory.path / "valkey.url").read_text() == f"{url}\n"
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    for file in directory.path.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    shown = subprocess.run(
        ["ps", "-ww", "-p", str(directory.pid), "-o", "args="], capture_output=True, text=True
    )
    assert "valkey-server" in shown.stdout
    assert password not in shown.stdout


def test_ctrl_c_in_the_terminal_does_not_reach_it(directory: DataDirectory) -> None:
    directory.user().start()

    assert os.getsid(directory.pid) == directory.pid != os.getsid(0)


def test_it_listens_elsewhere_if_the_port_is_taken_and_stays_there(directory: DataDirectory) -> None:
    user = directory.user()
    with socket.create_server((HOST, directory.port)):
        url = user.start()
        assert f":{directory.port}/" not in url
        put(url, "kept")
        user.stop()

    assert user.start() == url
    assert value_at(url) == "kept"


# Who uses it


def test_starting_twice_and_stopping_twice_does_no_harm(directory: DataDirectory) -> None:
    user = directory.user()
    assert user.stop() is False

    assert user.start() == user.start()
    assert user.stop() is True
    assert user.stop() is False


def test_the_last_of_several_users_ends_it(directory: DataDirectory) -> None:
    first, second, third = directory.user(), directory.user(), directory.user()
    url = first.start()
    pid = directory.pid

    assert (second.start(), third.start()) == (url, url)
    assert directory.pid == pid
    assert first.stop() is False
    assert third.stop() is False
    put(url, "still there")
    assert second.stop() is True
    assert not answers(url)


def test_another_process_shares_it(directory: DataDirectory) -> None:
    process = directory.process()
    url = line_of(process)
    user = directory.user()

    assert user.start() == url
    answer, _ = process.communicate(input="")
    assert answer.strip() == "False"
    put(url, "still there")
    assert user.stop() is True


def test_it_outlives_a_killed_user_and_is_taken_over(directory: DataDirectory) -> None:
    process = directory.process()
    url = line_of(process)
    put(url, "before the crash")
    pid = directory.pid
    process.kill()
    process.wait()

    user = directory.user()
    assert user.start() == url
    assert directory.pid == pid
    assert value_at(url) == "before the crash"
    assert user.stop() is True


@pytest.mark.parametrize("which", ["who started it", "who found it running"])
def test_a_user_whose_server_died_starts_it_again(directory: DataDirectory, which: str) -> None:
    first, second = directory.user(), directory.user()
    url = first.start()
    second.start()
    put(url, "acknowledged")
    os.kill(directory.pid, signal.SIGKILL)

    again, other = (first, second) if which == "who started it" else (second, first)
    assert again.start() == url
    assert value_at(url) == "acknowledged"
    assert other.start() == url
    assert again.stop() is False
    assert other.stop() is True


def test_what_a_killed_server_acknowledged_is_there_after_the_next_start(directory: DataDirectory) -> None:
    user = directory.user()
    url = user.start()
    put(url, "acknowledged")
    old = directory.pid
    os.kill(old, signal.SIGKILL)
    user.stop()

    assert directory.user().start() == url
    assert directory.pid != old
    assert value_at(url) == "acknowledged"


def test_many_who_start_at_once_share_one(directory: DataDirectory) -> None:
    processes = [directory.process() for _ in range(3)]
    users = [directory.user() for _ in range(5)]
    with ThreadPoolExecutor(len(users)) as pool:
        urls = set(pool.map(EmbeddedValkey.start, users))
    urls |= {line_of(process) for process in processes}

    assert len(urls) == 1
    for process in processes:
        process.communicate(input="")
    assert [user.stop() for user in users] == [False, False, False, False, True]
    log = (directory.path / "valkey.log").read_text()
    assert log.count("Ready to accept connections") == 1


def test_of_all_who_stop_at_once_one_ends_it(directory: DataDirectory) -> None:
    for _ in range(5):
        users = [directory.user() for _ in range(4)]
        [url] = {user.start() for user in users}
        with ThreadPoolExecutor(len(users)) as pool:
            ended = list(pool.map(EmbeddedValkey.stop, users))

        assert ended.count(True) == 1
        assert not answers(url)


def test_who_starts_while_it_is_being_stopped_waits_for_that(directory: DataDirectory) -> None:
    directory.path.mkdir()
    with open(directory.path / "valkey.users", "ab") as stopping, ThreadPoolExecutor(1) as pool:
        fcntl.flock(stopping, fcntl.LOCK_EX)
        started = pool.submit(directory.user().start)
        with pytest.raises(CommandError, match="being stopped"):
            directory.user(patience_s=0.1).start()
        assert not started.done()
        fcntl.flock(stopping, fcntl.LOCK_UN)

        put(started.result(), "started")


# What may be in the way


def test_a_stale_process_id_of_something_else_is_harmless(directory: DataDirectory) -> None:
    directory.path.mkdir()
    (directory.path / "valkey.pid").write_text(f"{os.getpid()}\n")
    user = directory.user()

    user.start()
    assert directory.pid != os.getpid()
    assert user.stop() is True


def test_a_copied_directory_gets_a_server_of_its_own(directory: DataDirectory, tmp_path: Path) -> None:
    original = directory.user().start()
    put(original, "original")
    copied = DataDirectory(tmp_path / "copy")
    shutil.copytree(directory.path, copied.path)
    with open(copied.path / "valkey.lock", "ab") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        # Somebody is about to start its own; until then the address in it is that of the original's.
        with pytest.raises(CommandError, match="does not answer"):
            copied.user(patience_s=0.1).start()
    try:
        copy = copied.user().start()
        put(copy, "copy")

        assert copy != original
        assert value_at(original) == "original"
    finally:
        copied.clean_up()
    assert value_at(original) == "original"


def test_a_file_that_cannot_be_read_back_is_reported_with_the_servers_words(directory: DataDirectory) -> None:
    user = directory.user()
    put(user.start(), "a")
    user.stop()
    [file] = (directory.path / "appendonlydir").glob("*.incr.aof")
    file.write_bytes(b"*3\r\n$3\r\nGARBAGE" + file.read_bytes())

    with pytest.raises(CommandError, match=r"(?s)did not start.*valkey\.log.*Bad file format") as failed:
        user.start()
    # Words of earlier runs would lead astray.
    assert "Ready to accept connections" not in str(failed.value)
    assert not (directory.path / "valkey.pid").exists()


def test_it_may_take_its_time_to_read_back_its_data(directory: DataDirectory) -> None:
    user = directory.user(patience_s=0.3)
    directory.path.mkdir()
    with (
        open(directory.path / "valkey.lock", "ab") as lock,
        Loading(directory.path, for_s=1.0) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        (directory.path / "valkey.url").write_text(server.url)
        pool.submit(server.serve_forever, 0.01)
        try:
            assert user.start() == server.url
            assert time.monotonic() > server.until_s
            assert directory.pid == 4711
            (directory.path / "valkey.pid").unlink()
        finally:
            server.shutdown()


def test_a_server_that_hangs_is_reported_and_left_alone(directory: DataDirectory) -> None:
    starter, user = directory.user(), directory.user(patience_s=0.1)
    url = starter.start()
    user.start()
    pid = directory.pid
    os.kill(pid, signal.SIGSTOP)

    for other in (directory.user(patience_s=0.1), user):
        with pytest.raises(CommandError, match=rf"does not answer.*kill -9 {pid}"):
            other.start()
    os.kill(pid, signal.SIGCONT)
    put(url, "alive")
    # Who had it before the trouble still has it.
    assert starter.stop() is False
    assert user.stop() is True


def test_a_server_that_hangs_is_killed_when_it_is_to_end(directory: DataDirectory) -> None:
    starter, user = directory.user(), directory.user(patience_s=0.2)
    starter.start()
    url = user.start()
    starter.stop()
    put(url, "acknowledged")
    os.kill(directory.pid, signal.SIGSTOP)

    assert user.stop() is True
    assert not answers(url)
    assert value_at(directory.user().start()) == "acknowledged"


def test_a_directory_that_cannot_be_used_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(CommandError, match="PENSTOCK_DATA_DIR"):
        EmbeddedValkey(tmp_path / "file" / "data").start()


def test_a_machine_without_a_binary_is_told_to_bring_its_own_server(
    directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert os.access(server_binary(), os.X_OK)
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")

    with pytest.raises(CommandError, match=r"riscv64.*REDIS_URL"):
        directory.user().start()
