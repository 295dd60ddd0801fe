"""The application: puts the parts of one API process together, and keeps them going while it runs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from api import documentation
from api.auth import TOUCH_INTERVAL_S, Authenticator
from api.background import Background, repeat, until_done
from api.blocks import Blocks
from api.direct import DirectRoute
from api.durability import Durability
from api.edge import Edge
from api.errors import Problem, answer, problem_of
from api.retraction import Retractions
from api.routes import admin, health, jobs, limits
from api.service import Service
from api.subscription import Subscription
from api.waiting import Waiters
from jobs import keys
from jobs.config import Config, ConfigError, ConfigWatcher
from jobs.environment import Environment, SettingsError
from jobs.store import JobStore
from jobs.tokens import vocabulary
from jobs.tokens.estimator import TokenEstimator
from jobs.usage import UsageLedger
from jobs.users import Users

if TYPE_CHECKING:
    from redis.asyncio import Redis

SWEEP_INTERVAL_S = 1.0
START_RETRY_S = 0.5
FIRST_START_S = 5.0
"""How long a start waits for Redis before it goes on without, answering 503 until Redis is there."""

log = structlog.get_logger(__name__)


class Application(FastAPI):
    """FastAPI with our routes and our description; `service` is what the routes work with."""

    service: Service

    def openapi(self) -> dict[str, Any]:
        """FastAPI's description of the routes, with the schemas they refer to."""
        schema = super().openapi()
        components = schema.setdefault("components", {})
        components["schemas"] = documentation.SCHEMAS
        components["securitySchemes"] = documentation.SECURITY_SCHEMES
        return schema


def create_app(
    config: Config,
    environment: Environment,
    redis: "Redis",
    *,
    require_durable: bool = True,
    clock: Callable[[], int] | None = None,
) -> Application:
    """The application over this Redis, which stays the caller's to close. Nothing is connected before it starts.

    With `require_durable`, a Redis that may lose or evict jobs is not used: all routes answer 503 with the reason.
    `clock` gives Unix ms in tests, to the scripts as well. Raises SettingsError without PENSTOCK_SECRET.
    """
    if environment.secret is None:
        raise SettingsError(
            "PENSTOCK_SECRET: is required; set it to a long random text, the same in every process"
        )
    pepper = environment.secret.get_secret_value()
    admin_key = environment.admin_key.get_secret_value() if environment.admin_key else None
    now_ms = clock or _system_ms
    monotonic = time.monotonic if clock is None else lambda: clock() / 1000
    store = JobStore(redis, lease_ms=round(environment.lease_s * 1000), clock=clock)
    users = Users(redis)
    waiters = Waiters()
    authenticator = Authenticator(users, pepper=pepper, admin_key=admin_key, clock=monotonic, now_ms=now_ms)

    def hearing(heard: bool) -> None:
        authenticator.hearing(heard)
        waiters.hearing(heard)

    service = Service(
        config=config,
        store=store,
        users=users,
        usage=UsageLedger(redis),
        estimator=TokenEstimator(),
        authenticator=authenticator,
        subscription=Subscription(
            redis,
            on_message={keys.DONE: waiters.ended, keys.KEYS_CHANGED: authenticator.changed},
            on_hearing=hearing,
        ),
        waiters=waiters,
        blocks=Blocks(monotonic),
        now_ms=now_ms,
        retractions=Retractions(store),
        durability=Durability(redis, required=require_durable),
    )
    app = Application(
        title="Penstock",
        version=_version(),
        summary="An asynchronous job queue for LLM calls: fair, token-budgeted, never over the provider's limits.",
        lifespan=_lifespan(service, environment),
        redirect_slashes=False,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.service = service
    app.router.route_class = DirectRoute
    jobs.add(app, service)
    limits.add(app, service)
    health.add(app, service)
    admin.add(app, service, pepper)
    app.add_middleware(Edge)
    app.add_exception_handler(Problem, _handle)
    app.add_exception_handler(HTTPException, _handle)
    return app


async def _handle(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        error.headers = {"Allow": _allowed(request)}
    problem = problem_of(error)
    assert problem is not None, error
    return answer(problem, request.scope)


def _allowed(request: Request) -> str:
    """The methods of all routes of this path; the framework tells only those of the first."""
    methods: set[str] = set()
    for route in request.app.router.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


def _lifespan(service: Service, environment: Environment) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        background = Background()
        try:
            await _preload(service.config)
            started = asyncio.create_task(until_done("start", START_RETRY_S, service.start))
            background.keep(started)
            await asyncio.wait((started,), timeout=FIRST_START_S)
            background.start(service.subscription.run(), "subscription")
            background.start(repeat("sweep", SWEEP_INTERVAL_S, service.store.sweep), "sweep")
            background.start(repeat("retract", SWEEP_INTERVAL_S, service.retractions.work), "retract")
            background.start(repeat("touch", TOUCH_INTERVAL_S, service.authenticator.note_uses), "touch")
            background.start(_watch(service, environment, background), "configuration")
            yield
        finally:
            service.waiters.drain()
            await background.stop()
            service.estimator.close()

    return lifespan


async def _preload(config: Config) -> None:
    """Load the vocabularies now, so that no submission waits for one."""
    encodings = {pool.model_settings.encoding for pool in config.all_pools()}
    await asyncio.to_thread(vocabulary.preload, sorted(encodings))


async def _watch(service: Service, environment: Environment, background: Background) -> None:
    """Takes up each new configuration, first in this process and then in the scripts."""

    def changed(config: Config) -> None:
        service.config = config
        log.info("configuration changed")
        background.start(until_done("publish", START_RETRY_S, lambda: _publish(service)), "publish")

    def refused(error: ConfigError) -> None:
        log.error("configuration refused, the old one stays in force", problems=str(error))

    await ConfigWatcher(service.config, environment.config_path, on_change=changed, on_error=refused).run()


async def _publish(service: Service) -> None:
    """Puts the newest configuration in force: of two changes on the way, the later one wins in any order."""
    await _preload(service.config)
    await service.store.publish(service.config)


def _system_ms() -> int:
    return time.time_ns() // 1_000_000


def _version() -> str:
    try:
        return metadata.version("penstock")
    except metadata.PackageNotFoundError:
        return "unknown"
