"""Which addresses are nobody's public server: an explicit table, from IANA's registries and the clouds' manuals.

The last word of the egress guard, on addresses in URLs, in the answers of name servers, and on those connected
to. `ipaddress.is_global` is no such table: it passes NAT64, 6to4, ::127.0.0.1, multicast and the metadata
services that sit on public-looking addresses.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from jobs.config.addresses import IPNetwork
from jobs.egress.target import IPAddress


@dataclass(frozen=True, slots=True)
class Rule:
    """Why addresses are forbidden. `opens_to_range`: an allowed CIDR around them opens them; without it only
    an entry that is exactly the address does.
    """

    name: str
    what: str
    opens_to_range: bool = False


@dataclass(frozen=True, slots=True)
class Allowed:
    """The address may be connected to."""


@dataclass(frozen=True, slots=True)
class Forbidden:
    """The address may not be connected to."""

    rule: Rule


CLOUD_METADATA: Final = Rule("cloud_metadata", "a cloud's metadata service")
UNSPECIFIED: Final = Rule("unspecified", "an address that means this host")
LOOPBACK: Final = Rule("loopback", "a loopback address")
LINK_LOCAL: Final = Rule("link_local", "a link-local address")
PRIVATE: Final = Rule("private", "a private network", opens_to_range=True)
SHARED: Final = Rule("shared", "the address space shared behind carriers' NAT", opens_to_range=True)
UNIQUE_LOCAL: Final = Rule("unique_local", "a private network (unique local)", opens_to_range=True)
SITE_LOCAL: Final = Rule("site_local", "a site-local address")
MULTICAST: Final = Rule("multicast", "a multicast address")
BROADCAST: Final = Rule("broadcast", "the broadcast address")
RESERVED: Final = Rule("reserved", "a reserved address")
PROTOCOL: Final = Rule("ietf_protocol", "an address kept for protocols")
DOCUMENTATION: Final = Rule("documentation", "an address kept for documentation")
BENCHMARKING: Final = Rule("benchmarking", "an address kept for benchmarks")
AS112: Final = Rule("as112", "the sink for reverse look-ups of private addresses")
AMT: Final = Rule("amt", "a relay for multicast tunnels")
DISCARD: Final = Rule("discard", "an address whose packets are discarded")
IPV4_MAPPED: Final = Rule("ipv4_mapped", "an IPv4 address within an IPv6 address (mapped)")
IPV4_COMPATIBLE: Final = Rule("ipv4_compatible", "an IPv4 address within an IPv6 address (compatible)")
NAT64: Final = Rule("nat64", "an IPv4 address behind a translator (NAT64)")
SIX_TO_FOUR: Final = Rule("6to4", "an IPv4 address behind a tunnel (6to4)")
TEREDO: Final = Rule("teredo", "an IPv4 address behind a tunnel (Teredo)")
ORCHID: Final = Rule("orchid", "an identifier that is no address (ORCHID)")
SRV6: Final = Rule("srv6", "a segment identifier (SRv6)")

_TABLE: Final[tuple[tuple[Rule, str, str], ...]] = (
    # The first row that contains an address is its rule: single services stand before the networks around them.
    # All rows of IANA's registries are here, also those they call globally reachable: they are kept for
    # protocols, and none of them is anybody's receiver.
    (CLOUD_METADATA, "169.254.169.254/32", "AWS, Google, Azure, Oracle, DigitalOcean, OpenStack and others"),
    (CLOUD_METADATA, "169.254.169.253/32", "AWS: the VPC's name server"),
    (CLOUD_METADATA, "169.254.170.2/32", "AWS: credentials of an ECS task"),
    (CLOUD_METADATA, "169.254.170.23/32", "AWS: credentials of an EKS pod"),
    (CLOUD_METADATA, "169.254.42.42/32", "Scaleway"),
    (CLOUD_METADATA, "169.254.0.23/32", "Tencent"),
    (CLOUD_METADATA, "168.63.129.16/32", "Azure: WireServer, on an address that is public elsewhere"),
    (CLOUD_METADATA, "192.0.0.192/32", "Oracle Cloud Classic"),
    (CLOUD_METADATA, "100.100.100.200/32", "Alibaba"),
    (CLOUD_METADATA, "fd00:ec2::/32", "AWS: metadata, name server, time and credentials over IPv6"),
    (CLOUD_METADATA, "fd20:ce::254/128", "Google"),
    (CLOUD_METADATA, "fd00:c1::a9fe:a9fe/128", "Oracle"),
    (CLOUD_METADATA, "fd00:42::42/128", "Scaleway"),
    (CLOUD_METADATA, "fe80::a9fe:a9fe/128", "OpenStack"),
    # iana-ipv4-special-registry
    (UNSPECIFIED, "0.0.0.0/8", "This network, RFC 791; Linux connects 0.0.0.0 to itself"),
    (PRIVATE, "10.0.0.0/8", "Private-Use, RFC 1918"),
    (SHARED, "100.64.0.0/10", "Shared Address Space, RFC 6598"),
    (LOOPBACK, "127.0.0.0/8", "Loopback, RFC 1122"),
    (LINK_LOCAL, "169.254.0.0/16", "Link Local, RFC 3927"),
    (PRIVATE, "172.16.0.0/12", "Private-Use, RFC 1918"),
    (PROTOCOL, "192.0.0.0/24", "IETF Protocol Assignments with all its parts, RFC 6890"),
    (DOCUMENTATION, "192.0.2.0/24", "TEST-NET-1, RFC 5737"),
    (AS112, "192.31.196.0/24", "AS112-v4, RFC 7535"),
    (AMT, "192.52.193.0/24", "AMT, RFC 7450"),
    (SIX_TO_FOUR, "192.88.99.0/24", "Deprecated 6to4 Relay Anycast, RFC 7526"),
    (PRIVATE, "192.168.0.0/16", "Private-Use, RFC 1918"),
    (AS112, "192.175.48.0/24", "Direct Delegation AS112 Service, RFC 7534"),
    (BENCHMARKING, "198.18.0.0/15", "Benchmarking, RFC 2544"),
    (DOCUMENTATION, "198.51.100.0/24", "TEST-NET-2, RFC 5737"),
    (DOCUMENTATION, "203.0.113.0/24", "TEST-NET-3, RFC 5737"),
    (BROADCAST, "255.255.255.255/32", "Limited Broadcast, RFC 919"),
    (RESERVED, "240.0.0.0/4", "Reserved, RFC 1112"),
    # ipv4-address-space
    (MULTICAST, "224.0.0.0/4", "Multicast, RFC 5771"),
    # iana-ipv6-special-registry
    (LOOPBACK, "::1/128", "Loopback Address, RFC 4291"),
    (UNSPECIFIED, "::/128", "Unspecified Address, RFC 4291"),
    (IPV4_MAPPED, "::ffff:0:0/96", "IPv4-mapped Address, RFC 4291"),
    (NAT64, "64:ff9b::/96", "IPv4-IPv6 Translation, RFC 6052"),
    (NAT64, "64:ff9b:1::/48", "IPv4-IPv6 Translation, RFC 8215"),
    (DISCARD, "100::/64", "Discard-Only Address Block, RFC 6666"),
    (DISCARD, "100:0:0:1::/64", "Dummy IPv6 Prefix, RFC 9780"),
    (TEREDO, "2001::/32", "TEREDO, RFC 4380"),
    (BENCHMARKING, "2001:2::/48", "Benchmarking, RFC 5180"),
    (AMT, "2001:3::/32", "AMT, RFC 7450"),
    (AS112, "2001:4:112::/48", "AS112-v6, RFC 7535"),
    (ORCHID, "2001:10::/28", "Deprecated ORCHID, RFC 4843"),
    (ORCHID, "2001:20::/28", "ORCHIDv2, RFC 7343"),
    (ORCHID, "2001:30::/28", "Drone Remote ID, RFC 9374"),
    (PROTOCOL, "2001::/23", "IETF Protocol Assignments, RFC 2928"),
    (DOCUMENTATION, "2001:db8::/32", "Documentation, RFC 3849"),
    (SIX_TO_FOUR, "2002::/16", "6to4, RFC 3056"),
    (AS112, "2620:4f:8000::/48", "Direct Delegation AS112 Service, RFC 7534"),
    (DOCUMENTATION, "3fff::/20", "Documentation, RFC 9637"),
    (SRV6, "5f00::/16", "Segment Routing SIDs, RFC 9602"),
    (UNIQUE_LOCAL, "fc00::/7", "Unique-Local, RFC 4193"),
    (LINK_LOCAL, "fe80::/10", "Link-Local Unicast, RFC 4291"),
    # ipv6-address-space
    (IPV4_COMPATIBLE, "::/96", "IPv4-compatible, deprecated, RFC 4291"),
    (SITE_LOCAL, "fec0::/10", "Site-local, deprecated, RFC 3879"),
    (MULTICAST, "ff00::/8", "Multicast, RFC 4291"),
)

_ROWS_4: Final[tuple[tuple[IPv4Network, Rule], ...]] = tuple(
    (network, rule) for rule, text, _ in _TABLE if isinstance(network := ip_network(text), IPv4Network)
)
_ROWS_6: Final[tuple[tuple[IPv6Network, Rule], ...]] = tuple(
    (network, rule) for rule, text, _ in _TABLE if isinstance(network := ip_network(text), IPv6Network)
)
_IPV6_UNICAST: Final = IPv6Network("2000::/3")
"""All that IANA has given out as global unicast (ipv6-address-space); the rest is reserved."""


def rule_of(address: IPAddress) -> Rule | None:
    """The rule that forbids `address` (a zone is ignored), or None for public unicast."""
    if address.version == 4:
        return next((rule for network, rule in _ROWS_4 if address in network), None)
    listed = next((rule for network, rule in _ROWS_6 if address in network), None)
    return listed or (None if address in _IPV6_UNICAST else RESERVED)


def verdict(address: IPAddress, allowed: Iterable[IPNetwork]) -> Allowed | Forbidden:
    """Whether `address` may be connected to, given the networks that the operator opened for this port."""
    rule = rule_of(address)
    if rule is None or any(_opens(network, address, rule) for network in allowed):
        return Allowed()
    return Forbidden(rule)


def _opens(network: IPNetwork, address: IPAddress, rule: Rule) -> bool:
    return address in network and (rule.opens_to_range or network.num_addresses == 1)
