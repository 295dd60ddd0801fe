"""The commands that the pages show: all of them can be typed, and those against a running service do what is shown."""

import io
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import typer
from redis import Redis

from cli.main import app
from tests.cli.waiting import wait_until
from tests.docs import curl
from tests.docs.pages import PAGES, ROOT, Command, blocks, blocks_of, commands_of, prose
from tests.docs.redis_keys import documented, wrong_expiries
from tests.docs.service import Service, running_service
from tests.docs.shell import difference, run
from tests.simulator.process import started

CLIENTS = {"submit", "get", "cancel", "list", "batch", "usage", "limits", "keys", "doctor"}
"""What of `penstock` ends by itself and may be run anywhere."""
NOT_RUN = {
    "make",
    "docker",
    "cp",
    "echo",
    "export",
    "redis-cli",
    "tail",
    "helm",
    "kubectl",
    "deploy/compose/scale.sh",
}
"""Programs of blocks in `sh` whose commands need what a test has not: containers, a repository to change."""

README = ROOT / "README.md"
PENSTOCK = typer.main.get_command(app)


def shown_commands() -> list[Command]:
    """Every command of every block."""
    return [command for block in blocks("sh", "console") for command in commands_of(block)]


def runnable(page: Path) -> list[Command]:
    """The commands of one page that are to be run: all of its consoles, and of the README's `sh` the clients'."""
    found = []
    for block in blocks_of(page):
        if block.language in ("sh", "console"):
            for command in commands_of(block):
                words = shlex.split(command.text, comments=True)
                is_client = words[0] == "penstock" and words[1] in CLIENTS
                if block.language == "console" or (page == README and is_client):
                    found.append(command)
    return found


def check_line(words: list[str]) -> None:
    """Parses a line of `penstock` as it would be, without doing anything. Raises typer's usage errors."""
    command: object = PENSTOCK
    name = "penstock"
    while isinstance(command, typer.core.TyperGroup):
        name, *words = words
        command = command.commands[name]
    assert isinstance(command, typer.core.TyperCommand)
    command.make_context(name, words)


@pytest.mark.parametrize("command", shown_commands(), ids=lambda command: command.place)
def test_every_command_of_a_block_can_be_typed(command: Command) -> None:
    for line in re.findall(r"(?:^|[ (])penstock ([^|)#\n]+)", command.text):
        check_line(shlex.split(line))
    first = shlex.split(command.text, comments=True)[0]
    known = {*NOT_RUN, "penstock", "curl", "for"}
    assert first in known or re.fullmatch(r"\w+=.*", first, re.DOTALL), f"what is {first}?"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_in_the_text_exists(page: Path) -> None:
    spans = re.findall(r"`([^`]+)`", prose(page))
    for span in spans:
        words = span.split()
        if words[0] == "penstock" and len(words) > 1 and words[1] != "--help":
            command: object = PENSTOCK
            for word in words[1:]:
                if isinstance(command, typer.core.TyperGroup):
                    assert word in command.commands, span
                    command = command.commands[word]
                elif word.startswith("--"):
                    assert isinstance(command, typer.core.TyperCommand)
                    assert any(word in one.opts for one in command.params), span


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = {
        name for page in PAGES for name in re.findall(r"(?:^|`)make (\w+)", page.read_text(), re.MULTILINE)
    }
    assert {"demo", "test"} <= named <= set(targets)


def test_what_the_pages_show_is_what_a_running_service_does(tmp_path: Path) -> None:
    wrong: list[str] = []
    with running_service(tmp_path) as service:
        for page in PAGES:
            for outcome in run(runnable(page), service.directory, service.environment):
                command = outcome.command
                if outcome.status:
                    wrong.append(f"{command.place}: status {outcome.status}: {outcome.output}")
                elif command.shown is not None and (found := difference(command.shown, outcome.output)):
                    wrong.append(f"{command.place}: {found}")
        wrong += keys_that_should_not_stay(service)
    assert wrong == []


def keys_that_should_not_stay(service: Service) -> list[str]:
    """Once all jobs have ended: keys that docs/redis.md does not know, or whose expiry is not what it says."""
    with Redis.from_url(service.redis_url, decode_responses=True) as redis:
        wait_until(lambda: redis.zcard("expiries") == 0)
        return wrong_expiries({name: redis.pttl(name) for name in redis.scan_iter()}, documented())


def test_the_curl_of_machines_without_one_writes_what_curl_writes(tmp_path: Path) -> None:
    with started() as simulator:
        out = io.BytesIO()
        chat = '{"model": "m", "messages": [{"role": "user", "content": "Hi"}]}'
        curl.main(["-si", f"{simulator.url}/v1/chat/completions", "-H", "a: b", "-d", chat], out)
        head, _, body = out.getvalue().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\ncontent-type: application/json" in head
        assert body.startswith(b"{")

        kept = tmp_path / "answer"
        out = io.BytesIO()
        curl.main(["-s", "-o", str(kept), "-w", "%{http_code}\\n", f"{simulator.url}/v1/models"], out)
        assert (out.getvalue(), kept.read_bytes()[:1]) == (b"200\n", b"{")
    assert urlsplit(simulator.url).hostname == "127.0.0.1"


@pytest.mark.parametrize(
    ("shown", "actual", "is_same"),
    [
        ("job_01A is queued", "job_01B is queued, waiting for concurrency", True),
        ("renewed in 16 h 44 min", "renewed in 59 min 3 s", True),
        ("202 202 ", "202 202", True),
        ("202 202", "202 429", True),
        ("a\nb", "a", False),
        ("ok  redis", "error  redis", False),
        ('{"id": 1, "status": "queued"}', '{"id": 2, "status": "queued"}', True),
        ('{"id": 1, "status": "queued"}', '{"id": 2, "status": "failed"}', False),
        ('{"id": 1}', '{"id": 2, "more": 3}', False),
        ('{"at": null}', '{"at": 12}', True),
        ('{"at": "12"}', '{"at": 12}', False),
        ('{"data": [{"a": 1}]}', '{"data": [{"b": 1}]}', False),
        ("HTTP/1.1 200 OK\na: 1\n\n{}", "HTTP/1.1 200 OK\na: 2\n\n{}", True),
        ("HTTP/1.1 200 OK\na: 1\n\n{}", "HTTP/1.1 429 Too Many Requests\na: 2\n\n{}", False),
        ("HTTP/1.1 200 OK\na: 1\n\n{}", "HTTP/1.1 200 OK\nb: 2\n\n{}", False),
    ],
)
def test_outputs_are_compared_in_what_stays_the_same(shown: str, actual: str, is_same: bool) -> None:
    assert (difference(shown, actual) is None) == is_same
