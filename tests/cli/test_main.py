"""The command as a whole: its help, and how a mistake is told."""

from importlib.metadata import version
from pathlib import Path

import pytest

from tests.cli.conftest import Run

COMMANDS = [
    ("up",),
    ("demo",),
    ("api",),
    ("worker",),
    ("simulator",),
    ("submit",),
    ("get",),
    ("cancel",),
    ("list",),
    ("batch",),
    ("listen",),
    ("scale",),
    ("usage",),
    ("limits",),
    ("doctor",),
    ("ledger",),
    ("ledger", "verify"),
    ("keys",),
    ("keys", "create"),
    ("keys", "list"),
    ("keys", "rotate"),
    ("keys", "revoke"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(penstock: Run, command: tuple[str, ...]) -> None:
    done = penstock(*command, "--help")
    assert done.status == 0
    assert f"penstock {' '.join(command)}" in done.out
    assert "lifeline" not in done.out


def test_help_names_every_command_and_no_other(penstock: Run) -> None:
    help_text = penstock("--help").out
    named = {
        line.split()[1] for line in help_text.splitlines() if line.startswith("│ ") and line[2] not in " -"
    }
    assert named == {command[0] for command in COMMANDS}


def test_no_command_shows_the_help_and_fails(penstock: Run) -> None:
    done = penstock()
    assert done.status == 2
    assert "Usage: penstock" in done.out


def test_version(penstock: Run) -> None:
    done = penstock("--version")
    assert (done.status, done.out) == (0, f"penstock {version('penstock')}\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("nonsense",), "penstock: no such command 'nonsense'; see penstock --help\n"),
        (("submit",), "penstock: missing argument 'PROMPT'; see penstock submit --help\n"),
        (("submit", "x", "--colour"), "penstock: no such option: --colour; see penstock submit --help\n"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_told_in_one_line_with_status_2(
    penstock: Run, arguments: tuple[str, ...], complaint: str
) -> None:
    done = penstock(*arguments)
    assert (done.status, done.out, done.err) == (2, "", complaint)


@pytest.mark.parametrize(
    "call",
    [
        ("submit", "x", "--max-tokens", "0"),
        ("submit", "x", "--max-tokens", "many"),
        ("list", "--status", "done"),
        ("list", "--limit", "101"),
        ("get", "job_1", "--wait", "-1"),
        ("simulator", "--accounting", "generous"),
        ("up", "--workers", "0"),
    ],
    ids=" ".join,
)
def test_an_impossible_value_names_its_option(penstock: Run, call: tuple[str, ...]) -> None:
    done = penstock(*call)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"penstock: invalid value for '{call[-2]}'")
    assert done.err.count("\n") == 1


def test_a_wrong_environment_variable_is_named(penstock: Run) -> None:
    done = penstock("limits", PENSTOCK_URL="somewhere")
    assert done.status == 1
    assert done.err.startswith("penstock: PENSTOCK_URL: must be a URL")
    assert done.err.count("\n") == 1


def test_a_wrong_configuration_is_told_with_file_and_line(penstock: Run, directory: Path) -> None:
    (directory / "penstock.yaml").write_text("tiers:\n  free: {requests_per_minute: many}\n")
    for command in (("up",), ("keys", "create", "--user", "u1", "--tier", "free")):
        done = penstock(*command, PENSTOCK_SECRET="a secret of the tests")
        assert done.status == 1
        assert done.err.startswith(
            "penstock: penstock.yaml:2: tiers.free.requests_per_minute: must be a whole number"
        )
    assert not (directory / ".penstock").exists()


@pytest.mark.parametrize("command", ["api", "worker"])
def test_a_single_process_says_which_variables_it_needs(penstock: Run, command: str) -> None:
    done = penstock(command)
    assert done.status == 1
    assert done.err.startswith("penstock: REDIS_URL")
    assert "must be set here" in done.err
