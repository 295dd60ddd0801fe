"""TCP ports: whether one is free before anything is started, and where a listener is reached."""

import errno
import random
import socket

from cli.errors import CommandError

_DRAWN = range(20_000, 30_000)
"""Below the ports that systems give to outgoing connections, one of which might take ours before a child listens."""
_DRAWS = 100


def claim_port(host: str, port: int, *, option: str = "--port") -> int:
    """The port to listen on: `port` if it is free, any free one for 0. Raises CommandError if there is none."""
    wanted = [port] if port else random.sample(_DRAWN, _DRAWS)
    for candidate in wanted:
        try:
            return _probed(host, candidate)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or candidate == wanted[-1]:
                raise CommandError(_refused(host, port, option, error)) from None
    raise AssertionError("no port was tried")


def _probed(host: str, port: int) -> int:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        # A port whose old connections are still closing is free for a server.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    return port


def _refused(host: str, port: int, option: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is taken by another program; stop it or choose another port with {option}"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges; choose one above 1023 with {option}"
    return f"cannot listen on {host} port {port}: {error.strerror}; choose an address of this machine with --host"


def base_url(host: str, port: int) -> str:
    """The URL at which this machine reaches a listener on `host`."""
    reached = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
