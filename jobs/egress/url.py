"""Reading a webhook's URL by a grammar of our own, narrower than the standards': the first step of the guard.

Parsers disagree about backslashes, userinfo, tabs and the like; what they could read differently is refused,
and everything behind this step works with the parts, never with the text again.
"""

import re
from typing import Final

from jobs.egress.policy import Policy
from jobs.egress.spelling import read_host
from jobs.egress.target import DEFAULT_PORTS, Refused, Scheme, Target

URL_MAX_CHARS: Final = 2048

_SCHEMES: Final[dict[str, Scheme]] = {"http": "http", "https": "https"}
_URL = re.compile(r"(?P<scheme>[A-Za-z]+)://(?P<authority>[^/?]*)(?P<path>.*)")
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(:(?P<port>[1-9][0-9]{0,4}))?")


def parse(url: str, policy: Policy) -> Target | Refused:
    """`url` taken apart, or what is wrong with it as far as that shows without looking its name up.

    Scheme and ASCII letters of a name may be in capitals; the path is left as it is.
    """
    if len(url) > URL_MAX_CHARS:
        return Refused("too_long", f"has more than {URL_MAX_CHARS} characters")
    # Not printable: controls, surrogates, what is unassigned or invisible, and every space but the usual one.
    if "\\" in url or " " in url or not url.isprintable():
        return Refused("characters", "has a backslash, a space or an invisible character; percent-encode it")
    if "#" in url:
        return Refused("fragment", "has a fragment (#…), which is never sent; leave it out")
    parts = _URL.fullmatch(url)
    if parts is None:
        return Refused("not_a_url", "must be a URL such as https://hooks.example.com/path")
    scheme = _SCHEMES.get(parts["scheme"].lower())
    if scheme is None:
        return Refused("scheme", "must begin with https://")
    if "@" in parts["authority"]:
        return Refused("userinfo", "has a user or a password before its host; deliveries are signed instead")
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None:
        return Refused("not_a_url", "has a host or a port that cannot be read; write host or host:port")
    if not parts["path"].isascii():
        return Refused("characters", "has characters outside ASCII in its path; percent-encode them")
    host = read_host(authority["host"])
    if isinstance(host, Refused):
        return host
    port = int(authority["port"]) if authority["port"] else DEFAULT_PORTS[scheme]
    path = parts["path"] if parts["path"].startswith("/") else f"/{parts['path']}"
    target = Target(scheme, host, port, path)
    return policy.refuse(target) or target
