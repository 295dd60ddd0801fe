"""`penstock api`, `worker` and `simulator`: one process of each, for containers and for `up` and `demo`.

The rooms are imported by the command that runs them: a client command should not wait for a web server to load.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import lifeline
from cli.errors import CommandError
from cli.ports import claim_port
from jobs.environment import Environment
from jobs.logging import configure_logging

Host = Annotated[
    str | None, typer.Option(help="The address to listen on.", show_default="PENSTOCK_HOST or 127.0.0.1")
]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="The port to listen on.", show_default="PENSTOCK_PORT or 8080"),
]
ParentFd = Annotated[int | None, typer.Option("--lifeline", hidden=True)]


def api(host: Host = None, port: Port = None, parent: ParentFd = None) -> None:
    """Run one API process. Needs REDIS_URL, PENSTOCK_SECRET and PENSTOCK_ADMIN_KEY."""
    lifeline.hold(parent)
    environment = Environment.load(host=host, port=port)
    require(environment, "REDIS_URL", "PENSTOCK_SECRET")
    claim_port(environment.host, environment.port)
    configure_logging(environment.log_format, environment.log_level)
    from api.serve import run

    run(environment)


def worker(
    max_jobs: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Jobs at once.", show_default="PENSTOCK_MAX_JOBS or 100"),
    ] = None,
    parent: ParentFd = None,
) -> None:
    """Run one worker process. Needs REDIS_URL and PENSTOCK_SECRET; SIGTERM drains."""
    lifeline.hold(parent)
    environment = Environment.load(max_jobs=max_jobs)
    require(environment, "REDIS_URL", "PENSTOCK_SECRET")
    configure_logging(environment.log_format, environment.log_level)
    from worker.main import run

    run(environment)


def simulator(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any free one.")] = 9000,
    tpm: Annotated[
        int | None, typer.Option(min=1, help="Tokens per minute.", show_default="no limit")
    ] = None,
    rpm: Annotated[
        int | None, typer.Option(min=1, help="Requests per minute.", show_default="no limit")
    ] = None,
    latency: Annotated[float, typer.Option(min=0, metavar="S", help="Seconds that a call takes.")] = 0.0,
    latency_jitter: Annotated[
        float, typer.Option(min=0, metavar="S", help="Up to so many seconds more or less.")
    ] = 0.0,
    accounting: Annotated[
        Literal["openai", "actual", "anthropic"],
        typer.Option(help="What counts against --tpm, and when: as that provider does, or the usage."),
    ] = "openai",
    faults: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML: how often, or when, to fail, and how.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model it serves, repeatable.", show_default="every model")
    ] = None,
    answer_tokens: Annotated[int, typer.Option(min=1, help="The mean length of an answer.")] = 120,
    max_output_tokens: Annotated[
        int, typer.Option(min=1, help="The longest answer to a request that names no cap.")
    ] = 4096,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="PENSTOCK_SIMULATOR_KEY", help="The only key it accepts.", show_default="any, or none"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of its random choices.")] = 0,
    parent: ParentFd = None,
) -> None:
    """Run the provider simulator: the OpenAI chat API, strict about its limits."""
    lifeline.hold(parent)
    from simulator.errors import SimulatorError
    from simulator.serve import run
    from simulator.settings import Accounting, SimulatorSettings

    try:
        run(
            SimulatorSettings(
                host=host,
                port=port,
                tpm=tpm,
                rpm=rpm,
                latency_s=latency,
                latency_jitter_s=latency_jitter,
                accounting=Accounting(accounting),
                faults=faults,
                seed=seed,
                api_key=api_key,
                models=tuple(model or ()),
                answer_tokens=answer_tokens,
                max_output_tokens=max_output_tokens,
            )
        )
    except SimulatorError as error:
        raise CommandError(str(error)) from None


def require(environment: Environment, *names: str) -> None:
    """Raises CommandError if one of these variables, which have no default here, is not set."""
    values = {"REDIS_URL": environment.redis_url, "PENSTOCK_SECRET": environment.secret}
    missing = [name for name in names if values[name] is None]
    if missing:
        raise CommandError(
            f"{' and '.join(missing)} must be set here; on a single machine, `penstock up` starts all it needs"
        )
