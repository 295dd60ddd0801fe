"""Host names, addresses and networks as an operator writes them in the configuration, parsed one way only.

Spellings that some resolvers accept and others do not (octal, short, hexadecimal) are refused, so that what
is allowed is exactly what is read.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

IPNetwork = IPv4Network | IPv6Network

_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_LOOKS_LIKE_IPV4 = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)")
_HOST_AND_PORT = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(:(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class AllowEntry:
    """One exception for webhook addresses: a host name or a network (a single address is a network of one).

    Exactly one of `host` (lower case) and `network` is set. `port` is None for the usual ports.
    """

    host: str | None
    network: IPNetwork | None
    port: int | None

    @property
    def is_single_address(self) -> bool:
        """Whether the entry is one exact address rather than a range."""
        return self.network is not None and self.network.num_addresses == 1


def parse_network(text: str) -> IPNetwork:
    """An address or a CIDR in its canonical spelling; ValueError says what is wrong with it."""
    if "%" in text:
        raise ValueError("has a zone; write the address without it")
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        whole = ip_network(text, strict=False)
    except ValueError:
        raise ValueError('is not an address or a CIDR such as "10.0.0.0/8" or "fd00::/8"') from None
    raise ValueError(f'has bits set past its prefix; write "{whole}"')


def parse_allow_entry(text: str) -> AllowEntry:
    """A host name, an address or a CIDR, each with `:port` or without; ValueError says what is wrong.

    An IPv6 address or CIDR with a port stands in brackets: `[fd00::1]:9000`.
    """
    if text.count(":") > 1 and not text.startswith("["):
        return AllowEntry(host=None, network=parse_network(text), port=None)
    parts = _HOST_AND_PORT.fullmatch(text)
    if parts is None:
        raise ValueError(
            'is not a host name, an address or a CIDR, with ":port" or without; '
            "a URL's scheme and path do not belong here"
        )
    host = parts["host"].lower()
    port = _port(parts["port"])
    if host.startswith("["):
        network = parse_network(host[1:-1])
        if network.version == 4:
            raise ValueError("has an IPv4 address in brackets; write it without them")
        return AllowEntry(host=None, network=network, port=port)
    if "/" in host or _LOOKS_LIKE_IPV4.fullmatch(host):
        return AllowEntry(host=None, network=parse_network(host), port=port)
    if "*" in host:
        raise ValueError("has a wildcard; name each host, or give a CIDR")
    if not _HOST_NAME.fullmatch(host):
        raise ValueError("is not a host name (names in other scripts are written in their xn-- form)")
    return AllowEntry(host=host, network=None, port=port)


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    port = int(text)
    if not 1 <= port <= 65535:
        raise ValueError("has no possible port; ports are 1 to 65535")
    return port
