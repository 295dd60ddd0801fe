"""The commands that clients send to a Redis, counted by MONITOR; those that scripts give are not among them."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis import Redis

_SETTLED_S = 0.3


@contextmanager
def counted(redis_url: str, *, but_for: str = "") -> Iterator[Counter[str]]:
    """Counts by name what is sent while the block runs; the counter is whole when the block has ended.

    `but_for`: the name of clients, connected before, that are left out.
    """
    host, _, port = redis_url.removeprefix("redis://").partition("/")[0].partition(":")
    counts: Counter[str] = Counter()
    with Redis(host=host, port=int(port)) as client:
        apart = {one["addr"].encode() for one in client.client_list() if but_for and one["name"] == but_for}
    with socket.create_connection((host, int(port))) as monitor:
        monitor.sendall(b"MONITOR\r\n")
        reader = threading.Thread(target=_read, args=(monitor, counts, apart), daemon=True)
        reader.start()
        time.sleep(_SETTLED_S)
        counts.clear()
        yield counts
        time.sleep(_SETTLED_S)
        monitor.shutdown(socket.SHUT_RDWR)
        reader.join()


def _read(monitor: socket.socket, counts: Counter[str], apart: set[bytes]) -> None:
    """A line is `+1700000000.000000 [0 127.0.0.1:5000] "GET" "key"`, or `[0 lua]` for what a script gives."""
    # Closed in the middle of a line, a connection may end as one that was reset: all that counts has come by then.
    with monitor.makefile("rb") as lines, suppress(ConnectionResetError):
        for line in lines:
            source, _, command = line.partition(b"] ")
            sender = source.rpartition(b" ")[2]
            if command and sender != b"lua" and sender not in apart:
                counts[command.split(b'"', 2)[1].decode().upper()] += 1
