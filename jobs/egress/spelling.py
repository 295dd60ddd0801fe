"""Reading the host of a URL: an address in its canonical spelling, or a name; every other way to write them
is refused.

One program takes `0x7f.1` for a name, the next for 127.0.0.1: a host that two programs could read differently
gets no further than this step of the egress guard.
"""

import re
import unicodedata
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import idna

from jobs.egress.addresses import IPV4_COMPATIBLE, IPV4_MAPPED, rule_of
from jobs.egress.target import Host, Refused

_NAME_MAX_CHARS: Final = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label like this makes a host an IPv4 address (URL Standard, "ends in a number checker")."""

_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
"""str.lower() would also turn the Kelvin sign into a k."""


def read_host(text: str) -> Host | Refused:
    """The host that `text`, the part of a URL between userinfo and port, spells.

    Names in other scripts become their ASCII form by IDNA 2008, without the mappings of UTS 46 (which would
    make digits and dots out of their look-alikes).
    """
    if text.startswith("["):
        return _read_ipv6(text)
    host = text.translate(_ASCII_LOWER)
    if not host:
        return Refused("host", "has no host")
    if host.endswith("."):
        return Refused("trailing_dot", "has a dot after its host; leave it out")
    if not host.isascii():
        return _read_international(host)
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return _read_ipv4(host)
    return _read_name(host)


def _read_ipv6(text: str) -> Host | Refused:
    inner = text[1:-1]
    if "%" in inner:
        return _refused_spelling("has an IPv6 zone, which means nothing on another host")
    try:
        address = IPv6Address(inner)
    except ValueError:
        return _refused_spelling("has brackets around what is no IPv6 address")
    if rule_of(address) in (IPV4_MAPPED, IPV4_COMPATIBLE):
        return _refused_spelling("has an IPv4 address written as IPv6; write it as a.b.c.d")
    canonical = str(address)
    if inner != canonical:
        return _refused_spelling(f"has an address that is not in its canonical spelling; write [{canonical}]")
    return Host(canonical, address)


def _read_ipv4(host: str) -> Host | Refused:
    try:
        # Refuses all spellings but four decimal numbers without leading zeros.
        return Host(host, IPv4Address(host))
    except ValueError:
        return _refused_spelling(
            "has an address that is not written as four decimal numbers, such as 192.0.2.7"
        )


def _read_international(host: str) -> Host | Refused:
    if any(unicodedata.digit(character, None) is not None for character in host if not character.isascii()):
        return _refused_spelling(
            "has digits other than 0 to 9 in its host; write these, or the name's xn-- form"
        )
    if len(host) > _NAME_MAX_CHARS:
        return _refused_name()
    try:
        labels = [
            label if label.isascii() else idna.alabel(label).decode("ascii") for label in host.split(".")
        ]
    except idna.IDNAError:
        return Refused(
            "host", "has a host that is no valid international name (IDNA 2008); write its xn-- form"
        )
    return _read_name(".".join(labels))


def _read_name(host: str) -> Host | Refused:
    if len(host) > _NAME_MAX_CHARS or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        return _refused_name()
    return Host(host, None)


def _refused_spelling(message: str) -> Refused:
    return Refused("address_spelling", message)


def _refused_name() -> Refused:
    return Refused(
        "host", "has a host that is no host name: labels of letters, digits and '-', up to 63 each"
    )
