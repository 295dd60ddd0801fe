"""Looking up the addresses of a host name: the seam between the egress guard and the system's resolver.

Look-ups run in threads of their own. The loop's executor would do it too, but a user with names that take
long to fail would occupy it, and everything else that runs there would wait.
"""

import asyncio
import socket
import threading
from contextlib import suppress
from ipaddress import ip_address
from typing import Protocol

from jobs.egress.target import IPAddress


class NameUnknownError(Exception):
    """The name servers answered that the name has no address."""


class NameServerError(Exception):
    """No name server gave an answer: a failure on our side, as far as can be told."""


class Resolver(Protocol):
    """Looks names up."""

    async def resolve(self, name: str) -> tuple[IPAddress, ...]:
        """All addresses of `name`, best first, at least one. Raises NameUnknownError or NameServerError."""
        ...


class SystemResolver:
    """Asks what the operating system is configured with (hosts file, name servers), by getaddrinfo.

    `at_once` bounds the look-ups under way; more wait. A look-up that nobody waits for any more runs on to
    its end and keeps its place until then, because getaddrinfo cannot be interrupted.
    """

    def __init__(self, *, at_once: int = 64) -> None:
        self._places = asyncio.Semaphore(at_once)

    async def resolve(self, name: str) -> tuple[IPAddress, ...]:
        """See Resolver."""
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[IPAddress, ...]] = loop.create_future()

        def settle(found: tuple[IPAddress, ...] | Exception) -> None:
            self._places.release()
            if answer.done():
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        def look_up() -> None:
            found = _look_up(name)
            # The loop may have been closed while the name servers were silent.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, found)

        # As a daemon, so that a silent name server does not hold up the end of the process.
        thread = threading.Thread(target=look_up, name="look-up", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._places.release()
            raise NameServerError from error
        return await answer


_UNKNOWN = frozenset(
    code
    for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")
    if isinstance(code := getattr(socket, name, None), int)
)


def _look_up(name: str) -> tuple[IPAddress, ...] | Exception:
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return NameUnknownError() if error.errno in _UNKNOWN else NameServerError()
    except (OSError, UnicodeError):
        return NameServerError()
    texts = dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers)
    return tuple(ip_address(text.partition("%")[0]) for text in texts)
