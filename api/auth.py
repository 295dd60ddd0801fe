"""Who is asking, and what they may do: from the Authorization header to a `Principal`.

Keys are looked up once and remembered for seconds; a revoked or rotated one is forgotten at once, because every
change is told on a channel, and nothing is remembered while that channel cannot be heard. While a key is remembered,
so is that a header proved it.
"""

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from starlette.types import Scope

from api.answers import Header
from api.body import header_values
from api.clients import anonymous_user, client_address
from api.errors import Problem
from jobs.config import Config
from jobs.secrets import is_admin_key, matches, parse_key
from jobs.users import SCOPES, KeyRecord, Users

ADMIN_USER: Final = "admin"
"""The user as whom the admin key of the environment submits."""

ANONYMOUS_SCOPES: Final = frozenset({"jobs", "usage"})
REMEMBERED_S = 5.0
"""The longest a change of a key may go unnoticed should its message be lost."""
MOST_REMEMBERED = 10_000
TOUCH_INTERVAL_S = 5.0

_CHALLENGE: Final[Header] = (b"www-authenticate", b"Bearer")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who may ask. `key_id` None: the admin key of the environment, or nobody's key."""

    user: str
    scopes: frozenset[str]
    key_id: str | None = None
    anonymous: bool = False

    @property
    def is_admin(self) -> bool:
        return "admin" in self.scopes

    def require(self, *scopes: str) -> None:
        """Raises Problem unless one of the scopes is there: 403, or 401 to one who has shown no key."""
        if not self.is_admin and self.scopes.isdisjoint(scopes):
            wanted = " or ".join(f"`{scope}`" for scope in scopes)
            if self.anonymous:
                raise Problem(
                    "invalid_key",
                    f"This takes a key with the scope {wanted}, in the header Authorization: Bearer <key>.",
                    headers=(_CHALLENGE,),
                )
            raise Problem("forbidden", f"This takes a key with the scope {wanted}.")


@dataclass(frozen=True, slots=True)
class _Proven:
    """Whom a header has proved to be there; `until` by the monotonic clock."""

    principal: Principal
    key_id: str
    expires_ms: int | None
    until: float


