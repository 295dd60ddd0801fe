"""API keys: how they are made, recognised without a look-up, and compared without telling anything by timing.

The API reads one from each request before anything else happens to it; only a key's digest is ever stored.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from typing import NamedTuple

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
"""Base62 in the order of its digits."""

ADMIN_KEY_MIN_CHARS = 16
"""A shorter admin key could be guessed; one that short opens nothing."""

_ID_CHARS = 12
_SECRET_CHARS = 43  # 256 bits
_CRC_CHARS = 6
_SHAPE = re.compile(
    rf"(pk_([0-9A-Za-z]{{{_ID_CHARS}}})_[0-9A-Za-z]{{{_SECRET_CHARS}}})_([0-9A-Za-z]{{{_CRC_CHARS}}})"
)


class NewKey(NamedTuple):
    """A key that was just made. `text` is to be shown once and kept nowhere."""

    id: str
    text: str

    def __repr__(self) -> str:
        return f"NewKey(id={self.id!r})"


def new_key() -> NewKey:
    """A new random key `pk_<id>_<secret>_<crc>`."""
    key_id = _random(_ID_CHARS)
    body = f"pk_{key_id}_{_random(_SECRET_CHARS)}"
    return NewKey(key_id, f"{body}_{_crc(body)}")


def parse_key(text: str) -> str | None:
    """The id in a key of the right shape and checksum, else None, at the same small cost for any text."""
    match = _SHAPE.fullmatch(text)
    if match is None or _crc(match[1]) != match[3]:
        return None
    return match[2]


def digest(pepper: str | bytes, text: str) -> str:
    """HMAC-SHA256 of a key under the pepper, in hex: what is stored instead of the key.

    Raises ValueError for an empty pepper, under which digests would be worth no more than plain hashes.
    """
    if not pepper:
        raise ValueError("the pepper is empty: set PENSTOCK_SECRET to a long random text")
    return hmac.digest(_encoded(pepper), _encoded(text), "sha256").hex()


def matches(pepper: str | bytes, text: str, stored_digest: str) -> bool:
    """Whether a key is the one whose digest was stored; takes as long for any answer."""
    return hmac.compare_digest(digest(pepper, text).encode(), _encoded(stored_digest))


def is_admin_key(text: str, admin_key: str) -> bool:
    """Whether the text is the admin key (of any shape); never for one that is unset or too short.

    Both are hashed first, so that the time tells nothing of the admin key's length either.
    """
    presented, expected = (hashlib.sha256(_encoded(one)).digest() for one in (text, admin_key))
    return hmac.compare_digest(presented, expected) and len(admin_key) >= ADMIN_KEY_MIN_CHARS


def _random(chars: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(chars))


def _crc(body: str) -> str:
    value = zlib.crc32(body.encode("ascii"))
    digits = ""
    for _ in range(_CRC_CHARS):
        value, digit = divmod(value, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def _encoded(text: str | bytes) -> bytes:
    # A header may hold anything; surrogates that do not pair must not become an error of ours.
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
