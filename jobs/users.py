"""Registered users and their API keys, as Redis keeps them.

The admin API and the command line change them, each request whose key is in no cache asks for it, and the scripts
read a user's tier and overrides.
"""

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from jobs import keys
from jobs.config import Tier
from limiter.scripts import Script

SCOPES = ("jobs", "usage", "webhooks", "metrics", "admin")
"""What a key may be for; `admin` is for everything."""

OVERRIDABLE = tuple(Tier.model_fields)
"""The limits of a tier, each of which may be set for one user alone."""

TOUCH_INTERVAL_S = 60.0
"""How often a process writes down that a key is in use."""

_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_LUA = Path(__file__).parent / "lua"
_create = Script(_LUA / "users_create.lua")
_change = Script(_LUA / "users_change.lua")
_put_key = Script(_LUA / "users_put_key.lua")
_expire_key = Script(_LUA / "users_expire_key.lua")
_revoke_key = Script(_LUA / "users_revoke_key.lua")
_touch_key = Script(_LUA / "users_touch_key.lua")


class UnknownUserError(LookupError):
    """A key was made for a user that is not registered, without saying on which tier to register it."""


class KeyTakenError(ValueError):
    """Another key has that id already: make a new one."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key. Times in Unix ms; `expires_ms` None: never; `last_used_ms` is up to a minute behind."""

    id: str
    user: str
    scopes: tuple[str, ...]
    created_ms: int
    expires_ms: int | None
    last_used_ms: int | None
    digest: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A registered user. An override of None is unlimited; a limit without an override is the tier's."""

    user: str
    tier: str
    overrides: dict[str, int | None]
    created_ms: int


UserPage: TypeAlias = tuple[list[UserRecord], bool]
KeyPage: TypeAlias = tuple[list[KeyRecord], bool]


def is_user_name(name: str) -> bool:
    """Whether a user may be called so."""
    return _USER.fullmatch(name) is not None