class Authenticator:
    """The keys of one process. `clock` gives monotonic seconds, `now_ms` Unix milliseconds.

    `confirm` raises where Redis is not the one that had the keys: an emptied one must not make every key invalid.
    """

    def __init__(
        self,
        users: Users,
        *,
        pepper: str,
        admin_key: str | None,
        clock: Callable[[], float],
        now_ms: Callable[[], int],
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        self._users = users
        self._confirm = confirm
        self._pepper = pepper
        self._admin_key = admin_key or ""
        self._clock = clock
        self._now_ms = now_ms
        self._remembered: OrderedDict[str, tuple[float, KeyRecord | None]] = OrderedDict()
        # By fingerprints under a secret of this process: no key is kept, and no search's time tells anything of one.
        self._proven: dict[bytes, _Proven] = {}
        self._secret = secrets.token_bytes(16)
        self._asking: dict[str, asyncio.Task[KeyRecord | None]] = {}
        self._changes_are_heard = False
        self.generation = 0
        """Grows with every change that was told."""
        self._used: set[str] = set()

    async def authenticate(self, scope: Scope, config: Config) -> Principal:
        """The one who sent this request.

        Raises Problem 401, and what `confirm` raises or RedisError if the key cannot be looked up.
        """
        presented = header_values(scope, b"authorization")
        if not presented:
            return self._anonymous(scope, config)
        fingerprint = hashlib.blake2b(b"\n".join(presented), key=self._secret, digest_size=16).digest()
        proven = self._proven.get(fingerprint)
        if proven is None or proven.until <= self._clock():
            return await self._prove(presented, fingerprint)
        if proven.expires_ms is not None and proven.expires_ms <= self._now_ms():
            raise _refused()
        self._used.add(proven.key_id)
        return proven.principal

    async def _prove(self, presented: list[bytes], fingerprint: bytes) -> Principal:
        text = _bearer(presented)
        key_id = parse_key(text)
        if key_id is None:
            if is_admin_key(text, self._admin_key):
                return Principal(ADMIN_USER, frozenset(SCOPES))
            raise _refused()
        record = await self._key(key_id)
        if record is None or not matches(self._pepper, text, record.digest):
            # The admin key may have the shape of a key.
            if is_admin_key(text, self._admin_key):
                return Principal(ADMIN_USER, frozenset(SCOPES))
            raise _refused()
        if record.expires_ms is not None and record.expires_ms <= self._now_ms():
            raise _refused()
        self._used.add(key_id)
        principal = Principal(record.user, frozenset(record.scopes), key_id)
        until, remembered = self._remembered.get(key_id, (0.0, None))
        if remembered is record:
            if len(self._proven) == MOST_REMEMBERED:
                self._proven.clear()
            self._proven[fingerprint] = _Proven(principal, key_id, record.expires_ms, until)
        return principal

    def _anonymous(self, scope: Scope, config: Config) -> Principal:
        address = client_address(scope, config.trusted_networks()) if config.anonymous else None
        if address is None:
            raise _refused()
        return Principal(anonymous_user(address), ANONYMOUS_SCOPES, anonymous=True)

    async def _key(self, key_id: str) -> KeyRecord | None:
        remembered = self._remembered.get(key_id)
        if remembered is not None and remembered[0] > self._clock():
            return remembered[1]
        if not self._changes_are_heard:
            return await self._looked_up(key_id)
        # Of all that want a key at a time one asks; a change that is told makes the next one ask again.
        asking = self._asking.get(key_id)
        if asking is None:
            asking = self._asking[key_id] = asyncio.create_task(self._looked_up(key_id))
            asking.add_done_callback(partial(self._has_asked, key_id))
        return await asyncio.shield(asking)

    def _has_asked(self, key_id: str, asking: asyncio.Task[KeyRecord | None]) -> None:
        if self._asking.get(key_id) is asking:
            del self._asking[key_id]
        if not asking.cancelled():
            # Asked for, since whoever waited may have gone.
            asking.exception()

    async def _looked_up(self, key_id: str) -> KeyRecord | None:
        generation = self.generation
        record = await self._users.key(key_id)
        if record is None:
            await self._confirm()
        # A change told while the answer was under way may be newer than the answer.
        if self._changes_are_heard and generation == self.generation:
            self._remembered[key_id] = (self._clock() + REMEMBERED_S, record)
            self._remembered.move_to_end(key_id)
            if len(self._remembered) > MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        return record

    def changed(self, key_id: str) -> None:
        """A key was made, rotated or revoked (`*`: any of them)."""
        self.generation += 1
        self._proven.clear()
        if key_id == "*":
            self._remembered.clear()
            self._asking.clear()
        else:
            self._remembered.pop(key_id, None)
            self._asking.pop(key_id, None)

    def hearing(self, changes_are_heard: bool) -> None:
        """Whether `changed` will be called for every change from now on; what was missed before is not known."""
        self._changes_are_heard = changes_are_heard
        self.changed("*")

    async def note_uses(self) -> None:
        """Write down which keys were used; to be called every few seconds."""
        used, self._used = self._used, set()
        for key_id in used:
            await self._users.touch_key(key_id)


def _bearer(presented: list[bytes]) -> str:
    scheme, _, text = presented[0].decode("latin-1").partition(" ")
    if len(presented) > 1 or scheme.lower() != "bearer":
        raise _refused()
    return text.strip(" ")


def _refused() -> Problem:
    """One answer whatever is wrong with the key: which part it was is nobody's business."""
    return Problem(
        "invalid_key",
        "Send a valid API key in the header Authorization: Bearer <key>; "
        "this one is missing, mistyped, expired or revoked.",
        headers=(_CHALLENGE,),
    )
