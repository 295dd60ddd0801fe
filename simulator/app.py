"""The simulated provider as an ASGI application: clients' routes, and those by which tests look inside."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from simulator.call import Clock, Provider
from simulator.errors import ApiError, FaultsError
from simulator.exchange import JSON, read_body
from simulator.faults import FaultsConfig, parse_faults, read_faults
from simulator.log import LogEntry
from simulator.misbehave import ELSEWHERE, Sleep
from simulator.settings import SimulatorSettings
from simulator.stats import ModelStats, Stats


class Simulator:
    """An ASGI application; `create_app` makes it."""

    def __init__(self, settings: SimulatorSettings, faults: FaultsConfig, clock: Clock, sleep: Sleep) -> None:
        self._settings = settings
        self._clock = clock
        self._provider = Provider(settings, faults, clock, sleep)
        self._redirects_followed = 0
        self._routes: Mapping[tuple[str, str], Callable[[Scope, Receive, Send], Awaitable[None]]] = {
            ("POST", "/v1/chat/completions"): self._provider.chat,
            ("GET", "/v1/models"): self._models,
            ("GET", "/_log"): self._show_log,
            ("DELETE", "/_log"): self._clear_log,
            ("GET", "/_stats"): self._show_stats,
            ("POST", "/_faults"): self._set_faults,
            ("POST", ELSEWHERE): self._elsewhere,
            ("GET", ELSEWHERE): self._elsewhere,
            ("GET", "/healthz"): self._health,
        }
        self._paths = frozenset(path for _, path in self._routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the simulator speaks HTTP only, not {scope['type']}")
        handler = self._routes.get((scope["method"], scope["path"]))
        if handler is not None:
            await handler(scope, receive, send)
            return
        status = 405 if scope["path"] in self._paths else 404
        error = ApiError(status, f"Invalid URL ({scope['method']} {scope['path']})", code="unknown_url")
        await _send_json(send, status, error.body())

    def log(self, after: int = 0) -> list[LogEntry]:
        """Copies of the log's entries with an id above `after`."""
        return self._provider.log.entries(after)

    def clear(self) -> None:
        """Forget the log, the totals and the greatest windows; buckets and faults go on."""
        self._provider.log.clear()
        self._provider.meter.restart(self._clock())
        self._provider.statuses.clear()
        self._redirects_followed = 0

    def set_faults(self, faults: FaultsConfig) -> None:
        """Put these rates and this schedule in force, from now."""
        self._provider.faults.replace(faults, self._clock())

    def stats(self) -> Stats:
        """The totals, and what the buckets hold now."""
        now_s = self._clock()
        meter = self._provider.meter
        total = meter.window.total
        return Stats(
            requests=total.requests,
            in_flight=self._provider.in_flight,
            status_429=self._provider.statuses["429"],
            refused_tokens=meter.refused_tokens,
            refused_requests=meter.refused_requests,
            refused_too_large=meter.refused_too_large,
            tokens_charged=total.tokens,
            greatest_tokens_in_60s=total.greatest_tokens,
            greatest_requests_in_60s=total.greatest_requests,
            bucket_tokens=meter.tokens.level(now_s) if meter.tokens is not None else None,
            bucket_requests=meter.requests.level(now_s) if meter.requests is not None else None,
            redirects_followed=self._redirects_followed,
            log_dropped=self._provider.log.dropped,
            by_status=dict(self._provider.statuses),
            by_model={
                name: ModelStats(load.requests, load.tokens, load.greatest_requests, load.greatest_tokens)
                for name, load in meter.window.by_model.items()
            },
        )

    async def _models(self, scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            self._provider.authorize(scope)
        except ApiError as error:
            await _send_json(send, error.status, error.body())
            return
        names = self._settings.models or sorted(filter(None, self._provider.meter.window.by_model))
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "simulator"} for name in names]
        await _send_json(send, 200, json.dumps({"object": "list", "data": models}).encode())

    async def _show_log(self, scope: Scope, _receive: Receive, send: Send) -> None:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("after", ["0"])[-1]
        if not (given.isascii() and given.isdigit()):
            error = ApiError(400, f"after must be the id of an entry, not {given!r}", param="after")
            await _send_json(send, 400, error.body())
            return
        entries = [entry.as_json() for entry in self._provider.log.entries(int(given))]
        log = {
            "entries": entries,
            "last_id": self._provider.log.last_id,
            "dropped": self._provider.log.dropped,
        }
        await _send_json(send, 200, json.dumps(log).encode())

    async def _clear_log(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        self.clear()
        await _send_json(send, 200, b'{"cleared": true}')

    async def _show_stats(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await _send_json(send, 200, json.dumps(asdict(self.stats())).encode())

    async def _set_faults(self, _scope: Scope, receive: Receive, send: Send) -> None:
        raw = await read_body(receive)
        if raw is None:
            return
        try:
            faults = parse_faults(raw.decode("utf-8", "replace"), "the body")
        except FaultsError as error:
            await _send_json(send, 400, ApiError(400, str(error)).body())
            return
        self.set_faults(faults)
        accepted = {"rates": len(faults.rate), "scheduled": len(faults.schedule)}
        await _send_json(send, 200, json.dumps(accepted).encode())

    async def _elsewhere(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        self._redirects_followed += 1
        await _send_json(send, 200, b'{"followed": true}')

    async def _health(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await _send_json(send, 200, b'{"status": "ok"}')


def create_app(
    settings: SimulatorSettings, clock: Clock = time.time, sleep: Sleep = asyncio.sleep
) -> Simulator:
    """The simulator as an ASGI application; a `FaultsError` if the file of faults cannot be used."""
    faults = read_faults(settings.faults) if settings.faults is not None else FaultsConfig()
    return Simulator(settings, faults, clock, sleep)


async def _send_json(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", JSON), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
