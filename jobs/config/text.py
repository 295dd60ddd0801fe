"""Checks of settings that are text: each returns the text as it is kept, or raises what is wrong with it.

What could hold a secret (a URL with a password, a key where a variable's name belongs) is never repeated in
the reason.
"""

import re
from urllib.parse import urlsplit

from pydantic_core import PydanticCustomError

from jobs.config import addresses

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Capitals only: every provider's keys have small letters, so that a key pasted here is always refused.
_VARIABLE_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_URL_CHARACTERS = re.compile(r"[!-\[\]-~]{1,2048}")


def plain_name(name: str) -> str:
    """The name of a tier or a provider."""
    if not _PLAIN_NAME.fullmatch(name):
        raise refused(
            "is not a usable name: a letter or digit first, then letters, digits and . _ -, at most 64 in all"
        )
    return name


def served_name(name: str) -> str:
    """The name of a model or a route, as jobs ask for it."""
    if not (1 <= len(name) <= 128 and name.isprintable() and " " not in name):
        raise refused("is not a usable name: 1 to 128 printable characters without spaces")
    return name


def variable_name(name: str) -> str:
    """The name of an environment variable that holds a key."""
    if not _VARIABLE_NAME.fullmatch(name):
        raise refused(
            "must be the name of the environment variable that holds the key, in capitals, such as "
            "OPENAI_API_KEY; never the key itself (if a key was written here, replace it at the provider)"
        )
    return name


def proxy_variable(name: str) -> str:
    """The name of an environment variable that holds the URL of a proxy."""
    if not _VARIABLE_NAME.fullmatch(name):
        raise refused(
            "must be the name of the environment variable that holds the proxy's URL, in capitals, such as "
            "WEBHOOK_PROXY; not the URL itself, which may have a password in it"
        )
    return name


def base_url(url: str) -> str:
    """A provider's address, without a slash at its end."""
    http_url(url)
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise refused("must not carry a user or a password; name the key's variable in api_key_env")
    if "?" in url or "#" in url:
        raise refused("must end with its path: no query and no fragment")
    return url.rstrip("/")


def upgrade_url(url: str) -> str:
    """Where a user who is out of budget is sent: a URL, or a path on the same host."""
    if url.startswith("/") and not url.startswith("//") and _URL_CHARACTERS.fullmatch(url):
        return url
    return http_url(url)


def network(entry: str) -> str:
    """An address or a CIDR, in its canonical spelling."""
    try:
        return str(addresses.parse_network(entry))
    except ValueError as error:
        raise refused(f'"{entry}" {error}') from None


def allow_entry(entry: str) -> str:
    """An exception for webhook addresses, in small letters."""
    try:
        addresses.parse_allow_entry(entry)
    except ValueError as error:
        raise refused(f'"{entry}" {error}') from None
    return entry.lower()


def http_url(url: str) -> str:
    """An absolute http or https URL."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not _URL_CHARACTERS.fullmatch(url):
        raise refused("must be a URL such as https://api.example.com/v1")
    return url


def refused(reason: str) -> PydanticCustomError:
    """The error for a value of the right type that cannot be used."""
    return PydanticCustomError("refused", "{reason}", {"reason": reason})
