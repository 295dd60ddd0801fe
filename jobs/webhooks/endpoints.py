"""Registered receivers of webhooks, and the secrets that sign what they get, as the API changes them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from jobs import keys
from jobs.runner import Runner, job_script
from jobs.webhooks.record import Delivery, Endpoint, decode_delivery, decode_endpoint
from jobs.webhooks.signing import OVERLAP_MS, SecretBox, hint, new_secret

if TYPE_CHECKING:
    from redis.asyncio import Redis

_create = job_script("endpoints_create")
_change = job_script("endpoints_change")
_delete = job_script("endpoints_delete")
_rotate = job_script("endpoints_rotate")
_test = job_script("endpoints_test")


class TooManyEndpointsError(Exception):
    """A user may have no more of them than this many."""

    def __init__(self, most: int) -> None:
        super().__init__(f"a user may have {most} endpoints")
        self.most = most


class EndpointDisabledError(Exception):
    """The endpoint is out of use; the message says why."""


class Endpoints:
    """All methods raise EpochChanged, and redis.exceptions.RedisError when Redis cannot serve.

    Each secret is answered once, by the call that makes it, and stored encrypted.
    """

    def __init__(self, redis: "Redis", box: SecretBox, *, clock: Callable[[], int] | None = None) -> None:
        self._redis = redis
        self._box = box
        self._run = Runner(redis, clock)

    async def start(self) -> None:
        """Remember the epoch of the data; call once per process, before anything else."""
        await self._run.start()

    async def create(
        self, user: str, endpoint_id: str, *, url: str, event_types: Sequence[str], name: str
    ) -> tuple[Endpoint, str]:
        """Register an endpoint under this new id; answers it and its secret. Raises TooManyEndpointsError."""
        secret = new_secret()
        reply = await self._run(
            _create,
            user,
            endpoint_id,
            url,
            " ".join(event_types),
            name,
            self._box.seal(secret, user),
            hint(secret),
        )
        if reply[0] == b"too_many":
            raise TooManyEndpointsError(int(reply[1]))
        return decode_endpoint(endpoint_id, _pairs(reply[1:])), secret

    async def get(self, user: str, endpoint_id: str) -> Endpoint | None:
        """One of the user's endpoints. None: another's, or there is none."""
        fields = await cast(Awaitable[dict[bytes, bytes]], self._redis.hgetall(keys.endpoint(endpoint_id)))
        if fields.get(b"user") != user.encode():
            return None
        return decode_endpoint(endpoint_id, fields)

    async def list(self, user: str, *, limit: int, after: str | None) -> tuple[list[Endpoint], bool]:
        """The user's endpoints, the newest first, from behind `after`, and whether there are more."""
        top = "+" if after is None else f"({after}"
        ids: Sequence[bytes] = await self._redis.zrevrangebylex(
            keys.endpoints_of(user), top, "-", start=0, num=limit + 1
        )
        names = [one.decode() for one in ids]
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names[:limit]:
                pipe.hgetall(keys.endpoint(name))
            hashes = await pipe.execute()
        found = [decode_endpoint(name, fields) for name, fields in zip(names, hashes, strict=False) if fields]
        return found, len(names) > limit

    async def change(self, user: str, endpoint_id: str, fields: Mapping[str, str]) -> Endpoint | None:
        """Change `url`, `types` (space separated), `name` or `disabled` (why; "": in use). None: there is none."""
        flat = [part for pair in fields.items() for part in pair]
        reply = await self._run(_change, user, endpoint_id, *flat)
        return decode_endpoint(endpoint_id, _pairs(reply)) if reply else None

    async def delete(self, user: str, endpoint_id: str) -> bool:
        """Forget an endpoint; what waits for it fails. False: there is none."""
        return bool(await self._run(_delete, user, endpoint_id))

    async def rotate(
        self, user: str, endpoint_id: str | None, *, keep_old: bool
    ) -> tuple[Endpoint | None, str] | None:
        """A new secret for an endpoint, or (None) for what goes to jobs' own URLs; the old one may sign for 24 h more.

        Answers the endpoint, None for the default, and the secret. None: there is no such endpoint.
        """
        secret = new_secret()
        reply = await self._run(
            _rotate,
            user,
            endpoint_id or "",
            self._box.seal(secret, user),
            hint(secret),
            OVERLAP_MS if keep_old else 0,
        )
        if reply[0] == b"not_found":
            return None
        return (decode_endpoint(endpoint_id, _pairs(reply[1:])) if endpoint_id else None), secret

    async def test(
        self, user: str, endpoint_id: str, *, delivery_id: str, event_id: str, kind: str, body: bytes
    ) -> Delivery | None:
        """Send an event to an endpoint, once and before all else. None: there is none. Raises EndpointDisabledError."""
        reply = await self._run(_test, user, endpoint_id, delivery_id, event_id, kind, body)
        if reply[0] == b"not_found":
            return None
        if reply[0] == b"disabled":
            raise EndpointDisabledError(reply[1].decode())
        return decode_delivery(delivery_id, reply[1])


def _pairs(flat: Sequence[Any]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
