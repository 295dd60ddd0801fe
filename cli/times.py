"""Points in time as a command line gives them."""

import re
from datetime import UTC, datetime

from cli.errors import CommandError

_SPAN = re.compile(r"(?P<count>[0-9]{1,6})(?P<unit>[smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_span_s(text: str, option: str) -> int:
    """Seconds of `90s`, `45m`, `12h`, `30d` or `2w`. Raises CommandError."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise CommandError(f'{option} cannot be "{text}": write 90s, 45m, 12h, 30d or 2w', exit_code=2)
    return int(match["count"]) * _SECONDS[match["unit"]]


def parse_future(text: str, option: str, now_s: float) -> int:
    """Unix seconds of a span from now, or of a date or time in ISO 8601 (UTC unless it says otherwise).

    Raises CommandError, also for what is past.
    """
    if _SPAN.fullmatch(text):
        return int(now_s) + parse_span_s(text, option)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(
            f'{option} cannot be "{text}": write a span such as 30d, or a time such as 2030-01-31 '
            "or 2030-01-31T12:00:00Z",
            exit_code=2,
        ) from None
    at_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if at_s <= now_s:
        raise CommandError(f'{option} cannot be "{text}": that is past', exit_code=2)
    return int(at_s)
