"""Points in time on the command line."""

import pytest

from cli.errors import CommandError
from cli.times import parse_future, parse_span_s

NOW_S = 1_790_000_000.0  # 2026-09-21T14:13:20Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("45m", 2700), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600)],
)
def test_spans(text: str, seconds: int) -> None:
    assert parse_span_s(text, "--overlap") == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "1.5h", "1y", "1h30m", " 1h", "99999999d"])
def test_no_spans(text: str) -> None:
    with pytest.raises(CommandError, match="--overlap cannot be"):
        parse_span_s(text, "--overlap")


@pytest.mark.parametrize(
    ("text", "unix_s"),
    [
        ("1h", 1_790_003_600),
        ("2026-10-01", 1_790_812_800),
        ("2026-10-01T12:00:00", 1_790_856_000),
        ("2026-10-01T12:00:00Z", 1_790_856_000),
        ("2026-10-01T14:00:00+02:00", 1_790_856_000),
    ],
)
def test_points_in_time_are_utc_unless_they_say_otherwise(text: str, unix_s: int) -> None:
    assert parse_future(text, "--expires", NOW_S) == unix_s


def test_the_past_is_refused() -> None:
    with pytest.raises(CommandError, match="that is past"):
        parse_future("2026-09-21T14:13:20Z", "--expires", NOW_S)


def test_what_is_no_time_is_told_with_an_example() -> None:
    with pytest.raises(CommandError, match='--expires cannot be "tomorrow": write a span such as 30d'):
        parse_future("tomorrow", "--expires", NOW_S)
