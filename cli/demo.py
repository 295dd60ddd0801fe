"""`penstock demo`: the whole service with a simulated provider on this machine, some real work, and a reckoning."""

import asyncio
import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx2
import typer

from cli.demo_jobs import USER_PREFIX, DemoApi, DemoUser, Prompt, make_users, read_prompts, submit_and_follow
from cli.demo_progress import Progress
from cli.demo_report import check, print_answer, print_report, read_provider, read_spending
from cli.errors import CommandError
from cli.output import console, this_command
from cli.ports import base_url, claim_port
from cli.redis_access import connected, redis_server
from cli.secrets import Secrets, ensure_secrets, secrets_file
from cli.service import StoppedError, StopRequest, child_environment, until_ready
from cli.supervisor import Program, Supervisor
from jobs.environment import Environment
from jobs.users import Users

TOKENS_PER_MINUTE = 60_000
REQUESTS_PER_MINUTE = 600
LATENCY_S = 0.8
LATENCY_JITTER_S = 0.3
DRAIN_S = 5.0
_PAGE = 500

# Few enough jobs at once that the users' turns can be watched.
_CONFIG = """\
# Written anew by each `penstock demo`.
tiers:
  free: {{requests_per_minute: 20, block_s: 60, tokens_per_day: 50000, max_concurrent: 2, weight: 1}}
  pro: {{requests_per_minute: 60, block_s: 60, tokens_per_day: 500000, max_concurrent: 6, weight: 4}}

providers:
  simulator:
    base_url: {url}/v1
    accounting: openai
    window: strict
    tokens_per_minute: {tpm}
    requests_per_minute: {rpm}
    timeout_s: 30
    models:
      gpt-4o-mini: {{context_tokens: 128000, max_output_tokens: 1024, encoding: o200k_base}}
"""


