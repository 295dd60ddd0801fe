"""What users were charged, summed over days, models and users.

Settle writes the hashes that are read here; the usage route and the command line show the rows.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from typing import Literal

from redis.asyncio import Redis

from jobs import keys
from jobs.record import UsageRow

Group = Literal["day", "model", "user"]

MAX_DAYS = 92
"""The longest span one call sums: a quarter of a year."""

_BATCH = 250  # hashes a round trip: short enough that no other command waits for a millisecond
_NANO = 1e9


@dataclass(slots=True)
class _Sums:
    jobs: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_nano_usd: int = 0

    def add(self, metric: bytes, value: int) -> None:
        match metric:
            case b"jobs":
                self.jobs += value
            case b"in":
                self.prompt_tokens += value
            case b"out":
                self.completion_tokens += value
            case b"cached":
                self.cached_tokens += value
            case b"cost":
                self.cost_nano_usd += value
            case _:
                pass  # written by a newer version that runs beside this one

    def row(self, day: str | None, model: str | None, user: str | None) -> UsageRow:
        return UsageRow(
            day, model, user, self.jobs, self.prompt_tokens, self.completion_tokens, self.cached_tokens,
            self.cost_nano_usd / _NANO,
        )  # fmt: skip


class UsageLedger:
    """Raises redis.exceptions.RedisError when Redis cannot serve."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def usage(
        self, *, user: str | None, start: str, end: str, group_by: Sequence[Group]
    ) -> tuple[list[UsageRow], UsageRow]:
        """Sums per group, sorted by day, user and model, and the sum of all. `user` None: everyone's.

        `start` and `end` are UTC days (YYYY-MM-DD), both included. Raises ValueError for days that are none,
        and for more than MAX_DAYS of them.
        """
        groups: dict[tuple[str, str, str], _Sums] = {}
        total = _Sums()
        async for day, name, fields in self._hashes(user, days(start, end)):
            for field, value in fields.items():
                # A model's name may have colons, a metric's has none.
                metric, _, model = field.partition(b":")
                key = (
                    day if "day" in group_by else "",
                    name if "user" in group_by else "",
                    model.decode() if "model" in group_by else "",
                )
                groups.setdefault(key, _Sums()).add(metric, int(value))
                total.add(metric, int(value))
        rows = [
            groups[key].row(day=key[0] or None, model=key[2] or None, user=key[1] or None)
            for key in sorted(groups)
        ]
        return rows, total.row(None, None, None)

    async def _hashes(
        self, user: str | None, span: Iterable[str]
    ) -> AsyncIterator[tuple[str, str, dict[bytes, bytes]]]:
        if user is not None:
            async for found in self._read((day, user) for day in span):
                yield found
            return
        for day in span:
            async for found in self._read((day, name) for name in await self._users_of(day)):
                yield found

    async def _users_of(self, day: str) -> set[str]:
        # Step by step: a day may have more users than one answer should hold. A scan may name one twice.
        return {name.decode() async for name in self._redis.sscan_iter(keys.usage_users(day), count=1000)}

    async def _read(
        self, wanted: Iterable[tuple[str, str]]
    ) -> AsyncIterator[tuple[str, str, dict[bytes, bytes]]]:
        rest = iter(wanted)
        while batch := list(islice(rest, _BATCH)):
            async with self._redis.pipeline(transaction=False) as pipe:
                for day, user in batch:
                    pipe.hgetall(keys.usage(user, day))
                hashes = await pipe.execute()
            for (day, user), fields in zip(batch, hashes, strict=True):
                yield day, user, fields


def days(start: str, end: str) -> list[str]:
    """Every day from `start` to `end` (YYYY-MM-DD, both included).

    Raises ValueError for text that is no such day, an end before its start, or more than MAX_DAYS days.
    """
    first, last = date.fromisoformat(start), date.fromisoformat(end)
    count = (last - first).days + 1
    if count < 1:
        raise ValueError(f"the span ends ({end}) before it starts ({start}): exchange start and end")
    if count > MAX_DAYS:
        raise ValueError(
            f"{count} days are more than the {MAX_DAYS} that can be asked for at once: ask in parts"
        )
    return [(first + timedelta(days=n)).isoformat() for n in range(count)]
