"""Logs of every process: structlog and the standard library through one renderer, to stderr.

Keys and prompts are kept out of log calls to begin with; the redaction here is the net under that.
"""

import logging
import re
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]

# Their messages below WARNING carry requests and the arguments of jobs: prompts.
_TALKATIVE = ("openai", "httpx2", "httpcore2", "arq")
# uvicorn gives these handlers of its own when it is started with its default log_config.
_SELF_HANDLED = ("uvicorn", "uvicorn.error", "uvicorn.access", *_TALKATIVE)

# A word's start: after no letter or digit, or after the end of a terminal's colour code or a JSON escape.
_BEFORE = r"(?:(?<![0-9A-Za-z])|(?<=[0-9]m)|(?<=\\[nrt]))"

_SECRETS = (
    (re.compile(r"pk_([0-9A-Za-z]+)_[0-9A-Za-z]{6,}(?:_[0-9A-Za-z]*)?"), r"pk_\1_[redacted]"),
    (re.compile(r"whsec_[0-9A-Za-z+/=]+"), "whsec_[redacted]"),
    (re.compile(_BEFORE + r"sk-[0-9A-Za-z_-]{8,}"), "sk-[redacted]"),
    (re.compile(r"(bearer)[ \t]+[^\s\x1b\"'\\,;]+", re.IGNORECASE), r"\1 [redacted]"),
    (re.compile(r"://[^\s/@\"'\\]*:[^\s/@\"'\\]*@"), "://[redacted]@"),
)


def redact(text: str) -> str:
    """The text without Penstock's keys (their id stays), webhook secrets, provider keys, bearer tokens, and
    passwords in URLs."""
    for secret, instead in _SECRETS:
        text = secret.sub(instead, text)
    return text


def configure_logging(format: LogFormat | None, level: LogLevel) -> None:
    """Sends all logs of this process to stderr; None is `console` on a terminal, else `json`.

    To be called before uvicorn starts, which gets `log_config=None`. Calling it again replaces what was set.
    """
    on_terminal = sys.stderr.isatty()
    if format is None:
        format = "console" if on_terminal else "json"
    threshold = getattr(logging, level.upper())
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.ExtraAdder(), _drop_second_message],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(format, colors=on_terminal),
                _redact_line,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in _SELF_HANDLED:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(threshold, logging.WARNING) if name in _TALKATIVE else logging.NOTSET)
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _renderers(format: LogFormat, *, colors: bool) -> list[Processor]:
    # Plain tracebacks in both: the richer ones print local variables, and with them prompts and keys.
    if format == "console":
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _drop_second_message(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """uvicorn says everything twice, the second time for a terminal."""
    event.pop("color_message", None)
    return event


def _redact_line(_logger: WrappedLogger, _method: str, line: EventDict | str) -> str:
    """Last of all, on the finished line: nothing that is rendered can get around it."""
    return redact(str(line))
