"""The application: puts the parts of one API process together, and keeps them going while it runs."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth import TOUCH_INTERVAL_S, Authenticator
from api.background import Background, repeat, until_done
from api.blocks import Blocks
from api.direct import DirectRoute
from api.durability import Durability
from api.edge import Edge
from api.hooks import Hooks
from api.openapi.document import describe
from api.rejections import Rejections
from api.retraction import Retractions
from api.routes import deliveries, health, jobs, keys, limits, operations, operators, users, webhooks
from api.service import Service
from api.subscription import Subscription
from api.turns import Turns
from api.waiting import Waiters
from jobs.config import Config, ConfigError, ConfigWatcher
from jobs.dead import DeadJobs
from jobs.egress import Resolver, SubmissionCheck, SystemResolver
from jobs.environment import Environment, SettingsError
from jobs.figures import FiguresStore
from jobs.keys import DONE, KEYS_CHANGED
from jobs.pools import Pools
from jobs.store import JobStore
from jobs.tokens import vocabulary
from jobs.tokens.estimator import TokenEstimator
from jobs.usage import UsageLedger
from jobs.users import Users
from jobs.webhooks.deliveries import Deliveries
from jobs.webhooks.endpoints import Endpoints
from jobs.webhooks.signing import SecretBox

if TYPE_CHECKING:
    from redis.asyncio import Redis

SWEEP_INTERVAL_S = 1.0
START_RETRY_S = 0.5
FIRST_START_S = 5.0
"""How long a start waits for what Redis says first, before it listens and answers 503 until Redis is there."""

log = structlog.get_logger(__name__)


class Application(FastAPI):
    """FastAPI with our routes and our description; `service` is what the routes work with."""

    service: Service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """FastAPI would ask for each request anew whether OpenTelemetry is configured."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        scope["app"] = self
        await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """One layer in place of FastAPI's six: all that routes such as ours need of them."""
        return Edge(self.router, self.router.routes, stopping=lambda: self.service.waiters.draining)

    def openapi(self) -> dict[str, Any]:
        """The document, which FastAPI serves at /openapi.json and shows at /docs."""
        return describe(self.router.routes, self.version)


def create_app(
    config: Config,
    environment: Environment,
    redis: "Redis",
    *,
    require_durable: bool = True,
    clock: Callable[[], int] | None = None,
    resolver: Resolver | None = None,
) -> Application:
    """The application over this Redis, which stays the caller's to close. Nothing is connected before it starts.

    With `require_durable`, a Redis that may lose or evict jobs is not used: all routes answer 503 with the reason.
    `clock` gives Unix ms in tests, to the scripts as well, and `resolver` looks up the names of webhooks' receivers.
    Raises SettingsError without PENSTOCK_SECRET.
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
    accounts = Users(redis)
    waiters = Waiters()
    authenticator = Authenticator(
        accounts,
        pepper=pepper,
        admin_key=admin_key,
        clock=monotonic,
        now_ms=now_ms,
        confirm=store.confirm,
    )

    def hearing(heard: bool) -> None:
        authenticator.hearing(heard)
        waiters.hearing(heard)

    figures = FiguresStore(redis, lease_ms=round(environment.lease_s * 1000), clock=clock)
    service = Service(
        config=config,
        store=store,
        pools=Pools(redis, clock=clock),
        dead=DeadJobs(redis, clock=clock),
        figures=figures,
        worker_slots=environment.max_jobs,
        rejections=Rejections(figures),
        users=accounts,
        usage=UsageLedger(redis),
        estimator=TokenEstimator(),
        authenticator=authenticator,
        subscription=Subscription(
            redis,
            on_message={DONE: waiters.ended, KEYS_CHANGED: authenticator.changed},
            on_hearing=hearing,
        ),
        waiters=waiters,
        blocks=Blocks(monotonic),
        turns=Turns(),
        now_ms=now_ms,
        retractions=Retractions(store),
        durability=Durability(redis, required=require_durable),
        hooks=Hooks(
            Endpoints(redis, SecretBox(pepper), clock=clock),
            Deliveries(redis, clock=clock),
            SubmissionCheck(resolver or SystemResolver(), now_s=monotonic),
        ),
    )
    app = Application(
        title="Penstock",
        version=_version(),
        lifespan=_lifespan(service, environment),
        redirect_slashes=False,
        # It would report exceptions, whose messages may hold prompts, to whatever OpenTelemetry is configured.
        telemetry={"tracing": False, "metrics": False},
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
    )
    app.service = service
    app.router.route_class = DirectRoute
    description = list(app.router.routes)
    app.router.routes.clear()
    jobs.add(app, service)
    limits.add(app, service)
    health.add(app, service)
    users.add(app, service)
    keys.add(app, service, pepper)
    operators.add(app, service)
    operations.add(app, service)
    webhooks.add(app, service)
    deliveries.add(app, service)
    # Routes are tried in their order.
    app.router.routes.extend(description)
    return app


def _lifespan(service: Service, environment: Environment) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        background = Background()
        try:
            await _preload(service.config)
            background.start(until_done("start", START_RETRY_S, service.start), "start")
            await service.wait_for_start(FIRST_START_S)
            background.start(service.subscription.run(), "subscription")
            background.start(repeat("sweep", SWEEP_INTERVAL_S, service.sweep), "sweep")
            background.start(repeat("retract", SWEEP_INTERVAL_S, service.retractions.work), "retract")
            background.start(repeat("rejections", SWEEP_INTERVAL_S, service.rejections.write), "rejections")
            background.start(repeat("touch", TOUCH_INTERVAL_S, service.authenticator.note_uses), "touch")
            background.start(_watch(service, environment, background), "configuration")
            yield
        finally:
            service.waiters.drain()
            await background.stop()
            await service.hooks.check.aclose()
            await service.last_retractions()
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
