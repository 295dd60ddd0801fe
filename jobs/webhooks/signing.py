"""Secrets that sign webhooks, by Standard Webhooks 1.0.0 (symmetric, version v1), and how they are kept.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PREFIX = "whsec_"
SECRET_BYTES = 36
OVERLAP_MS = 86_400_000
"""For how long a secret that was replaced still signs, where that is asked for."""

_NONCE_BYTES = 12
_PURPOSE = b"penstock webhook secrets, version 1"


class SecretLostError(Exception):
    """A stored secret cannot be read: it was kept under another PENSTOCK_SECRET."""


def new_secret() -> str:
    """A new random secret `whsec_…`; 36 bytes are 48 characters of base64 without padding."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")


def hint(secret: str) -> str:
    """What of a secret may be shown again."""
    return f"{PREFIX}…{secret[-4:]}"


class SecretBox:
    """Encrypts secrets at rest: AES-256-GCM under a key that HKDF derives from PENSTOCK_SECRET.

    Each is bound to its user, so that nobody can sign with a secret that was copied from another user's record.
    """

    def __init__(self, pepper: str) -> None:
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(pepper.encode())
        self._cipher = AESGCM(key)

    def seal(self, secret: str, user: str) -> str:
        """The secret as it is stored."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, secret.encode("ascii"), user.encode())
        return base64.b64encode(nonce + sealed).decode("ascii")

    def open(self, sealed: str, user: str) -> str:
        """The secret again. Raises SecretLostError."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], user.encode()).decode("ascii")
        except (InvalidTag, ValueError) as error:
            raise SecretLostError(
                "a webhook secret was stored under another PENSTOCK_SECRET: rotate it"
            ) from error


def signed_headers(secrets_in_force: Iterable[str], event_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The three headers of Standard Webhooks, with a signature for each secret."""
    content = b"%s.%d.%s" % (event_id.encode("ascii"), at_s, body)
    signatures = [f"v1,{_signature(secret, content)}" for secret in secrets_in_force]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(signatures),
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode("ascii")
