"""Runs the jobs' scripts: adds the epoch this process knows and, in tests, the time; names what went wrong."""

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from jobs import keys
from limiter.scripts import FOLDER, Argument, Script

if TYPE_CHECKING:
    from redis.asyncio import Redis

LUA = Path(__file__).parent / "lua"
LOST = "Redis came back without its data; run `penstock doctor --accept-loss` to go on without it"


def job_script(name: str) -> Script:
    """The script `name` of this room, composed of its own fragments and the limiter's."""
    return Script(LUA / f"{name}.lua", (FOLDER,))


class EpochChanged(Exception):  # noqa: N818  (it is what happened to Redis, not a mistake of the caller)
    """Redis is there, but without the data it had: nothing may be accepted or sent until an operator decides.

    `penstock doctor --accept-loss` goes on with the empty one.
    """


class Runner:
    """One process's view of the scripts. `clock` gives Unix ms in tests; without it the server's clock decides.

    `on_new_data` is awaited when an operator has accepted a loss of data, before anything runs on the new one.
    """

    def __init__(
        self,
        redis: "Redis",
        clock: Callable[[], int] | None = None,
        *,
        on_new_data: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.redis = redis
        self.epoch = ""
        self._clock = clock
        self._on_new_data = on_new_data

    @property
    def now(self) -> Argument:
        """The `now` argument of a script: the injected time, or '' for the server's clock."""
        return "" if self._clock is None else self._clock()

    async def start(self) -> None:
        """Remember the epoch of the data, making one if this Redis has none.

        Raises redis.exceptions.RedisError if Redis cannot be asked.
        """
        await self.redis.set(keys.EPOCH, secrets.token_hex(8), nx=True)
        stored = await self.redis.get(keys.EPOCH)
        self.epoch = stored.decode() if stored else ""

    async def __call__(self, script: Script, *arguments: Argument) -> Any:
        """Run a script whose first two arguments are epoch and now.

        Raises EpochChanged, and redis.exceptions.RedisError as the client does.
        """
        try:
            return await script(self.redis, self.epoch, self.now, *arguments)
        except ResponseError as error:
            if not str(error).startswith("EPOCH"):
                raise
            if not await self._loss_accepted():
                raise EpochChanged(LOST) from error
        return await script(self.redis, self.epoch, self.now, *arguments)

    async def confirm(self) -> None:
        """Prove that Redis still holds the data this process knows.

        Raises EpochChanged, and redis.exceptions.RedisError as the client does.
        """
        stored = await self.redis.get(keys.EPOCH)
        if self.epoch and stored != self.epoch.encode() and not await self._loss_accepted():
            raise EpochChanged(LOST)

    async def _loss_accepted(self) -> bool:
        """Whether an operator has said to go on with the data there is; if so, that is now what we know."""
        stored, accepted = await self.redis.mget(keys.EPOCH, keys.EPOCH_ACCEPTED)
        if stored is None or stored != accepted:
            return False
        self.epoch = stored.decode()
        if self._on_new_data is not None:
            await self._on_new_data()
        return True

    async def accept_loss(self) -> None:
        """Go on with this Redis as it is; every process that remembers other data takes it up."""
        self.epoch = secrets.token_hex(8)
        await self.redis.mset({keys.EPOCH: self.epoch, keys.EPOCH_ACCEPTED: self.epoch})
