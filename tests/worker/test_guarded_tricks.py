"""The table of addresses and tricks by which webhooks have been made to reach what they must not.

Each is refused when it is submitted, and by the delivery as well, which trusts no check before it.
"""

import ssl

import pytest

from jobs.egress import Policy, Refused, SubmissionCheck
from tests.jobs.names import Names
from worker.webhooks.guarded import Failed, GuardedClient

SPELLED = [
    # loopback
    "https://127.0.0.1/",
    "https://127.0.0.1:8443/",
    "https://127.1.2.3/",
    "https://127.255.255.255/",
    "https://2130706433/",
    "https://02130706433/",
    "https://6425673729/",
    "https://0x7f000001/",
    "https://0X7F000001/",
    "https://0x7f.0x0.0x0.0x1/",
    "https://0x7f.1/",
    "https://0x7f.0.0.1/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://0177.0.0.01/",
    "https://00000177.0.0.1/",
    "https://0177.0x0.0.1/",
    "https://127.1/",
    "https://127.0.1/",
    "https://127.000.000.001/",
    "https://127.0.0.01/",
    "https://127.0.0.256/",
    "https://127.0.0.1./",
    "https://127.0.0.1../",
    "https://127.0.0.1.0x/",
    "https://127.0.0/",
    "https://127..0.0.1/",
    "https://127.0.0.1%00/",
    "https://127.0.0.1%20/",
    "https://%31%32%37.0.0.1/",
    "https://127%2e0%2e0%2e1/",
    "https://１２７.0.0.1/",
    "https://１２７．０．０．１/",
    "https://127。0。0。1/",
    "https://127｡0｡0｡1/",
    "https://①②⑦.⓪.⓪.①/",
    "https://१२७.०.०.१/",
    "https://١٢٧.0.0.1/",
    "https://𝟏𝟐𝟕.𝟎.𝟎.𝟏/",
    "https://127.0.0.¹/",
    "https://[::1]/",
    "https://[::1]:8443/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[0000:0000:0000:0000:0000:0000:0000:0001]/",
    "https://[::0001]/",
    "https://[0::1]/",
    "https://[::0.0.0.1]/",
    "https://[::1%25lo]/",
    "https://[::1%lo]/",
    "https://[::1.]/",
    "https://[::1]./",
    "https://[[::1]]/",
    "https://[::1/",
    "https://::1]/",
    "https://::1/",
    "https://[127.0.0.1]/",
    "https://[v1.127.0.0.1]/",
    "https://[1]/",
    # IPv4 within IPv6
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::FFFF:7F00:1]/",
    "https://[0:0:0:0:0:ffff:127.0.0.1]/",
    "https://[::ffff:8.8.8.8]/",
    "https://[::ffff:0:127.0.0.1]/",
    "https://[::ffff:0:7f00:1]/",
    "https://[::127.0.0.1]/",
    "https://[::7f00:1]/",
    "https://[::8.8.8.8]/",
    "https://[64:ff9b::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[64:ff9b::808:808]/",
    "https://[64:ff9b:1::a00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2002:a9fe:a9fe::]/",
    "https://[2002:c0a8:101::1]/",
    "https://[2001::7f00:1]/",
    "https://[2001:0:808:808:0:0:80ff:fffe]/",
    # this host and network
    "https://0/",
    "https://0.0.0.0/",
    "https://0.1.2.3/",
    "https://00000000000/",
    "https://0x0/",
    "https://[::]/",
    "https://[0:0:0:0:0:0:0:0]/",
    # private
    "https://10.0.0.1/",
    "https://10.1/",
    "https://167772161/",
    "https://0xa000001/",
    "https://012.0.0.1/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://192.168.0.1/",
    "https://192.168.257/",
    "https://3232235777/",
    "https://0xc0a80101/",
    "https://0300.0250.1.1/",
    "https://100.64.0.1/",
    "https://[fc00::1]/",
    "https://[fd12:3456:789a::1]/",
    "https://[fec0::1]/",
    # link-local and metadata
    "https://169.254.1.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/",
    "https://0xa9fea9fe/",
    "https://0xa9.0xfe.0xa9.0xfe/",
    "https://0251.0376.0251.0376/",
    "https://169.254.43518/",
    "https://169.16689662/",
    "https://169。254。169。254/",
    "https://１６９.254.169.254/",
    "https://[::ffff:169.254.169.254]/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://169.254.170.2/",
    "https://168.63.129.16/",
    "https://192.0.0.192/",
    "https://100.100.100.200/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::a9fe:a9fe]/",
    "https://[fd00:ec2::254]/",
    "https://[fd20:ce::254]/",
    # nobody's server
    "https://192.0.0.1/",
    "https://192.0.2.1/",
    "https://192.88.99.1/",
    "https://198.18.0.1/",
    "https://198.51.100.1/",
    "https://203.0.113.1/",
    "https://224.0.0.1/",
    "https://239.255.255.250/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://4294967295/",
    "https://[100::1]/",
    "https://[2001:2::1]/",
    "https://[2001:10::1]/",
    "https://[2001:20::1]/",
    "https://[2001:db8::1]/",
    "https://[3fff::1]/",
    "https://[4000::1]/",
    "https://[5f00::1]/",
    "https://[ff02::1]/",
    # what one parser takes for the host and the next does not
    "https://example.com@127.0.0.1/",
    "https://127.0.0.1@example.com/",
    "https://example.com:443@127.0.0.1/",
    "https://example.com%40127.0.0.1/",
    "https://user:password@10.0.0.1/",
    "https://example.com\\@127.0.0.1/",
    "https://127.0.0.1\\@example.com/",
    "https:\\\\127.0.0.1/",
    "https:/\\127.0.0.1/",
    "https://127.0.0.1#@example.com/",
    "https://example.com#@127.0.0.1/",
    "https://127.0.0.1?@example.com/",
    "https://example.com:443:80/",
    "https://127.0.0.1:443@example.com:443/",
    "https:127.0.0.1/",
    "https:///127.0.0.1/",
    "//127.0.0.1/",
    "https://127.0.0.1\t/",
    "https://127.0.\n0.1/",
    "https://127.0.0.1\x00.example.com/",
    "https://example.com\r\nHost: 127.0.0.1/",
    "https://example.com /",
    "https://example.com\u00a0/",
    "https://127.0.0.1\u200b/",
    "https://127\u00ad.0.0.1/",
    "https://example.com\u2024127.0.0.1/",
    "https://127.0.0.1\u2044example.com/",
    "https://127.0.0.1\uff0fexample.com/",
    "https://127.0.0.1\uff03.example.com/",
    "https://example.com\uff20127.0.0.1/",
    "https://ⓛocalhost/",
    "https://loca\u212bhost/",
    "https://local\u017fhost.internal/",
    "\ufeffhttps://127.0.0.1/",
    # names of this host and of local networks
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://localhost.localdomain/",
    "https://foo.localhost/",
    "https://ip6-localhost/",
    "https://redis/",
    "https://kubernetes.default.svc.cluster.local/",
    "https://printer.local/",
    "https://metadata.google.internal/",
    "https://metadata.google.internal./",
    "https://instance-data.ec2.internal/",
    "https://router.home.arpa/",
    "https://nas.lan/",
    "https://wiki.corp/",
    # other schemes and ports
    "http://example.com/",
    "http://169.254.169.254/latest/meta-data/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_INFO",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
    "jar:https://example.com/",
    "https://example.com:22/",
    "https://example.com:6379/",
    "https://example.com:80/",
    "https://example.com:0443/",
    "https://example.com:0/",
    "https://example.com:-443/",
    "https://example.com:4294967739/",
]

