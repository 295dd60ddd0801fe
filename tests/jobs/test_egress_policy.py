"""What entries of `webhooks.allow` open, and what they leave closed."""

from ipaddress import ip_address

import pytest

from jobs.config import Webhooks
from jobs.egress import Policy, Refused, parse


def judge(url: str, addresses: tuple[str, ...], allow: tuple[str, ...], *, allow_http: bool = False) -> str:
    """The rule that refuses `url`, whose name leads to `addresses`; "" if none does."""
    policy = Policy.of(Webhooks(allow=allow, allow_http=allow_http))
    target = parse(url, policy)
    if isinstance(target, Refused):
        return target.rule
    refused = policy.refuse_addresses(
        target, [ip_address(text) for text in addresses] or [ip_address(target.host.text)]
    )
    return refused.rule if refused is not None else ""


@pytest.mark.parametrize(
    ("url", "addresses", "allow"),
    [
        # an address
        ("https://10.1.2.3/", (), ("10.1.2.3",)),
        ("https://10.1.2.3:8443/", (), ("10.1.2.3",)),
        ("https://127.0.0.1/", (), ("127.0.0.1",)),
        ("https://[::1]/", (), ("::1",)),
        ("https://169.254.169.254/", (), ("169.254.169.254",)),
        ("https://[fd00:ec2::254]/", (), ("fd00:ec2::254",)),
        ("https://192.0.2.7/", (), ("192.0.2.7",)),
        ("https://hooks.example.com/", ("127.0.0.1",), ("127.0.0.1",)),
        ("https://127.0.0.1/", (), ("127.0.0.1/32",)),
        # an address with a port: either scheme
        ("http://127.0.0.1:9000/", (), ("127.0.0.1:9000",)),
        ("https://127.0.0.1:9000/", (), ("127.0.0.1:9000",)),
        ("http://[fd00::1]:9000/", (), ("[fd00::1]:9000",)),
        ("http://10.1.2.3:80/", (), ("10.1.2.3:80",)),
        ("https://127.0.0.1:8443/", (), ("127.0.0.1:8443",)),
        ("https://8.8.8.8:9000/", (), ("8.8.8.8:9000",)),
        # a range
        ("https://10.20.1.2/", (), ("10.20.0.0/16",)),
        ("https://hooks.example.com/", ("10.20.1.2", "10.20.1.3"), ("10.20.0.0/16",)),
        ("https://hooks.example.com/", ("10.20.1.2", "93.184.215.14"), ("10.20.0.0/16",)),
        ("https://hooks.example.com/", ("10.20.1.2", "fd00::7"), ("10.20.0.0/16", "fd00::/8")),
        ("https://100.64.1.1/", (), ("100.64.0.0/10",)),
        ("http://10.20.1.2:9000/", (), ("10.20.0.0/16:9000",)),
        ("http://hooks.example.com:9000/", ("10.20.1.2",), ("10.20.0.0/16:9000",)),
        ("https://93.184.215.14:9000/", (), ("93.184.0.0/16:9000",)),
        # names of local networks, where a range or the name itself is allowed
        ("https://hooks.internal/", ("10.20.1.2",), ("10.20.0.0/16",)),
        ("http://receiver:9000/", ("172.18.0.5",), ("172.16.0.0/12:9000",)),
        ("https://hooks.internal/", ("10.20.1.2",), ("hooks.internal",)),
        # a name opens whatever it leads to
        ("https://localhost/", ("::1", "127.0.0.1"), ("localhost",)),
        ("http://localhost:9000/", ("::1", "127.0.0.1"), ("localhost:9000",)),
        ("https://LOCALHOST:8443/", ("127.0.0.1",), ("LocalHost",)),
        ("https://metadata.google.internal/", ("169.254.169.254",), ("metadata.google.internal",)),
        ("https://exämple.com/", ("10.0.0.1",), ("xn--exmple-cua.com",)),
        ("https://hooks.example.com:9000/", ("93.184.215.14",), ("hooks.example.com:9000",)),
        ("http://hooks.example.com:9000/", ("64:ff9b::5db8:d70e",), ("hooks.example.com:9000",)),
    ],
)
def test_allowed(url: str, addresses: tuple[str, ...], allow: tuple[str, ...]) -> None:
    assert judge(url, addresses, allow) == ""


