"""A block that was told is remembered exactly as long as it holds."""

from dataclasses import replace

from api.blocks import MOST_REMEMBERED, Blocks
from tests.api.harness import NOON_MS
from tests.api.test_headers import LIMITS

BLOCKED = replace(LIMITS, requests_remaining=0, requests_reset_ms=60_000, blocked_until_ms=NOON_MS + 60_000)


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_block_is_told_again_with_the_time_that_is_left() -> None:
    seconds = Seconds()
    blocks = Blocks(seconds)
    blocks.remember(BLOCKED)
    seconds.now += 59.25
    standing = blocks.standing("ann")
    assert standing is not None
    assert (standing.now_ms, standing.blocked_until_ms) == (NOON_MS + 59_250, NOON_MS + 60_000)
    assert standing.requests_reset_ms == 750
    assert standing.tokens_reset_ms == LIMITS.tokens_reset_ms - 59_250
    seconds.now += 0.75
    assert blocks.standing("ann") is None


def test_nobody_else_is_blocked() -> None:
    blocks = Blocks(Seconds())
    blocks.remember(BLOCKED)
    assert blocks.standing("bob") is None


def test_a_refusal_without_a_block_is_not_remembered() -> None:
    blocks = Blocks(Seconds())
    blocks.remember(LIMITS)
    assert blocks.standing("ann") is None


def test_behind_midnight_redis_is_asked_again() -> None:
    seconds = Seconds()
    blocks = Blocks(seconds)
    blocks.remember(replace(BLOCKED, tokens_reset_ms=5_000))
    seconds.now += 5
    assert blocks.standing("ann") is None


def test_what_is_remembered_is_bounded() -> None:
    blocks = Blocks(Seconds())
    for n in range(MOST_REMEMBERED + 1):
        blocks.remember(replace(BLOCKED, user=f"user-{n}"))
    assert blocks.standing("user-0") is None
    assert blocks.standing("user-1") is not None
