"""Which URLs are read, as what, and which rule stops the others before any name is looked up."""

from ipaddress import ip_address

import pytest

from jobs.egress import Host, Policy, Refused, Target, parse

DEFAULT = Policy()
WITH_HTTP = Policy(allow_http=True)


def name(text: str) -> Host:
    return Host(text, None)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", Target("https", name("example.com"), 443, "/")),
        ("https://example.com/", Target("https", name("example.com"), 443, "/")),
        ("https://example.com:443/a", Target("https", name("example.com"), 443, "/a")),
        ("https://example.com:8443/a/b?c=d&e", Target("https", name("example.com"), 8443, "/a/b?c=d&e")),
        ("https://example.com?c=d", Target("https", name("example.com"), 443, "/?c=d")),
        ("https://example.com/a?b=c?d/e@f:g", Target("https", name("example.com"), 443, "/a?b=c?d/e@f:g")),
        ("https://example.com/%41%zz|{}", Target("https", name("example.com"), 443, "/%41%zz|{}")),
        ("https://example.com//evil.com/../a", Target("https", name("example.com"), 443, "//evil.com/../a")),
        ("HTTPS://Hooks.EXAMPLE.com/A", Target("https", name("hooks.example.com"), 443, "/A")),
        ("https://a-b.c_d.example.com/", Target("https", name("a-b.c_d.example.com"), 443, "/")),
        ("https://xn--exmple-cua.com/", Target("https", name("xn--exmple-cua.com"), 443, "/")),
        ("https://exämple.com/", Target("https", name("xn--exmple-cua.com"), 443, "/")),
        ("https://WWW.exämple.com/", Target("https", name("www.xn--exmple-cua.com"), 443, "/")),
        ("https://straße.de/", Target("https", name("xn--strae-oqa.de"), 443, "/")),
        ("https://日本.jp/", Target("https", name("xn--wgv71a.jp"), 443, "/")),
        ("https://1.example.com/", Target("https", name("1.example.com"), 443, "/")),
        ("https://1.2.3.4.example/", Target("https", name("1.2.3.4.example"), 443, "/")),
        ("https://0x7f.com/", Target("https", name("0x7f.com"), 443, "/")),
        ("https://8.8.8.8/", Target("https", Host("8.8.8.8", ip_address("8.8.8.8")), 443, "/")),
        (
            "https://[2606:4700::1111]:8443/",
            Target("https", Host("2606:4700::1111", ip_address("2606:4700::1111")), 8443, "/"),
        ),
    ],
)
def test_taken_apart(url: str, target: Target) -> None:
    assert parse(url, DEFAULT) == target


@pytest.mark.parametrize("url", ["http://example.com/", "http://example.com:80/", "http://example.com:8080/"])
def test_http_is_read_where_it_is_allowed(url: str) -> None:
    refused = parse(url, DEFAULT)
    assert isinstance(refused, Refused)
    assert refused.rule == "scheme"

    assert isinstance(parse(url, WITH_HTTP), Target)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://Example.com:443/", "example.com"),
        ("https://example.com:8443/", "example.com:8443"),
        ("http://example.com:80/", "example.com"),
        ("http://example.com:8080/", "example.com:8080"),
        ("https://[2606:4700::1111]/", "[2606:4700::1111]"),
        ("https://[2606:4700::1111]:8443/", "[2606:4700::1111]:8443"),
    ],
)
def test_the_host_header_names_the_port_only_where_it_is_not_the_schemes_own(
    url: str, authority: str
) -> None:
    target = parse(url, WITH_HTTP)

    assert isinstance(target, Target)
    assert target.authority == authority
    assert target.url == f"{target.scheme}://{authority}/"


@pytest.mark.parametrize(
    ("url", "rule", "advice"),
    [
        ("", "not_a_url", "https://hooks.example.com/path"),
        ("example.com/hook", "not_a_url", "must be a URL"),
        ("//example.com/hook", "not_a_url", "must be a URL"),
        ("https:/example.com/", "not_a_url", "must be a URL"),
        ("https:example.com", "not_a_url", "must be a URL"),
        ("ftp://example.com/", "scheme", "https://"),
        ("file:///etc/passwd", "scheme", "https://"),
        ("gopher://example.com/", "scheme", "https://"),
        ("https://", "host", "has no host"),
        ("https:///path", "host", "has no host"),
        ("https://:443/", "host", "has no host"),
        ("https://user@example.com/", "userinfo", "signed instead"),
        ("https://user:password@example.com/", "userinfo", "signed instead"),
        ("https://@example.com/", "userinfo", "signed instead"),
        ("https://example.com/#fragment", "fragment", "leave it out"),
        ("https://example.com\\@127.0.0.1/", "characters", "percent-encode"),
        ("https://example.com/a b", "characters", "percent-encode"),
        (" https://example.com/", "characters", "space"),
        ("https://example.com/\n", "characters", "invisible"),
        ("https://exa\u200bmple.com/", "characters", "invisible"),
        ("https://example.com/\ud800", "characters", "invisible"),
        ("https://example.com/é", "characters", "percent-encode"),
        ("https://example.com/" + "a" * 2029, "too_long", "2048"),
        ("https://example.com:8080/", "port", "443 or 8443"),
        ("https://example.com:80/", "port", "443 or 8443"),
        ("https://example.com:65536/", "port", "443 or 8443"),
        ("https://example.com:0443/", "not_a_url", "host:port"),
        ("https://example.com:0/", "not_a_url", "host:port"),
        ("https://example.com:/", "not_a_url", "host:port"),
        ("https://example.com:443:443/", "not_a_url", "host:port"),
        ("https://example.com:+443/", "not_a_url", "host:port"),
        ("https://example.com:４４３/", "not_a_url", "host:port"),
        ("https://example.com./", "trailing_dot", "leave it out"),
        ("https://-example.com/", "host", "host name"),
        ("https://a..b.com/", "host", "host name"),
        ("https://.example.com/", "host", "host name"),
        ("https://*.example.com/", "host", "host name"),
        ("https://exam%70le.com/", "host", "host name"),
        ("https://" + "a" * 64 + ".com/", "host", "host name"),
        ("https://" + "a." * 127 + "com/", "host", "host name"),
        ("https://" + "ä." * 127 + "com/", "host", "host name"),
        ("https://ÉXAMPLE.com/", "host", "xn-- form"),
        ("https://" + "ä" * 63 + ".com/", "host", "xn-- form"),
        ("https://intranet/", "local_name", "webhooks.allow"),
        ("https://db.internal/", "local_name", "webhooks.allow"),
        ("https://[2606:4700:0:0:0:0:0:1111]/", "address_spelling", "write [2606:4700::1111]"),
        ("https://[2606:4700::ABCD]/", "address_spelling", "write [2606:4700::abcd]"),
        ("https://127.1/", "address_spelling", "four decimal numbers"),
        ("https://[::ffff:8.8.8.8]/", "address_spelling", "a.b.c.d"),
        ("https://10.0.0.1/", "private", "its network or address in webhooks.allow"),
        ("https://127.0.0.1/", "loopback", "exactly this address"),
    ],
)
def test_refused_with_its_rule_and_what_to_do(url: str, rule: str, advice: str) -> None:
    refused = parse(url, DEFAULT)

    assert isinstance(refused, Refused)
    assert refused.rule == rule
    assert advice in refused.message


def test_the_longest_url_is_read() -> None:
    assert isinstance(parse("https://example.com/" + "a" * 2028, DEFAULT), Target)