LEADING_THERE = [
    ("https://127.0.0.1.nip.io/", ("127.0.0.1",)),
    ("https://localtest.me/", ("127.0.0.1", "::1")),
    ("https://127-0-0-1.example.com/", ("127.0.0.53",)),
    ("https://spoofed.example.com/", ("169.254.169.254",)),
    ("https://private.example.com/", ("10.0.0.7",)),
    ("https://shared.example.com/", ("100.64.0.7",)),
    ("https://zero.example.com/", ("0.0.0.0",)),
    ("https://azure.example.com/", ("168.63.129.16",)),
    ("https://oracle.example.com/", ("192.0.0.192",)),
    ("https://multicast.example.com/", ("224.0.0.1",)),
    ("https://broadcast.example.com/", ("255.255.255.255",)),
    ("https://six.example.com/", ("::1",)),
    ("https://ula.example.com/", ("fd00::7",)),
    ("https://aws.example.com/", ("fd00:ec2::254",)),
    ("https://link.example.com/", ("fe80::1",)),
    ("https://unspecified.example.com/", ("::",)),
    ("https://mapped.example.com/", ("::ffff:127.0.0.1",)),
    ("https://mapped-public.example.com/", ("::ffff:93.184.215.14",)),
    ("https://compatible.example.com/", ("::127.0.0.1",)),
    ("https://nat64.example.com/", ("64:ff9b::7f00:1",)),
    ("https://6to4.example.com/", ("2002:7f00:1::",)),
    ("https://teredo.example.com/", ("2001:0:7f00:1::",)),
    ("https://mixed.example.com/", ("93.184.215.14", "127.0.0.1")),
    ("https://mixed-last.example.com/", ("93.184.215.14", "93.184.215.15", "93.184.215.16", "10.0.0.1")),
    ("https://mixed-families.example.com/", ("93.184.215.14", "::1")),
    ("https://exämple.com/", ("127.0.0.1",)),
    ("https://xn--exmple-cua.com/", ("127.0.0.1",)),
    ("https://EXAMPLE.com/", ("127.0.0.1",)),
    ("https://0x7f.1.example.com/", ("127.0.0.1",)),
]


async def refusals(url: str, names: Names) -> tuple[Refused | None, Failed | None]:
    """How `url` is refused at submission, and by the delivery."""
    submission = SubmissionCheck(names)
    delivery = GuardedClient(Policy(), names, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    checked = await submission.check(url, Policy())
    posted = await delivery.post(url, b"{}", {})
    await delivery.aclose()
    await submission.aclose()
    return checked if isinstance(checked, Refused) else None, posted if isinstance(posted, Failed) else None


@pytest.mark.parametrize("url", SPELLED)
async def test_refused_by_its_spelling_before_anything_is_looked_up(url: str) -> None:
    names = Names({})

    refused, failed = await refusals(url, names)

    assert refused is not None
    assert failed is not None
    assert failed.forbidden
    assert failed.reason.startswith(refused.rule)
    assert names.asked == []


@pytest.mark.parametrize(("url", "addresses"), LEADING_THERE)
async def test_refused_because_its_name_leads_there(url: str, addresses: tuple[str, ...]) -> None:
    host = url.removeprefix("https://").removesuffix("/").lower().replace("exämple", "xn--exmple-cua")
    names = Names({host: [addresses]})

    refused, failed = await refusals(url, names)

    assert refused is not None
    assert failed is not None
    assert failed.forbidden
    assert failed.reason.startswith(refused.rule)
    assert names.asked == [host, host]
