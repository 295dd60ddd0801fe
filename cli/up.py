"""`penstock up`: the whole service on one machine: an API process, some workers, and an embedded Valkey by default."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from cli.autoscale import Autoscaler
from cli.output import console, notices, this_command
from cli.ports import base_url, claim_port
from cli.process_commands import Host, Port
from cli.redis_access import redis_server
from cli.secrets import ensure_secrets, secrets_file
from cli.service import StoppedError, StopRequest, child_environment, until_ready
from cli.supervisor import Program, Supervisor
from jobs.config.load import load
from jobs.environment import Environment

MOST_WORKERS = 256
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Fleet:
    """How many worker processes: `least` at the start, and then as many as are of use, `most` if `follows`."""

    least: int
    most: int
    follows: bool


def up(
    workers: Annotated[
        str, typer.Option(metavar="N|auto", help="Worker processes; auto: as many as are of use.")
    ] = "1",
    min_workers: Annotated[
        int, typer.Option(min=0, max=MOST_WORKERS, help="With auto: never fewer than these.")
    ] = 1,
    max_workers: Annotated[
        int, typer.Option(min=1, max=MOST_WORKERS, help="With auto: never more than these.")
    ] = 8,
    host: Host = None,
    port: Port = None,
) -> None:
    """Run the whole service on this machine. Ctrl-C drains and stops it, a second one at once."""
    fleet = _fleet(workers, min_workers, max_workers)
    environment = Environment.load(host=host, port=port)
    config = load(environment.config_path)
    environment = environment.model_copy(update={"port": claim_port(environment.host, environment.port)})
    drain_s = config.longest_timeout_s() if environment.drain_s is None else environment.drain_s
    asyncio.run(_up(environment, fleet, drain_s))


def _fleet(workers: str, least: int, most: int) -> Fleet:
    if workers == AUTO:
        if least > most:
            raise typer.BadParameter(f"is above --max-workers {most}", param_hint="'--min-workers'")
        return Fleet(least, most, follows=True)
    if not workers.isascii() or not workers.isdigit() or not 1 <= int(workers) <= MOST_WORKERS:
        raise typer.BadParameter(
            f"must be a number from 1 to {MOST_WORKERS}, or {AUTO}", param_hint="'--workers'"
        )
    return Fleet(int(workers), int(workers), follows=False)


async def _up(environment: Environment, fleet: Fleet, drain_s: float) -> None:
    stop = StopRequest()
    stop.listen()
    secrets = ensure_secrets(environment, environment.data_dir)
    if secrets.admin_key_is_new:
        kept = secrets_file(environment.data_dir)
        console().print(f"admin key: {secrets.admin_key} (shown this once; kept in {kept})")
    url = base_url(environment.host, environment.port)
    async with redis_server(environment, _report) as redis_url:
        supervisor = Supervisor(_report)
        children = child_environment(redis_url, secrets)
        scaler = Autoscaler(
            supervisor,
            lambda number: Program(f"worker {number}", ("worker",), children),
            least=fleet.least,
            most=fleet.most,
            drain_s=drain_s,
            report=_report,
        )
        try:
            await scaler.have(fleet.least)
            await _start_api(supervisor, environment, children)
            await stop.unless(until_ready(f"{url}/readyz"), supervisor)
            supervisor.steady()
            _announce(environment, url, supervisor.pids)
            async with _following(scaler, url, secrets.admin_key, fleet):
                await stop.asked.wait()
            _report(f"draining: running jobs may finish within {drain_s:g} s; Ctrl-C again ends them")
        except StoppedError:
            raise typer.Exit(130) from None
        finally:
            await supervisor.stop(drain_s, stop.hurry)


@asynccontextmanager
async def _following(scaler: Autoscaler, url: str, key: str, fleet: Fleet) -> AsyncIterator[None]:
    """While the block runs, there are as many workers as are of use, if that is asked for."""
    following = asyncio.create_task(scaler.follow(url, key)) if fleet.follows else None
    try:
        yield
    finally:
        if following is not None:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def _report(trouble: str) -> None:
    notices().print(f"penstock: {trouble}")


async def _start_api(supervisor: Supervisor, environment: Environment, children: dict[str, str]) -> None:
    api = ("api", "--host", environment.host, "--port", str(environment.port))
    # Ended last, so that whoever waits for a job hears of its end.
    await supervisor.start(Program("api", api, children, stage=1))


def _announce(environment: Environment, url: str, pids: Mapping[str, int]) -> None:
    out = console()
    data = "Redis at REDIS_URL" if environment.redis_url else f"data in {environment.data_dir}"
    processes = ", ".join(f"{name} {pid}" for name, pid in pids.items())
    out.print(f"Penstock is up at {url}, {data} (processes: {processes})")
    out.print(
        f"make a key with `{this_command()} keys create --user NAME --tier TIER`; Ctrl-C drains and stops"
    )
