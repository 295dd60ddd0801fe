"""Whether a webhook is what it says: Standard Webhooks 1.0.0, as a receiver checks it.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from cli.errors import CommandError

TOLERANCE_S = 300
"""How far its time may be from ours: what is older may have been recorded and sent again by somebody else."""
PREFIX = "whsec_"


class SignatureError(ValueError):
    """Why a webhook is not to be trusted."""


def signing_key(secret: str) -> bytes:
    """The key in a secret `whsec_...`. Raises CommandError."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise CommandError(
            "the secret is none: it is whsec_ and base64, as the service has shown it", exit_code=2
        )
    return key


def verify(body: bytes, headers: Mapping[str, str], key: bytes, *, now_s: float) -> None:
    """Returns if one of the signatures is right and its time is now. Raises SignatureError."""
    missing = [
        name for name in ("webhook-id", "webhook-timestamp", "webhook-signature") if not headers.get(name)
    ]
    if missing:
        raise SignatureError(f"it has no {' and no '.join(missing)}")
    stamp = headers["webhook-timestamp"]
    if not (stamp.isascii() and stamp.isdigit()):
        raise SignatureError("its webhook-timestamp is no number of seconds")
    age_s = now_s - int(stamp)
    if abs(age_s) > TOLERANCE_S:
        when = "old" if age_s > 0 else "in the future"
        raise SignatureError(f"its webhook-timestamp is {abs(age_s):.0f} s {when}, more than {TOLERANCE_S} s")
    content = b".".join((headers["webhook-id"].encode(), stamp.encode(), body))
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest())
    given = [one.partition(",") for one in headers["webhook-signature"].split()]
    known = [signature.encode() for version, _, signature in given if version == "v1"]
    if not known:
        raise SignatureError("its webhook-signature has no signature of version v1")
    if not any(hmac.compare_digest(expected, one) for one in known):
        raise SignatureError("its signature does not match: another secret, or not what was signed")
