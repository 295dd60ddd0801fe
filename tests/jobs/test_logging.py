"""Logs: one shape for all loggers, on stderr, without secrets."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from jobs.logging import LogFormat, configure_logging, redact

KEY = "pk_AbCdEfGhIjKl_" + "s3cretS3cret" * 3 + "1234567_0aB9zZ"


Capture = pytest.CaptureFixture[str]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: Capture) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_json_lines_have_time_level_logger_and_values(capsys: Capture) -> None:
    configure_logging("json", "info")

    structlog.get_logger("worker.dispatch").info("job settled", job="job_1", used_tokens=5)

    (line,) = lines(capsys)
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "event": "job settled",
        "job": "job_1",
        "used_tokens": 5,
        "level": "info",
        "logger": "worker.dispatch",
    }


def test_what_uvicorn_says_twice_is_said_once(capsys: Capture) -> None:
    configure_logging("json", "info")
    logging.getLogger("uvicorn.error").info("Started [%d]", 7, extra={"color_message": "Started \x1b[36m%d"})
    (line,) = lines(capsys)
    assert line["event"] == "Started [7]"
    assert "color_message" not in line


@pytest.mark.parametrize(
    "name", ["uvicorn.error", "uvicorn.access", "arq.worker", "openai", "httpx2", "other"]
)
def test_other_loggers_come_out_in_the_same_shape_and_once(capsys: Capture, name: str) -> None:
    logging.getLogger("uvicorn").addHandler(logging.StreamHandler(sys.stderr))
    configure_logging("json", "info")

    logging.getLogger(name).warning("%s lost", "connection", extra={"peer": "10.0.0.1"})

    (line,) = lines(capsys)
    assert (line["event"], line["logger"], line["level"]) == ("connection lost", name, "warning")
    assert line["peer"] == "10.0.0.1"


@pytest.mark.parametrize("name", ["openai._base_client", "httpx2", "httpcore2.http11", "arq.worker"])
def test_loggers_that_would_write_prompts_are_silent_below_warning(capsys: Capture, name: str) -> None:
    configure_logging("json", "debug")

    logging.getLogger(name).debug("Request options: {'messages': ['a prompt']}")
    logging.getLogger(name).info("job(a prompt)")

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("make", [structlog.get_logger, logging.getLogger])
def test_what_is_below_the_level_is_left_out(capsys: Capture, make: object) -> None:
    configure_logging("json", "warning")
    assert callable(make)
    logger = make("jobs.level")

    logger.info("no")
    logger.warning("yes")

    assert [line["event"] for line in lines(capsys)] == ["yes"]


def test_configured_twice_it_still_writes_once(capsys: Capture) -> None:
    configure_logging("console", "info")
    configure_logging("json", "info")

    structlog.get_logger("jobs.twice").info("once")

    assert [line["event"] for line in lines(capsys)] == ["once"]


def test_json_unless_stderr_is_a_terminal(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    configure_logging(None, "info")
    structlog.get_logger("jobs.shape").info("to a file")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    configure_logging(None, "info")
    structlog.get_logger("jobs.shape").info("to a person")

    assert lines(capsys)[0]["event"] == "to a file"
    assert "to a person" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


def test_console_without_a_terminal_has_no_colours(capsys: Capture) -> None:
    configure_logging("console", "info")

    structlog.get_logger("jobs.colours").info("plain", job="job_1")

    written = capsys.readouterr().err
    assert "plain" in written
    assert "\x1b" not in written


def test_values_bound_to_the_context_are_in_the_line(capsys: Capture) -> None:
    configure_logging("json", "info")

    with structlog.contextvars.bound_contextvars(request_id="req_1"):
        structlog.get_logger("jobs.context").info("asked")

    assert lines(capsys)[0]["request_id"] == "req_1"


class Request:
    def __repr__(self) -> str:
        return f"Request(headers={{'Authorization': 'Bearer {KEY}'}})"


@pytest.mark.parametrize("format", ["console", "json"])
@pytest.mark.parametrize("terminal", [False, True])
def test_no_secret_comes_through_by_any_way(
    format: LogFormat, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging(format, "info")
    secrets = [KEY, "whsec_c2VjcmV0c2VjcmV0+/c2Vj", "sk-proj-abcdefghijkl", "redis://:hunter22@127.0.0.1"]
    logger = structlog.get_logger("jobs.secrets")

    for secret in secrets:
        logger.info(f"event {secret}", value=secret, nested={"a": [secret]}, lines=f"a\n{secret}")
        logging.getLogger("other").info("foreign %s", secret)
        try:
            raise ValueError(secret)
        except ValueError:
            logger.exception("failed")
    logger.info("object", request=Request())

    written = stream.getvalue()
    for part in ("s3cretS3cret", "c2VjcmV0", "abcdefghijkl", "hunter22"):
        assert part not in written
    assert "pk_AbCdEfGhIjKl_[redacted]" in written
    assert "Traceback" in written


@pytest.mark.parametrize("format", ["console", "json"])
def test_tracebacks_do_not_show_local_variables(capsys: Capture, format: LogFormat) -> None:
    configure_logging(format, "info")
    prompt = "tell me a " + "secret"

    try:
        raise ValueError(len(prompt))
    except ValueError:
        structlog.get_logger("jobs.locals").exception("failed")

    written = capsys.readouterr().err
    assert "ValueError" in written
    assert prompt not in written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (KEY, "pk_AbCdEfGhIjKl_[redacted]"),
        (f"x-key={KEY};", "x-key=pk_AbCdEfGhIjKl_[redacted];"),
        ("authorization: bearer abc.def", "authorization: bearer [redacted]"),
        ('{"authorization": "Bearer abc"}', '{"authorization": "Bearer [redacted]"}'),
        ("rediss://user:pw@host:6379/0", "rediss://[redacted]@host:6379/0"),
        ("disk-usage-report of task-number-17", "disk-usage-report of task-number-17"),
        ("http://127.0.0.1:8080/v1/jobs?to=a@b", "http://127.0.0.1:8080/v1/jobs?to=a@b"),
        ("WWW-Authenticate: Bearer", "WWW-Authenticate: Bearer"),
        ("job_01J000 of pk_AbCdEfGhIjKl", "job_01J000 of pk_AbCdEfGhIjKl"),
    ],
)
def test_redact(text: str, expected: str) -> None:
    assert redact(text) == expected
