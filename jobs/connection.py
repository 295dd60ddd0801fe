"""The way to Redis: a client for every kind of URL that never sends a command twice by itself.

And what a start has to know of the server at its end before it trusts it with jobs.
"""

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import EqualJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from jobs.pipe import Pipe, Word
from jobs.pool import (
    Pool,
    PrimaryConnection,
    SentinelPool,
    SocketFileConnection,
    TcpConnection,
    TlsConnection,
)
from jobs.redis_url import RedisUrl, parse

_CONNECT_RETRIES = 3
_BACKOFF_BASE_S, _BACKOFF_CAP_S = 0.05, 0.5


class Client(Redis):
    """redis-py's client, whose scripts share one connection (jobs/pipe.py); all else goes through its pool."""

    def __init__(self, *, connection_pool: Pool) -> None:
        super().__init__(connection_pool=connection_pool)
        self.auto_close_connection_pool = True
        self._scripts = Pipe(connection_pool)

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Word) -> Any:
        """Run a loaded script; see redis-py."""
        return await self._scripts.call(b"EVALSHA", sha, numkeys, *keys_and_args)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections."""
        await self._scripts.aclose()
        await super().aclose(close_connection_pool)


def connect(
    url: str,
    *,
    client_name: str,
    timeout_s: float = 5.0,
    read_timeout_s: float | None = 5.0,
    max_connections: int = 100,
) -> Client:
    """A client with a pool of its own; nothing is connected yet, and the caller is to `aclose()` it.

    Its scripts (`evalsha`) share one more connection, whose answers `read_timeout_s` bounds as well.

    `timeout_s` bounds connecting, and waiting for a free connection of the pool. `read_timeout_s` bounds
    sending a command and waiting for its answer: for a blocking command, its own timeout and some more; None
    waits for ever, as `PubSub.listen` must. Raises ValueError for a URL that cannot be used.

    Connecting is tried again a few times; a command never is: one that raised ConnectionError or TimeoutError
    may have run. redis-py 5.3 decides that in two places. A connection's Retry goes around its connecting *and*
    its commands, but a command's error gets out at once unless it is in `retry_on_error`.

    An idle connection that broke is noticed by the pool, and one whose peer vanished by TCP keepalive. redis-py's
    own health check stays off: it runs within the handshake too, and there its retry connects again from within,
    without end, where a peer accepts and hangs up.
    """
    target = parse(url)
    options: dict[str, Any] = {
        "db": target.database,
        "username": target.username,
        "password": target.password,
        "client_name": client_name,
        "max_connections": max_connections,
        "timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "socket_timeout": read_timeout_s,
        "health_check_interval": 0,
        "retry_on_error": [],
        "decode_responses": False,
    }
    if target.scheme != "unix":
        options |= {"socket_keepalive": True, "socket_keepalive_options": _keepalive()}
    if target.scheme == "redis+sentinel":
        return Client(connection_pool=_sentinel_pool(target, options))
    # A host that does not answer at all is not asked again: that has taken `timeout_s` already.
    retry = _retry(ConnectionError, FileNotFoundError, socket.gaierror)
    return Client(connection_pool=Pool(**options, **_way(target), retry=retry))


def _way(target: RedisUrl) -> dict[str, Any]:
    if target.scheme == "unix":
        return {"connection_class": SocketFileConnection, "path": target.path}
    [(host, port)] = target.hosts
    if target.scheme == "redis":
        return {"connection_class": TcpConnection, "host": host, "port": port}
    # redis-py 5.3 does not compare the host's name unless told: any other host's certificate would do.
    compared = target.options.get("ssl_cert_reqs", "required") == "required"
    address = {"connection_class": TlsConnection, "host": host, "port": port}
    return address | {"ssl_check_hostname": compared} | target.options


def _keepalive() -> dict[int, int]:
    """A peer that vanished without a word is noticed after 30 s, also by a connection that only listens."""
    wanted = {"TCP_KEEPIDLE": 15, "TCP_KEEPALIVE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}


def _retry(*errors: type[Exception]) -> Retry:
    backoff = EqualJitterBackoff(cap=_BACKOFF_CAP_S, base=_BACKOFF_BASE_S)
    # Annotated as if only redis-py's own errors could be told apart; connecting raises those of asyncio.
    return Retry(backoff, _CONNECT_RETRIES, supported_errors=cast(Any, errors))


def _sentinel_pool(target: RedisUrl, options: Mapping[str, Any]) -> Pool:
    # Neither constructor is annotated.
    make_manager: Any = Sentinel
    make_pool: Any = SentinelPool
    manager = make_manager(
        target.hosts,
        sentinel_kwargs={
            "username": target.options.get("sentinel_username"),
            "password": target.options.get("sentinel_password"),
            "client_name": options["client_name"],
            "socket_timeout": options["timeout"],
            "socket_connect_timeout": options["timeout"],
        },
    )
    # Connecting begins with asking the Sentinels: only the whole of it is worth repeating, the primary may move.
    retry = _retry(RedisConnectionError)
    pool: Pool = make_pool(
        target.service, manager, connection_class=PrimaryConnection, retry=retry, **options
    )
    return pool


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says of itself; None where it does not say. `maxmemory_bytes` 0: no limit.

    `clock_offset_ms`: how far the server's clock is ahead of ours, as exactly as the round trip lets us see.
    """

    flavour: Literal["redis", "valkey"]
    version: tuple[int, ...]
    aof_enabled: bool | None
    aof_fsync: str | None
    maxmemory_policy: str | None
    maxmemory_bytes: int | None
    used_memory_bytes: int | None
    cluster_enabled: bool
    role: str
    loading: bool
    clock_offset_ms: int