def demo(
    leave: Annotated[
        bool, typer.Option("--exit", help="End after the report: 0 if all is as it should be, else 1.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 2,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="The API's port.", show_default="PENSTOCK_PORT, or any free one"),
    ] = None,
) -> None:
    """Try it: the whole service with a simulated provider, 40 real prompts of two users, and what they cost."""
    environment = Environment.load()
    prompts = read_prompts()
    directory = environment.data_dir / "demo"
    run = _Demo(
        environment=environment.model_copy(update={"data_dir": directory}),
        workers=workers,
        api_port=_api_port(environment, port),
        simulator_port=claim_port("127.0.0.1", 0),
    )
    with _alone(directory):
        status = asyncio.run(run.run(prompts, leave=leave))
    if status:
        raise typer.Exit(status)


def _api_port(environment: Environment, port: int | None) -> int:
    if port is not None:
        return claim_port("127.0.0.1", port)
    try:
        return claim_port("127.0.0.1", environment.port)
    except CommandError:
        # The address is printed anyway, and a first try should not fail over somebody else's 8080.
        return claim_port("127.0.0.1", 0)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """A lock on the directory: two demos would write each other's configuration."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(
                f"a demo is running in {directory} already; end it, or choose another directory "
                "with PENSTOCK_DATA_DIR"
            ) from None
        yield


class _Demo:
    def __init__(self, environment: Environment, workers: int, api_port: int, simulator_port: int) -> None:
        self._environment = environment
        self._dir = environment.data_dir
        self._workers = workers
        self._api_port = api_port
        self._api_url = base_url("127.0.0.1", api_port)
        self._simulator_port = simulator_port
        self._simulator_url = base_url("127.0.0.1", simulator_port)
        self._out = console()

    async def run(self, prompts: list[Prompt], *, leave: bool) -> int:
        """The status to exit with."""
        stop = StopRequest()
        stop.listen()
        secrets = ensure_secrets(self._environment, self._dir)
        self._introduce(secrets)
        async with redis_server(self._environment, self._report) as redis_url:
            await _refuse_foreign(self._environment, redis_url)
            supervisor = Supervisor(self._report)
            try:
                config = str(self._write_config())
                children = child_environment(redis_url, secrets, PENSTOCK_CONFIG=config, PENSTOCK_LOG="json")
                await self._start(supervisor, children)
                await stop.unless(until_ready(f"{self._simulator_url}/healthz"), supervisor)
                await stop.unless(until_ready(f"{self._api_url}/readyz"), supervisor)
                users, as_it_should = await stop.unless(self._work(prompts, secrets.admin_key), supervisor)
                if not leave:
                    supervisor.steady()
                    self._go_on(users)
                    await stop.asked.wait()
            except StoppedError:
                return 130
            finally:
                await supervisor.stop(DRAIN_S, stop.hurry)
        return 0 if as_it_should else 1

    def _report(self, trouble: str) -> None:
        self._out.print(trouble, style="yellow")

    async def _start(self, supervisor: Supervisor, environment: dict[str, str]) -> None:
        simulator = (
            "simulator", "--port", str(self._simulator_port),
            "--tpm", str(TOKENS_PER_MINUTE), "--rpm", str(REQUESTS_PER_MINUTE),
            "--latency", str(LATENCY_S), "--latency-jitter", str(LATENCY_JITTER_S),
        )  # fmt: skip
        api = ("api", "--host", "127.0.0.1", "--port", str(self._api_port))
        workers: dict[str, tuple[str, ...]] = {
            f"worker-{number + 1}": ("worker",) for number in range(self._workers)
        }
        logs = self._dir / "logs"
        logs.mkdir(exist_ok=True)
        stages: tuple[dict[str, tuple[str, ...]], ...] = (workers, {"simulator": simulator, "api": api})
        for stage, programs in enumerate(stages):
            for name, arguments in programs.items():
                log = logs / f"{name}.log"
                log.unlink(missing_ok=True)
                await supervisor.start(Program(name, arguments, environment, log, stage))

    def _write_config(self) -> Path:
        path = self._dir / "penstock.yaml"
        path.write_text(
            _CONFIG.format(url=self._simulator_url, tpm=TOKENS_PER_MINUTE, rpm=REQUESTS_PER_MINUTE)
        )
        return path

    async def _work(self, prompts: list[Prompt], admin_key: str) -> tuple[list[DemoUser], bool]:
        async with httpx2.AsyncClient(base_url=self._api_url, timeout=15, trust_env=False) as http:
            api = DemoApi(http)
            users = await make_users(api, admin_key, prompts)
            progress = Progress(self._out, users)
            with progress.shown():
                await submit_and_follow(api, users, progress.show)
            stats, log = await read_provider(self._simulator_url)
            spendings = [await read_spending(api, user, log) for user in users]
        checks = check(users, spendings, stats, TOKENS_PER_MINUTE, REQUESTS_PER_MINUTE)
        self._out.print()
        print_answer(self._out, users)
        print_report(self._out, users, spendings, stats, checks)
        return users, all(one.holds for one in checks)

    def _introduce(self, secrets: Secrets) -> None:
        redis = "at REDIS_URL" if self._environment.redis_url else f"embedded Valkey, its data in {self._dir}"
        lines = [
            ("redis", redis),
            (
                "provider",
                f"the simulator at {self._simulator_url}: {TOKENS_PER_MINUTE:,} tokens and "
                f"{REQUESTS_PER_MINUTE} requests a minute, {LATENCY_S:g} s a call",
            ),
            ("api", self._api_url),
            ("workers", str(self._workers)),
        ]
        if secrets.admin_key_is_new:
            lines.append(
                ("admin key", f"{secrets.admin_key} (shown this once; kept in {secrets_file(self._dir)})")
            )
        for name, value in lines:
            self._out.print(f"{name:<10} {value}")
        self._out.print()

    def _go_on(self, users: list[DemoUser]) -> None:
        body = {
            "body": {
                "model": "gpt-4o-mini",
                "messages": [{"role": "user", "content": "Why is the sky blue?"}],
            }
        }
        lines = [
            f"export PENSTOCK_URL={self._api_url} PENSTOCK_KEY={users[-1].key}",
            f'{this_command()} submit "Why is the sky blue?" --wait',
            'curl -s "$PENSTOCK_URL/v1/jobs" -H "authorization: Bearer $PENSTOCK_KEY" '
            f"-H 'content-type: application/json' -H 'prefer: wait=30' -d '{json.dumps(body)}'",
        ]
        self._out.print("Go on with", style="bold")
        for line in lines:
            self._out.print(f"  {line}")
        self._out.print(f"It stays up until Ctrl-C; logs are in {self._dir / 'logs'}")


async def _refuse_foreign(environment: Environment, redis_url: str) -> None:
    """A Redis that serves somebody would get the demo's limits in force."""
    if environment.redis_url is None:
        return
    async with connected(redis_url) as redis:
        users = Users(redis)
        page, more = await users.list(limit=_PAGE, after=None)
        while all(user.user.startswith(USER_PREFIX) for user in page):
            if not more:
                return
            page, more = await users.list(limit=_PAGE, after=page[-1].user)
    raise CommandError(
        "the Redis at REDIS_URL serves a Penstock already, and the demo would change its limits; "
        "unset REDIS_URL, or give the demo an empty database"
    )
