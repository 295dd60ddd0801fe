"""The one connection to Valkey that all simulated processes share: commands go out and come back synchronously.

It speaks RESP3, so that what a script publishes arrives on the same connection, in order, with its answer.
"""

import hashlib
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

import hiredis
from redis.exceptions import NoScriptError, ResponseError

Part: TypeAlias = str | bytes | int | float

HERE = Path(__file__).parent
DUMP = (HERE / "dump.lua").read_text()
AGE = (HERE / "age.lua").read_text()


class Wire:
    """Not for use by threads. Every call waits for its answers; `pushes` are (channel, message), oldest first."""

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.create_connection((host, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        self.pushes: list[tuple[str, str]] = []
        self.call(("HELLO", "3"))
        self.call(("PSUBSCRIBE", "worker:*"), ("SUBSCRIBE", "done"), ("PING",), wanted=1)
        self.pushes.clear()
        self._dump, self._age = self.call(("SCRIPT", "LOAD", DUMP), ("SCRIPT", "LOAD", AGE))

    def close(self) -> None:
        self._socket.close()

    def call(self, *commands: Sequence[Part], wanted: int | None = None) -> list[Any]:
        """The answers to the commands, in one round trip. Raises ResponseError for the first that is an error."""
        # Its annotation says that a command is a tuple of one part.
        packed = [hiredis.pack_command(cast(tuple[Part], tuple(command))) for command in commands]
        self._socket.sendall(b"".join(packed))
        answers: list[Any] = []
        while len(answers) < (len(commands) if wanted is None else wanted):
            answer = self._reader.gets()
            if answer is False:
                data = self._socket.recv(1 << 16)
                if not data:
                    raise ConnectionError("Valkey has ended")
                self._reader.feed(data)
            elif isinstance(answer, hiredis.PushNotification):
                if answer[0] in (b"message", b"pmessage"):
                    self.pushes.append((answer[-2].decode(), answer[-1].decode()))
            else:
                answers.append(answer)
        for answer in answers:
            if isinstance(answer, hiredis.ReplyError):
                message = str(answer)
                if message.startswith("NOSCRIPT"):
                    raise NoScriptError(message.removeprefix("NOSCRIPT "))
                raise ResponseError(message)
        return answers

    def empty(self) -> None:
        """Nothing is left of what another schedule wrote; loaded scripts stay."""
        self.call(("FLUSHALL", "SYNC"))
        self.pushes.clear()

    def load(self, scripts: Sequence[str]) -> None:
        """Have these scripts loaded."""
        digests = [hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for text in scripts]
        [known] = self.call(("SCRIPT", "EXISTS", *digests))
        for text, there in zip(scripts, known, strict=True):
            if not there:
                self.call(("SCRIPT", "LOAD", text))

    def dump(self, *, lives: bool = False) -> dict[str, tuple[str, int, Any]]:
        """All there is: key -> type, ms to live if `lives` and it has an end, else -1, value (dump.lua)."""
        [answer] = self._own(self._dump, DUMP, int(lives))
        return {key: (kind, left_ms, value) for key, (kind, left_ms, value) in json.loads(answer).items()}

    def age(self, ms: int) -> None:
        """Bring the end of every key's life nearer: Valkey's own clock knows nothing of the simulated time."""
        self._own(self._age, AGE, ms)

    def _own(self, sha: bytes, text: str, *arguments: Part) -> list[Any]:
        try:
            return self.call(("EVALSHA", sha, 0, *arguments))
        except NoScriptError:
            return self.call(("EVAL", text, 0, *arguments))
