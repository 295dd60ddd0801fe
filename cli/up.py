"""`penstock up`: the whole service on one machine: an API process, some workers, and an embedded Valkey by default."""

import asyncio
from collections.abc import Mapping
from typing import Annotated

import typer

from cli.output import console, notices, this_command
from cli.ports import base_url, claim_port
from cli.process_commands import Host, Port
from cli.redis_access import redis_server
from cli.secrets import ensure_secrets, secrets_file
from cli.service import StoppedError, StopRequest, child_environment, until_ready
from cli.supervisor import Program, Supervisor
from jobs.config.load import load
from jobs.environment import Environment


def up(
    workers: Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")] = 1,
    host: Host = None,
    port: Port = None,
) -> None:
    """Run the whole service on this machine. Ctrl-C drains and stops it, a second one at once."""
    environment = Environment.load(host=host, port=port)
    config = load(environment.config_path)
    environment = environment.model_copy(update={"port": claim_port(environment.host, environment.port)})
    drain_s = config.longest_timeout_s() if environment.drain_s is None else environment.drain_s
    asyncio.run(_up(environment, workers, drain_s))


async def _up(environment: Environment, workers: int, drain_s: float) -> None:
    stop = StopRequest()
    stop.listen()
    secrets = ensure_secrets(environment, environment.data_dir)
    if secrets.admin_key_is_new:
        kept = secrets_file(environment.data_dir)
        console().print(f"admin key: {secrets.admin_key} (shown this once; kept in {kept})")
    url = base_url(environment.host, environment.port)
    async with redis_server(environment, _report) as redis_url:
        supervisor = Supervisor(_report)
        try:
            await _start(supervisor, environment, child_environment(redis_url, secrets), workers)
            await stop.unless(until_ready(f"{url}/readyz"), supervisor)
            supervisor.steady()
            _announce(environment, url, supervisor.pids)
            await stop.asked.wait()
            _report(f"draining: running jobs may finish within {drain_s:g} s; Ctrl-C again ends them")
        except StoppedError:
            raise typer.Exit(130) from None
        finally:
            await supervisor.stop(drain_s, stop.hurry)


def _report(trouble: str) -> None:
    notices().print(f"penstock: {trouble}")


async def _start(
    supervisor: Supervisor, environment: Environment, children: dict[str, str], workers: int
) -> None:
    for number in range(workers):
        await supervisor.start(Program(f"worker {number + 1}", ("worker",), children))
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
