"""The table of addresses that are nobody's public server, at the borders of its networks."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.egress.addresses import Allowed, Forbidden, rule_of, verdict
from jobs.egress.target import IPAddress

FORBIDDEN = {
    "unspecified": ["0.0.0.0", "0.255.255.255", "::"],
    "loopback": ["127.0.0.0", "127.0.0.1", "127.255.255.255", "::1"],
    "private": [
        *("10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255"),
    ],
    "shared": ["100.64.0.0", "100.127.255.255"],
    "link_local": ["169.254.0.0", "169.254.255.255", "fe80::", "fe80::1%eth0", "febf:ffff::1"],
    "cloud_metadata": [
        *("169.254.169.254", "169.254.169.253", "169.254.170.2", "169.254.170.23", "169.254.42.42"),
        *("169.254.0.23", "168.63.129.16", "192.0.0.192", "100.100.100.200"),
        *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42"),
        "fe80::a9fe:a9fe",
    ],
    "ietf_protocol": ["192.0.0.0", "192.0.0.9", "192.0.0.171", "192.0.0.255", "2001:1::1", "2001:1ff:ffff::"],
    "documentation": [
        *("192.0.2.0", "192.0.2.255", "198.51.100.1", "203.0.113.255"),
        *("2001:db8::", "2001:db8:ffff:ffff::", "3fff::", "3fff:fff:ffff::"),
    ],
    "benchmarking": ["198.18.0.0", "198.19.255.255", "2001:2::", "2001:2:0:ffff::"],
    "as112": ["192.31.196.1", "192.175.48.42", "2001:4:112::1", "2620:4f:8000::42"],
    "amt": ["192.52.193.1", "2001:3::", "2001:3:ffff::"],
    "6to4": ["192.88.99.1", "2002::", "2002:7f00:1::", "2002:ffff:ffff::"],
    "multicast": ["224.0.0.0", "224.0.0.251", "239.255.255.255", "ff00::", "ff02::1", "ffff::"],
    "broadcast": ["255.255.255.255"],
    "reserved": [
        *("240.0.0.0", "255.255.255.254", "200::", "1fff:ffff::", "4000::", "5eff::", "5f01::", "fe00::"),
        *("::ffff:0:7f00:1", "::1:0:0", "101::", "100:0:0:2::", "64:ff9b:2::"),
    ],
    "discard": ["100::", "100::ffff:ffff:ffff:ffff", "100:0:0:1::1"],
    "ipv4_mapped": ["::ffff:0.0.0.0", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:255.255.255.255"],
    "ipv4_compatible": ["::2", "::127.0.0.1", "::8.8.8.8", "::255.255.255.255"],
    "nat64": [
        "64:ff9b::",
        "64:ff9b::127.0.0.1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::",
        "64:ff9b:1:ffff::10.0.0.1",
    ],
    "teredo": ["2001::", "2001:0:7f00:1::", "2001:0:ffff:ffff::"],
    "orchid": ["2001:10::", "2001:1f:ffff::", "2001:20::", "2001:2f:ffff::", "2001:30::", "2001:3f:ffff::"],
    "srv6": ["5f00::", "5f00:ffff::"],
    "unique_local": ["fc00::", "fd00::1", "fd00:ec1:ffff::", "fd00:ec3::", "fdff:ffff::"],
    "site_local": ["fec0::", "feff:ffff::"],
}

PUBLIC = [
    *("1.0.0.0", "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"),
    *("126.255.255.255", "128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0"),
    *("172.15.255.255", "172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0", "192.31.195.255"),
    *("192.88.98.255", "192.88.100.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0"),
    *("198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0", "223.255.255.255"),
    *("2000::", "2001:200::", "2001:4860:4860::8888", "2001:db7:ffff::", "2001:db9::", "2003::"),
    *("2606:4700:4700::1111", "2620:4f:7fff::", "2620:4f:8001::", "2a00:1450::", "3fff:1000::"),
]


@pytest.mark.parametrize(
    ("address", "name"), [(text, name) for name, texts in FORBIDDEN.items() for text in texts]
)
def test_what_is_not_public_unicast_is_forbidden_by_its_rule(address: str, name: str) -> None:
    rule = rule_of(ip_address(address))

    assert rule is not None
    assert rule.name == name
    assert verdict(ip_address(address), []) == Forbidden(rule)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_unicast_is_allowed(address: str) -> None:
    assert rule_of(ip_address(address)) is None
    assert verdict(ip_address(address), []) == Allowed()


@given(st.ip_addresses())
def test_nothing_is_public_that_the_standard_library_knows_better(address: IPAddress) -> None:
    if not address.is_global:
        assert rule_of(address) is not None


@pytest.mark.parametrize(
    "address",
    ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12:3456::1"],
)
def test_a_range_opens_private_networks(address: str) -> None:
    everything = [ip_network("0.0.0.0/0"), ip_network("::/0")]

    assert verdict(ip_address(address), everything) == Allowed()


@pytest.mark.parametrize(
    "address",
    [
        text
        for name, texts in FORBIDDEN.items()
        if name not in ("private", "shared", "unique_local")
        for text in texts
    ],
)
def test_a_range_opens_nothing_else_but_the_exact_address_does(address: str) -> None:
    bare = address.partition("%")[0]
    everything = [ip_network("0.0.0.0/0"), ip_network("::/0")]

    assert isinstance(verdict(ip_address(address), everything), Forbidden)
    assert verdict(ip_address(bare), [*everything, ip_network(bare)]) == Allowed()


def test_an_exact_address_opens_no_neighbour() -> None:
    assert isinstance(verdict(ip_address("127.0.0.2"), [ip_network("127.0.0.1")]), Forbidden)
    assert isinstance(verdict(ip_address("10.0.0.2"), [ip_network("10.0.0.1")]), Forbidden)
