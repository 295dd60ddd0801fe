"""TCP ports: whether one is free before anything is started, and where a listener is reached."""

import errno
import socket

from cli.errors import CommandError


def claim_port(host: str, port: int, *, option: str = "--port") -> int:
    """The port to listen on: `port` if it is free, any free one for 0. Raises CommandError if it is taken."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # A port whose old connections are still closing is free for a server.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            taken: int = probe.getsockname()[1]
            return taken
    except OSError as error:
        raise CommandError(_refused(host, port, option, error)) from None


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
