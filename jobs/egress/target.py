"""Where one webhook is to go, or why it may not go there: what the parts of the egress guard hand each other.

A webhook's URL becomes a Target at submission and again before each delivery; whatever stands in its way is
a Refused, which the API answers with and the delivery writes into its log.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Literal

IPAddress = IPv4Address | IPv6Address
Scheme = Literal["http", "https"]

DEFAULT_PORTS: Final[dict[Scheme, int]] = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Refused:
    """`rule` is a stable word for programs; `message` completes "webhook_url …" and says what to do."""

    rule: str
    message: str


@dataclass(frozen=True, slots=True)
class Host:
    """A host in its one spelling: a name (small letters, ASCII, no last dot), or an address without brackets.

    `address` is None for a name.
    """

    text: str
    address: IPv4Address | IPv6Address | None


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart. `path` begins with a slash and contains the query."""

    scheme: Scheme
    host: Host
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What goes into the Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host.text}]" if isinstance(self.host.address, IPv6Address) else self.host.text
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL in its one spelling."""
        return f"{self.scheme}://{self.authority}{self.path}"
