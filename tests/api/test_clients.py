"""Whose address counts, and as which anonymous user."""

from ipaddress import ip_address, ip_network

import pytest

from api.clients import anonymous_user, client_address

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
XFF, FORWARDED = b"x-forwarded-for", b"forwarded"


def address(peer: str | None, *headers: tuple[bytes, bytes]) -> str:
    scope = {"headers": list(headers), "client": (peer, 1234) if peer else None}
    return str(client_address(scope, TRUSTED))


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("192.0.2.7", "ip:192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "ip:2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "ip:2001:db8:1:2::/64"),
    ],
)
def test_an_anonymous_user_is_an_address_or_a_subscribers_network(text: str, user: str) -> None:
    assert anonymous_user(ip_address(text)) == user


def test_the_peer_counts_whatever_it_claims() -> None:
    assert address("192.0.2.7") == "192.0.2.7"
    assert address("192.0.2.7", (XFF, b"198.51.100.1"), (FORWARDED, b"for=198.51.100.1")) == "192.0.2.7"
    assert address("::ffff:192.0.2.7") == "192.0.2.7"
    assert address(None, (XFF, b"198.51.100.1")) == "None"


@pytest.mark.parametrize(
    ("header", "seen"),
    [
        ((XFF, b"198.51.100.1"), "198.51.100.1"),
        ((XFF, b"203.0.113.9, 198.51.100.1"), "198.51.100.1"),
        ((XFF, b"198.51.100.1, 10.0.0.2, 10.0.0.3"), "198.51.100.1"),
        ((XFF, b"198.51.100.1:4711"), "198.51.100.1"),
        ((XFF, b"2001:db8::1"), "2001:db8::1"),
        ((XFF, b"[2001:db8::1]:4711"), "2001:db8::1"),
        ((XFF, b"::ffff:198.51.100.1"), "198.51.100.1"),
        ((XFF, b"fe80::1%eth0"), "fe80::1"),
        ((XFF, b"10.9.9.9"), "10.9.9.9"),
        ((XFF, b"nonsense"), "10.0.0.1"),
        ((XFF, b"198.51.100.1, nonsense"), "10.0.0.1"),
        ((XFF, b"198.51.100.1, nonsense, 10.0.0.5"), "10.0.0.5"),
        ((XFF, b""), "10.0.0.1"),
        ((XFF, b"\xff\xfe"), "10.0.0.1"),
        ((FORWARDED, b"for=198.51.100.1"), "198.51.100.1"),
        ((FORWARDED, b'for=203.0.113.9, For="[2001:db8::1]:4711";proto=https'), "2001:db8::1"),
        ((FORWARDED, b"proto=https;for=198.51.100.1;by=10.0.0.1"), "198.51.100.1"),
        ((FORWARDED, b"for=unknown"), "10.0.0.1"),
        ((FORWARDED, b"for=_hidden"), "10.0.0.1"),
        ((FORWARDED, b"proto=https"), "10.0.0.1"),
    ],
)
def test_a_trusted_proxy_tells_whom_it_speaks_for(header: tuple[bytes, bytes], seen: str) -> None:
    assert address("10.0.0.1", header) == seen


def test_several_headers_are_one_list() -> None:
    assert address("10.0.0.1", (XFF, b"203.0.113.9"), (XFF, b"198.51.100.1")) == "198.51.100.1"


def test_where_the_two_headers_disagree_neither_counts() -> None:
    assert address("10.0.0.1", (XFF, b"198.51.100.1"), (FORWARDED, b"for=203.0.113.9")) == "10.0.0.1"
    assert address("10.0.0.1", (XFF, b"198.51.100.1"), (FORWARDED, b"for=198.51.100.1")) == "198.51.100.1"


def test_a_long_list_is_cut() -> None:
    assert address("10.0.0.1", (XFF, b"198.51.100.1" + b",10.0.0.2" * 5_000)) == "10.0.0.2"


@pytest.mark.parametrize("name", [XFF, FORWARDED])
def test_of_a_long_list_only_the_end_is_looked_at(name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []

    def watched(hop: str) -> str:
        looked_at.append(hop)
        return hop

    monkeypatch.setattr("api.clients._without_port", watched)
    hop = b"for=10.0.0.2," if name == FORWARDED else b"10.0.0.2,"
    address("10.0.0.1", (name, hop * 5_000 + hop[:-1]))
    assert looked_at == ["10.0.0.2"] * 32
