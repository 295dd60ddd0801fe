"""Checks the books: the ledger's lines, the totals written with them, and the budget counters must say the same."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jobs import keys

if TYPE_CHECKING:
    from redis.asyncio import Redis

LINES_AT_ONCE = 1000
OPERATOR = "op:lost"
"""The account of attempts that were paid for and nobody received; it has no budget."""
EVERYBODY = "ip:all"
"""The common budget of all anonymous users, `ip:<address>` each."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Two of the books disagree about a user's tokens of a day."""

    day: str
    user: str
    books: Literal["lines and totals", "totals and counter"]
    first_tokens: int
    second_tokens: int


@dataclass(frozen=True, slots=True)
class Verification:
    """What was compared, and what was found. `lines`: of the ledger; a day whose lines have expired has none."""

    days: int
    users: int
    lines: int
    differences: tuple[Difference, ...]


class Ledger:
    """Methods raise redis.exceptions.RedisError when Redis cannot serve."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    async def verify(self, days: Sequence[str]) -> Verification:
        """Compare the books of these UTC days (YYYY-MM-DD), while the service runs: a user whose books disagree is
        looked at again, since a settle may have come between."""
        users = lines = 0
        differences: list[Difference] = []
        for day in days:
            sums, read = await self._lines(day)
            everybody = set(sums) | await self._users(day)
            users += len(everybody)
            lines += read
            suspects = [user for user in sorted(everybody) if await self._compare(day, user, sums, read > 0)]
            if suspects:
                sums, read = await self._lines(day)
                for user in suspects:
                    differences += await self._compare(day, user, sums, read > 0)
        return Verification(len(days), users, lines, tuple(differences))

    async def _lines(self, day: str) -> tuple[dict[str, int], int]:
        sums: dict[str, int] = defaultdict(int)
        read, after = 0, "-"
        while True:
            chunk = await self._redis.xrange(keys.ledger(day), min=after, count=LINES_AT_ONCE)
            for _, line in chunk:
                user = line[b"user"].decode()
                tokens = int(line[b"in"]) + int(line[b"out"])
                sums[user] += tokens
                if user.startswith("ip:"):
                    sums[EVERYBODY] += tokens
            read += len(chunk)
            if len(chunk) < LINES_AT_ONCE:
                return sums, read
            after = f"({chunk[-1][0].decode()}"

    async def _users(self, day: str) -> set[str]:
        stored = await self._redis.smembers(keys.usage_users(day))  # type: ignore[misc]  # typed for both clients
        return {user.decode() for user in stored}

    async def _compare(self, day: str, user: str, sums: dict[str, int], has_lines: bool) -> list[Difference]:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.usage(user, day))
            pipe.get(keys.tokens(user, day))
            pipe.hget(keys.holds(user, day), "*")
            totals, counter, held = await pipe.execute()
        total = sum(int(v) for k, v in totals.items() if k.startswith((b"in:", b"out:")))
        found: list[Difference] = []
        if user == EVERYBODY:
            total = sums.get(user, 0)
        elif has_lines and sums.get(user, 0) != total:
            found.append(Difference(day, user, "lines and totals", sums.get(user, 0), total))
        used = int(counter or 0) - int(held or 0)
        if user != OPERATOR and counter is not None and used != total:
            found.append(Difference(day, user, "totals and counter", total, used))
        return found
