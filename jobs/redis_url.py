"""REDIS_URL, taken apart: redis://, rediss://, unix:// and redis+sentinel:// become one kind of value.

jobs/connection.py makes a client of it. No error repeats a part of the URL, any of which may be a password.
"""

import re
from dataclasses import dataclass, field
from typing import Literal, cast
from urllib.parse import parse_qsl, unquote

Scheme = Literal["redis", "rediss", "unix", "redis+sentinel"]

_URL = re.compile(r"(rediss?|unix|redis\+sentinel)://(?:([^/?#]*)@)?([^?#@]*)(?:\?([^#]*))?")
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:,\s]+))(?::([0-9]{1,5}))?")
_DATABASE = re.compile(r"[0-9]{0,5}")
_PORTS: dict[Scheme, int] = {"redis": 6379, "rediss": 6379, "redis+sentinel": 26379}
# redis-py would take any option of a client from a URL, and some break promises: retry_on_timeout sends
# commands twice, decode_responses changes every answer. These belong to the address.
_OPTIONS: dict[Scheme, frozenset[str]] = {
    "redis": frozenset({"db"}),
    "rediss": frozenset({"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"}),
    "unix": frozenset({"db"}),
    "redis+sentinel": frozenset({"sentinel_username", "sentinel_password"}),
}
_EXAMPLES: dict[Scheme, str] = {
    "redis": "redis://user:password@host:6379/0",
    "rediss": "rediss://user:password@host:6379/0?ssl_ca_certs=/path/to/ca.pem",
    "unix": "unix://user:password@/path/to/socket?db=0",
    "redis+sentinel": "redis+sentinel://user:password@host:26379,host:26379/service/0",
}


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """`hosts`: one server, or Sentinels, with ports; none if `path` is that of a socket.

    `service` is the name under which the Sentinels know the primary; `options` come from the query.
    """

    scheme: Scheme
    hosts: tuple[tuple[str, int], ...]
    path: str
    service: str
    database: int
    username: str | None
    password: str | None = field(repr=False)
    options: dict[str, str] = field(repr=False)


def parse(url: str) -> RedisUrl:
    """The parts of a URL, with %XX undone. Raises ValueError that says what to write instead."""
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError(f"a Redis URL must look like one of: {', '.join(_EXAMPLES.values())}")
    scheme = cast(Scheme, match[1])
    username, _, password = (match[2] or "").partition(":")
    hosts, _, path = match[3].partition("/")
    options = _options(scheme, match[4] or "")
    service = ""
    if scheme == "unix":
        fits, database = path != "" and hosts == "", options.pop("db", "")
    elif scheme == "redis+sentinel":
        service, _, database = path.partition("/")
        fits = service != ""
    else:
        fits, database = "," not in hosts, options.pop("db", path)
    if not (fits and _DATABASE.fullmatch(database)):
        raise _unreadable(scheme)
    return RedisUrl(
        scheme=scheme,
        hosts=() if scheme == "unix" else tuple(_host(scheme, one) for one in hosts.split(",")),
        path=f"/{unquote(path)}" if scheme == "unix" else "",
        service=unquote(service),
        database=int(database or "0"),
        username=unquote(username) or None,
        password=unquote(password) or None,
        options=options,
    )


def _host(scheme: Scheme, text: str) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if match is None or int(match[3] or 1) not in range(1, 65_536):
        raise _unreadable(scheme)
    return match[1] or match[2], int(match[3] or _PORTS[scheme])


def _options(scheme: Scheme, query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(options.keys() - _OPTIONS[scheme])
    if unknown:
        raise ValueError(
            f"the Redis URL has options that cannot be set there: {', '.join(unknown)}; "
            f"{scheme}:// knows {', '.join(sorted(_OPTIONS[scheme]))}"
        )
    if options.get("ssl_cert_reqs", "required") not in ("required", "optional", "none"):
        raise ValueError("ssl_cert_reqs in the Redis URL must be required, optional or none")
    return options


def _unreadable(scheme: Scheme) -> ValueError:
    return ValueError(
        f"the Redis URL cannot be read: it must look like {_EXAMPLES[scheme]}, "
        "with % / ? # @ in a user or password written as %25 %2F %3F %23 %40"
    )
