"""How entries of `webhooks.allow` are read."""

from ipaddress import ip_network

import pytest

from jobs.config import Webhooks
from jobs.config.addresses import AllowEntry, parse_allow_entry


@pytest.mark.parametrize(
    ("text", "host", "network", "port"),
    [
        ("hooks.internal", "hooks.internal", None, None),
        ("Hooks.Internal:9000", "hooks.internal", None, 9000),
        ("localhost", "localhost", None, None),
        ("my_service:8080", "my_service", None, 8080),
        ("xn--exmple-cua.com", "xn--exmple-cua.com", None, None),
        ("127.0.0.1", None, "127.0.0.1/32", None),
        ("127.0.0.1:9000", None, "127.0.0.1/32", 9000),
        ("10.20.0.0/16", None, "10.20.0.0/16", None),
        ("10.20.0.0/16:8443", None, "10.20.0.0/16", 8443),
        ("::1", None, "::1/128", None),
        ("fd00::/8", None, "fd00::/8", None),
        ("[fd00::1]", None, "fd00::1/128", None),
        ("[fd00::/8]:9000", None, "fd00::/8", 9000),
    ],
)
def test_accepted(text: str, host: str | None, network: str | None, port: int | None) -> None:
    expected = AllowEntry(host=host, network=ip_network(network) if network else None, port=port)

    assert parse_allow_entry(text) == expected
    assert parse_allow_entry(Webhooks(allow=(text,)).allow[0]) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "*.internal",
        "https://hooks.internal",
        "hooks.internal/path",
        "hooks.internal.",
        "user@hooks.internal",
        "-a.internal",
        "a..b",
        "a b",
        "exämple.com",
        "x" * 64,
        "hooks.internal:",
        "hooks.internal:0",
        "hooks.internal:65536",
        "hooks.internal:٨٠",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0x7f000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "１２７.0.0.1",
        "10.20.0.1/16",
        "10.0.0.0/255.0.0.0x",
        "[127.0.0.1]:80",
        "[::1",
        "::1]:80",
        "[hooks.internal]",
        "fe80::1%eth0",
        "[fe80::1%eth0]:80",
        "hooks.internal\n",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|has"):
        parse_allow_entry(text)
    with pytest.raises(ValueError, match=r"is not|has"):
        Webhooks(allow=(text,))


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("*.internal", "name each host"),
        ("10.20.0.1/16", 'write "10.20.0.0/16"'),
        ("127.1", "is not an address or a CIDR"),
        ("https://hooks.internal/path", "scheme and path do not belong here"),
        ("exämple.com", "xn-- form"),
        ("hooks.internal:0", "ports are 1 to 65535"),
        ("fe80::1%eth0", "without it"),
    ],
)
def test_a_refusal_says_what_to_write_instead(text: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        parse_allow_entry(text)


def test_a_network_of_one_address_is_told_from_a_range() -> None:
    assert parse_allow_entry("127.0.0.1:9000").is_single_address
    assert parse_allow_entry("::1").is_single_address
    assert not parse_allow_entry("127.0.0.0/8").is_single_address
    assert not parse_allow_entry("localhost").is_single_address
