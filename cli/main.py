"""The `penstock` command: which commands there are, and how an error leaves one of them."""

import io
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from cli import (
    account_commands,
    demo,
    doctor,
    job_commands,
    key_commands,
    ledger_commands,
    listen,
    process_commands,
    scale_commands,
    up,
)
from cli.batch.command import batch
from cli.errors import CommandError
from cli.output import console, notices
from jobs.config import ConfigError
from jobs.environment import SettingsError

SERVICE = "Run the service"
CLIENT = "Use it (PENSTOCK_URL, PENSTOCK_KEY)"
OPERATE = "Operate it"

app = typer.Typer(
    name="penstock",
    help="An asynchronous job queue for LLM calls: fair, token-budgeted, never over the provider's limits.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        console().print(f"penstock {version('penstock')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


app.command(rich_help_panel=SERVICE)(up.up)
app.command(rich_help_panel=SERVICE)(demo.demo)
app.command(rich_help_panel=SERVICE)(process_commands.api)
app.command(rich_help_panel=SERVICE)(process_commands.worker)
app.command(rich_help_panel=SERVICE)(process_commands.simulator)
app.command(rich_help_panel=CLIENT)(job_commands.submit)
app.command(rich_help_panel=CLIENT)(job_commands.get)
app.command(rich_help_panel=CLIENT)(job_commands.cancel)
app.command("list", rich_help_panel=CLIENT)(job_commands.list_jobs)
app.command(rich_help_panel=CLIENT)(batch)
app.command(rich_help_panel=CLIENT)(listen.listen)
app.command(rich_help_panel=CLIENT)(account_commands.usage)
app.command(rich_help_panel=CLIENT)(account_commands.limits)
app.command(rich_help_panel=OPERATE)(scale_commands.scale)
app.add_typer(key_commands.app, rich_help_panel=OPERATE)
app.add_typer(ledger_commands.app, rich_help_panel=OPERATE)
app.command(rich_help_panel=OPERATE)(doctor.doctor)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits: 0, 1 for what could not be done, 2 for what was asked wrongly, 130 for Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's encoding lacks is written out instead of ending the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        # Commands return nothing; what comes back is the status of an exit.
        return int(app(arguments, prog_name="penstock", standalone_mode=False) or 0)
    except CommandError as error:
        return _fail(error.message, error.exit_code)
    except typer.TyperException as error:
        return _fail(_usage_error(error), error.exit_code)
    except (ConfigError, SettingsError) as error:
        return _fail(str(error), 1)


def _usage_error(error: typer.TyperException) -> str:
    message = error.format_message().rstrip(".")
    command = getattr(getattr(error, "ctx", None), "command_path", None)
    if not message or command is None:
        return message
    return f"{message[0].lower()}{message[1:]}; see {command} --help"


def _fail(message: str, status: int) -> int:
    for line in message.splitlines():
        notices().print(f"penstock: {line}")
    return status


if __name__ == "__main__":
    main()