class Users:
    """All methods raise redis.exceptions.RedisError when Redis cannot serve.

    `clock` gives seconds that only go forward; it spaces the notes that a key was used, nothing else.
    """

    def __init__(self, redis: Redis, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._clock = clock
        self._touched: dict[str, float] = {}

    async def get(self, user: str) -> UserRecord | None:
        """One user, None if it is not registered."""
        return _user(user, await self._hash(keys.user(user)))

    async def create(self, user: str, tier: str, overrides: Mapping[str, int | None]) -> UserRecord | None:
        """Register a user; None if the name is taken.

        Raises ValueError for a name or an override that cannot be.
        """
        _check_name(user)
        reply = await _create(self._redis, "", user, tier, *_override_pairs(overrides))
        return _user(user, _pairs(reply))

    async def change(
        self,
        user: str,
        *,
        tier: str | None = None,
        overrides: Mapping[str, int | None] | None = None,
        remove: Sequence[str] = (),
    ) -> UserRecord | None:
        """Change what is given, all at once; `remove` names the overrides to take away. None: no such user.

        Overrides that are not named stay. Raises ValueError for an override that cannot be.
        """
        wrong = sorted(set(remove) - set(OVERRIDABLE))
        if wrong:
            raise ValueError(f"no such limit: {', '.join(wrong)}; there are {', '.join(OVERRIDABLE)}")
        pairs = _override_pairs(overrides or {})
        reply = await _change(self._redis, user, tier or "", len(pairs) // 2, *pairs, *remove)
        return _user(user, _pairs(reply))

    async def list(self, *, limit: int, after: str | None) -> UserPage:
        """The next `limit` users by name in byte order, and whether there are more."""
        names, more = await self._page(keys.USERS, limit, after)
        hashes = await self._hashes(keys.user(name) for name in names)
        found = (_user(name, fields) for name, fields in zip(names, hashes, strict=True))
        return [record for record in found if record], more

    async def put_key(self, key: KeyRecord, *, tier: str | None = None) -> UserRecord:
        """Keep a key, and register its user on `tier` if it is new; a known user stays on the tier it is on.

        Returns the user. Raises UnknownUserError for a new user without a tier, KeyTakenError if the id is in use,
        and ValueError for a user or a scope that cannot be.
        """
        _check_name(key.user)
        wrong = sorted(set(key.scopes) - set(SCOPES))
        if wrong:
            raise ValueError(f"no such scope: {', '.join(wrong)}; there are {', '.join(SCOPES)}")
        reply = await _put_key(
            self._redis, "", tier or "", key.id, key.user, key.digest, " ".join(key.scopes),
            key.created_ms, _or_empty(key.expires_ms), _or_empty(key.last_used_ms),
        )  # fmt: skip
        if reply[0] == b"unknown":
            raise UnknownUserError(
                f"there is no user {key.user!r}: create it, or say which tier it is to be on"
            )
        if reply[0] == b"taken":
            raise KeyTakenError(f"the id {key.id} is in use: make a new key")
        user = _user(key.user, _pairs(reply[1]))
        assert user is not None
        return user

    async def key(self, key_id: str) -> KeyRecord | None:
        """One key, expired or not; None if it was never made or is revoked."""
        return _key(key_id, await self._hash(keys.key(key_id)))

    async def keys(self, *, user: str | None, limit: int, after: str | None) -> KeyPage:
        """The next `limit` keys by id in byte order, of one user or of all, and whether there are more."""
        if user is None:
            ids, more = await self._page(keys.KEYS, limit, after)
        else:
            members = await cast(Awaitable[set[bytes]], self._redis.smembers(keys.keys_of(user)))
            rest = sorted(name for name in (member.decode() for member in members) if name > (after or ""))
            ids, more = rest[:limit], len(rest) > limit
        hashes = await self._hashes(keys.key(key_id) for key_id in ids)
        found = (_key(key_id, fields) for key_id, fields in zip(ids, hashes, strict=True))
        return [record for record in found if record], more

    async def expire_key(self, key_id: str, expires_ms: int) -> KeyRecord | None:
        """Let a key end at a time (Unix ms), or when it would anyway if that is sooner. None: no such key."""
        return _key(key_id, _pairs(await _expire_key(self._redis, key_id, expires_ms)))

    async def revoke_key(self, key_id: str) -> bool:
        """Forget a key at once; False if there is none."""
        self._touched.pop(key_id, None)
        return bool(await _revoke_key(self._redis, key_id))

    async def touch_key(self, key_id: str) -> None:
        """Note that a key was used, at most once a minute from this process."""
        now = self._clock()
        if now - self._touched.get(key_id, float("-inf")) < TOUCH_INTERVAL_S:
            return
        self._forget_touches(now)
        self._touched[key_id] = now
        try:
            await _touch_key(self._redis, "", key_id)
        except RedisError:
            self._touched.pop(key_id, None)
            raise

    def _forget_touches(self, now: float) -> None:
        # They are in the order of their times; what stays is the keys of one minute.
        while self._touched:
            oldest, at = next(iter(self._touched.items()))
            if now - at < TOUCH_INTERVAL_S:
                return
            del self._touched[oldest]

    async def _page(self, index: str, limit: int, after: str | None) -> tuple[Sequence[str], bool]:
        start = "-" if after is None else f"({after}"
        reply: Sequence[bytes] = await self._redis.zrangebylex(index, start, "+", start=0, num=limit + 1)
        return [name.decode() for name in reply[:limit]], len(reply) > limit

    async def _hash(self, key: str) -> dict[bytes, bytes]:
        return await cast(Awaitable[dict[bytes, bytes]], self._redis.hgetall(key))

    async def _hashes(self, names: Iterable[str]) -> Sequence[dict[bytes, bytes]]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(name)
            return await pipe.execute()


def _check_name(user: str) -> None:
    if not is_user_name(user):
        raise ValueError(
            f"{user!r} is no name for a user: a letter or digit first, then letters, digits and . _ @ -, "
            "at most 64 in all"
        )


def _override_pairs(overrides: Mapping[str, int | None]) -> list[str]:
    """Name and value after each other. Raises ValueError (pydantic's) for what no tier in a file could have."""
    Tier.model_validate(dict(overrides))
    return [text for name, value in overrides.items() for text in (name, _or_empty(value))]


def _or_empty(number: int | None) -> str:
    return "" if number is None else str(number)


def _or_none(text: bytes) -> int | None:
    return int(text) if text else None


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _user(name: str, fields: Mapping[bytes, bytes]) -> UserRecord | None:
    if not fields:
        return None
    values = {key.decode(): value for key, value in fields.items()}
    overrides = {limit: _or_none(values[limit]) for limit in OVERRIDABLE if limit in values}
    return UserRecord(name, values["tier"].decode(), overrides, int(values["created"]))


def _key(key_id: str, fields: Mapping[bytes, bytes]) -> KeyRecord | None:
    if not fields:
        return None
    values = {key.decode(): value for key, value in fields.items()}
    return KeyRecord(
        id=key_id,
        user=values["user"].decode(),
        scopes=tuple(values["scopes"].decode().split()),
        created_ms=int(values["created"]),
        expires_ms=_or_none(values["expires"]),
        last_used_ms=_or_none(values["used"]),
        digest=values["digest"].decode(),
    )
