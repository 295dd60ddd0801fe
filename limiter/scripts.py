"""Lua scripts, composed of the `.lua` files of a room (compose.py), and called through one class."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from redis.exceptions import NoScriptError

from limiter.compose import compose

FOLDER = Path(__file__).parent / "lua"

Argument: TypeAlias = str | bytes | int | float

_LOADS = 10
"""How often a script is loaded for one call: others may flush the cache again and again meanwhile."""


class Commands(Protocol):
    """The two commands a script needs: satisfied by `redis.asyncio.Redis`, its kin, and fakeredis."""

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any: ...

    def script_load(self, script: str) -> Any: ...


class Script:
    """One composed script. It survives a script cache that was emptied by a restart, a failover or SCRIPT FLUSH."""

    def __init__(self, path: Path, folders: Sequence[Path] = (FOLDER,)) -> None:
        self.name = path.stem
        self.text = compose(path, (path.parent, *folders))
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Commands, *arguments: Argument) -> Any:
        """Run the script; raises redis.exceptions.RedisError as the client does.

        A NOSCRIPT answer proves that nothing ran, so that loading and running again is safe: more than once, since
        the cache may be emptied again between the two.
        """
        for _ in range(_LOADS):
            try:
                return await redis.evalsha(self.sha, 0, *arguments)
            except NoScriptError:
                await redis.script_load(self.text)
        return await redis.evalsha(self.sha, 0, *arguments)