async def server_facts(redis: Redis, *, clock: Callable[[], float] = time.time) -> ServerFacts:
    """Ask the server. Everything but `aof_fsync` is in INFO, since many managed servers forbid CONFIG.

    `clock`: our time in Unix seconds. Raises redis.exceptions.RedisError.
    """
    info: Mapping[str, Any] = await redis.info()
    try:
        fsync = (await redis.config_get("appendfsync")).get("appendfsync")
    except ResponseError:
        fsync = None
    asked = clock()
    seconds, microseconds = await redis.time()
    middle = (asked + clock()) / 2
    valkey = "valkey_version" in info
    version = str(info["valkey_version" if valkey else "redis_version"])
    return ServerFacts(
        flavour="valkey" if valkey else "redis",
        version=tuple(int(part) for part in version.split(".") if part.isdigit()),
        aof_enabled=None if "aof_enabled" not in info else bool(info["aof_enabled"]),
        aof_fsync=fsync,
        maxmemory_policy=info.get("maxmemory_policy"),
        maxmemory_bytes=info.get("maxmemory"),
        used_memory_bytes=info.get("used_memory"),
        cluster_enabled=bool(info.get("cluster_enabled")) or info.get("redis_mode") == "cluster",
        role=str(info.get("role", "")),
        loading=bool(info.get("loading")),
        clock_offset_ms=round((seconds + microseconds / 1e6 - middle) * 1000),
    )


Severity = Literal["error", "warning", "info"]

_OLDEST: dict[str, tuple[int, ...]] = {"redis": (6, 2), "valkey": (7, 2)}
_CLOCK_OFFSET_MS = 2000
_FULL = 0.9


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a server, and what to change. A start refuses errors unless told to accept them."""

    severity: Severity
    message: str


def durability_problems(facts: ServerFacts) -> list[Problem]:
    """What may lose, evict or split what Penstock keeps on this server; the worst first."""
    found = [*_unfit(facts), *_persistence(facts), *_memory(facts)]
    if abs(facts.clock_offset_ms) > _CLOCK_OFFSET_MS:
        side = "ahead of" if facts.clock_offset_ms > 0 else "behind"
        found.append(
            Problem(
                "warning",
                f"the server's clock is {abs(facts.clock_offset_ms) / 1000:.1f} s {side} this machine's: "
                "budgets follow the one, timestamps of webhooks the other; let NTP set both",
            )
        )
    order: tuple[Severity, ...] = ("error", "warning", "info")
    return sorted(found, key=lambda problem: order.index(problem.severity))


def _unfit(facts: ServerFacts) -> Iterator[Problem]:
    if facts.version < _OLDEST[facts.flavour]:
        version = ".".join(map(str, facts.version))
        yield Problem(
            "error",
            f"{facts.flavour.capitalize()} {version} is too old: use Redis from 6.2 or Valkey from 7.2",
        )
    if facts.cluster_enabled:
        yield Problem(
            "error",
            "the server is part of a Redis Cluster, whose nodes cannot change a user, a provider and a queue "
            "in one step: use a single primary, with Sentinel or a managed one's own failover",
        )
    if facts.role not in ("master", ""):
        yield Problem(
            "error", f"the server is a {facts.role}, not the primary: let REDIS_URL name the primary"
        )


def _persistence(facts: ServerFacts) -> Iterator[Problem]:
    if facts.aof_enabled is None:
        yield Problem(
            "warning",
            "the server does not say whether it keeps an append-only file: make sure that its service does, "
            "or a restart loses accepted jobs",
        )
    elif not facts.aof_enabled:
        yield Problem(
            "error",
            "the append-only file is off, so that a restart would lose accepted jobs: set appendonly yes "
            "(CONFIG SET appendonly yes, and the same in the server's configuration)",
        )
    elif facts.aof_fsync is None:
        yield Problem(
            "warning",
            "the server does not say how often it writes its append-only file to disk: look that its service "
            "sets appendfsync to everysec or always",
        )
    elif facts.aof_fsync == "everysec":
        yield Problem(
            "info",
            "appendfsync is everysec: a power cut may lose the last second; always loses nothing, and is slower",
        )
    elif facts.aof_fsync != "always":
        yield Problem(
            "warning",
            f"appendfsync is {facts.aof_fsync}: a power cut may lose half a minute; set everysec or always",
        )


def _memory(facts: ServerFacts) -> Iterator[Problem]:
    if facts.maxmemory_policy is None:
        yield Problem(
            "warning",
            "the server does not say what it does when its memory is full: set maxmemory-policy noeviction",
        )
    elif facts.maxmemory_policy != "noeviction":
        yield Problem(
            "error",
            f"maxmemory-policy is {facts.maxmemory_policy}, which drops jobs and counters when memory is "
            "full: set it to noeviction",
        )
    if facts.maxmemory_bytes and facts.used_memory_bytes:
        share = facts.used_memory_bytes / facts.maxmemory_bytes
        if share > _FULL:
            yield Problem(
                "warning",
                f"{share:.0%} of the server's memory is used, and nothing is accepted when it is full: "
                "raise maxmemory, or shorten retention.jobs_s",
            )
