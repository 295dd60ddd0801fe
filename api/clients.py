"""Which address a request comes from: what an anonymous caller is limited by.

The peer's own address counts, unless the peer is a trusted proxy; then what it says of whom it speaks for.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.types import Scope

from api.body import header_values
from jobs.config.addresses import IPNetwork

_IPAddress = IPv4Address | IPv6Address

_MOST_HOPS = 32
# A Forwarded header (RFC 7239), one hop: `for` alone matters here.
_FORWARDED_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*("[^"]*"|[^;,\s]*)', re.IGNORECASE)


def anonymous_user(address: _IPAddress) -> str:
    """`ip:<address>`; of IPv6 the /64, which is what one subscriber has."""
    if isinstance(address, IPv6Address):
        return f"ip:{ip_network((address, 64), strict=False)}"
    return f"ip:{address}"


def client_address(scope: Scope, trusted: Sequence[IPNetwork]) -> _IPAddress | None:
    """The caller's address; None if the peer has none (a Unix socket).

    Proxies append to what they were sent, so the last address that is no proxy of ours is the first that a caller
    could not have made up. Where X-Forwarded-For and Forwarded disagree, one of them was made up: neither counts.
    """
    client = scope.get("client")
    peer = _address(client[0]) if client else None
    if peer is None or not _trusted(peer, trusted):
        return peer
    told = [hops for hops in (_x_forwarded_for(scope), _forwarded(scope)) if hops is not None]
    seen = {_last_untrusted(hops, peer, trusted) for hops in told}
    return seen.pop() if len(seen) == 1 else peer


def _last_untrusted(
    hops: Sequence[_IPAddress | None], peer: _IPAddress, trusted: Sequence[IPNetwork]
) -> _IPAddress:
    nearest = peer
    for hop in reversed(hops):
        if hop is None:
            return nearest
        nearest = hop
        if not _trusted(hop, trusted):
            return hop
    return nearest


def _x_forwarded_for(scope: Scope) -> list[_IPAddress | None] | None:
    values = header_values(scope, b"x-forwarded-for")
    if not values:
        return None
    return [_address(_without_port(hop)) for hop in _last_hops(values)]


def _forwarded(scope: Scope) -> list[_IPAddress | None] | None:
    values = header_values(scope, b"forwarded")
    if not values:
        return None
    hops = []
    for element in _last_hops(values):
        match = _FORWARDED_FOR.search(element.strip())
        hops.append(_address(_without_port(match[1].strip('"'))) if match else None)
    return hops


def _last_hops(values: list[bytes]) -> list[str]:
    """What the nearest proxies told: a caller may have put thousands before."""
    return b",".join(values).decode("latin-1").rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]


def _without_port(text: str) -> str:
    text = text.strip()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    host, colon, port = text.partition(":")
    return host if colon and port.isdecimal() else text


def _address(text: str) -> _IPAddress | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _trusted(address: _IPAddress, trusted: Sequence[IPNetwork]) -> bool:
    return any(address in network for network in trusted)
