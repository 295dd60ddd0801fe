"""The providers' clients in force: one per provider, made of the configuration and its key."""

import asyncio
import os

import structlog

from jobs.config import Config, Pool, Provider
from worker.provider import ProviderClient

log = structlog.get_logger(__name__)


class Providers:
    """Clients by provider. A replaced client is closed once its last call is over."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._clients: dict[str, tuple[Provider, ProviderClient]] = {}
        self._pools: dict[str, Pool] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.use(config)

    def use(self, config: Config) -> None:
        """Take up a configuration; clients of providers that did not change stay as they are."""
        self.config = config
        self._pools = {pool.id: pool for pool in config.all_pools()}
        for name, (settings, client) in list(self._clients.items()):
            wanted = config.providers.get(name)
            if wanted is None or _connection(wanted) != _connection(settings):
                del self._clients[name]
                self._close_later(client, settings.timeout_s)
        for name, settings in config.providers.items():
            if name not in self._clients:
                self._clients[name] = (settings, ProviderClient(settings.base_url, _key(name, settings)))

    def pool(self, pool_id: str) -> Pool | None:
        """The pool 'provider/model'; None if this process does not know it (yet, or any more)."""
        return self._pools.get(pool_id)

    def client(self, pool: Pool) -> ProviderClient:
        """The client of the pool's provider."""
        return self._clients[pool.provider][1]

    async def aclose(self) -> None:
        """Close all clients; calls still under way fail."""
        for task in self._closing:
            task.cancel()
        for _, client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    def _close_later(self, client: ProviderClient, after_s: float) -> None:
        async def close() -> None:
            try:
                await asyncio.sleep(after_s)
            finally:
                await client.aclose()

        task = asyncio.get_running_loop().create_task(close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _connection(settings: Provider) -> tuple[str, str | None]:
    return settings.base_url, settings.api_key_env


def _key(name: str, settings: Provider) -> str | None:
    if settings.api_key_env is None:
        return None
    key = os.environ.get(settings.api_key_env, "").strip()
    if not key:
        log.warning("provider without its key", provider=name, set=settings.api_key_env)
    return key or None
