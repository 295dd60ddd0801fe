"""Whether a webhook is what it says: Standard Webhooks 1.0.0, as a receiver checks it.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hmac
from collections.abc import Mapping

from cli.errors import CommandError
from jobs.webhooks.signing import PREFIX, signed_headers

TOLERANCE_S = 300
"""How far its time may be from ours: what is older may have been recorded and sent again by somebody else."""


class SignatureError(ValueError):
    """Why a webhook is not to be trusted."""


def check_secret(secret: str) -> None:
    """Returns if something can be verified with it. Raises CommandError."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise CommandError(
            "the secret is none: it is whsec_ and base64, as the service has shown it", exit_code=2
        )


def verify(body: bytes, headers: Mapping[str, str], secret: str, *, now_s: float) -> None:
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
    given = [one.partition(",") for one in headers["webhook-signature"].split()]
    known = [one for one in given if one[0] == "v1"]
    if not known:
        raise SignatureError("its webhook-signature has no signature of version v1")
    event_id = headers["webhook-id"]
    right = (
        signed_headers([secret], event_id, int(stamp), body)["webhook-signature"]
        if event_id.isascii()
        else ""
    )
    if not any(hmac.compare_digest(right.encode(), "".join(one).encode()) for one in known):
        raise SignatureError("its signature does not match: another secret, or not what was signed")