@pytest.mark.parametrize("url", ["http://10.1.2.3/", "http://10.1.2.3:8080/", "https://10.1.2.3/"])
def test_an_entry_without_a_port_holds_for_the_usual_ones(url: str) -> None:
    assert judge(url, (), ("10.1.2.3",), allow_http=True) == ""


@pytest.mark.parametrize(
    ("url", "addresses", "allow", "rule"),
    [
        # an entry without a port opens no other port or scheme
        ("https://10.1.2.3:9000/", (), ("10.1.2.3",), "port"),
        ("http://10.1.2.3/", (), ("10.1.2.3",), "scheme"),
        ("http://localhost/", ("127.0.0.1",), ("localhost",), "scheme"),
        ("https://localhost:9000/", ("127.0.0.1",), ("localhost",), "port"),
        # an entry with a port opens that port alone
        ("https://127.0.0.1/", (), ("127.0.0.1:9000",), "loopback"),
        ("https://10.1.2.3/", (), ("10.0.0.0/8:9000",), "private"),
        ("https://127.0.0.1:9001/", (), ("127.0.0.1:9000",), "port"),
        ("https://localhost:9001/", ("127.0.0.1",), ("localhost:9000",), "port"),
        ("https://localhost/", ("127.0.0.1",), ("localhost:9000",), "local_name"),
        # and that only for its addresses
        ("https://10.1.2.4/", (), ("10.1.2.3",), "private"),
        ("https://10.21.0.1/", (), ("10.20.0.0/16",), "private"),
        ("http://hooks.example.com:9000/", ("93.184.215.14",), ("10.20.0.0/16:9000",), "scheme"),
        ("https://hooks.example.com:9000/", ("93.184.215.14",), ("10.20.0.0/16:9000",), "port"),
        ("https://hooks.example.com:9000/", ("10.21.0.1",), ("10.20.0.0/16:9000",), "private"),
        ("https://hooks.example.com/", ("10.20.1.2", "10.21.0.1"), ("10.20.0.0/16",), "private"),
        ("https://receiver/", ("127.0.0.1",), ("172.16.0.0/12",), "loopback"),
        # a range opens neither loopback, link-local nor metadata, nor ways around
        ("https://127.0.0.1/", (), ("127.0.0.0/8",), "loopback"),
        ("https://127.0.0.1/", (), ("0.0.0.0/0",), "loopback"),
        ("https://[::1]/", (), ("::/0",), "loopback"),
        ("https://169.254.1.1/", (), ("169.254.0.0/16",), "link_local"),
        ("https://169.254.169.254/", (), ("169.254.0.0/16",), "cloud_metadata"),
        ("https://168.63.129.16/", (), ("168.63.129.0/24",), "cloud_metadata"),
        ("https://100.100.100.200/", (), ("100.64.0.0/10",), "cloud_metadata"),
        ("https://[fd00:ec2::254]/", (), ("fd00::/8",), "cloud_metadata"),
        ("https://[fe80::1]/", (), ("fe80::/10",), "link_local"),
        ("https://[64:ff9b::a00:1]/", (), ("64:ff9b::/96",), "nat64"),
        ("https://hooks.example.com/", ("::ffff:10.0.0.1",), ("10.0.0.0/8", "::/0"), "ipv4_mapped"),
        ("https://0.0.0.0/", (), ("0.0.0.0/0",), "unspecified"),
        # a name opens no other name, and not itself in another spelling of an address
        ("https://evil.example.com/", ("127.0.0.1",), ("localhost",), "loopback"),
        ("https://a.localhost/", ("127.0.0.1",), ("localhost",), "local_name"),
        ("https://localhost./", ("127.0.0.1",), ("localhost",), "trailing_dot"),
        ("https://127.1/", (), ("127.0.0.1",), "address_spelling"),
        ("https://[::ffff:127.0.0.1]/", (), ("127.0.0.1", "::ffff:127.0.0.1"), "address_spelling"),
    ],
)
def test_refused(url: str, addresses: tuple[str, ...], allow: tuple[str, ...], rule: str) -> None:
    assert judge(url, addresses, allow) == rule


def test_a_refusal_does_not_tell_the_address_a_name_leads_to() -> None:
    policy = Policy()
    target = parse("https://hooks.example.com/", policy)
    assert not isinstance(target, Refused)

    refused = policy.refuse_addresses(target, [ip_address("10.11.12.13")])

    assert refused is not None
    assert refused.rule == "private"
    assert "10." not in refused.message
