"""The check of a webhook's URL when it is submitted: its spelling, and what its name leads to at the moment.

It spares callers a job whose webhook can never arrive. It does not make the delivery safe: a name can lead
elsewhere by then, so the delivery judges the addresses it connects to.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from jobs.egress.policy import Policy
from jobs.egress.resolver import NameServerError, NameUnknownError, Resolver
from jobs.egress.target import IPAddress, Refused, Target
from jobs.egress.url import parse

LOOKUP_S: Final = 1.0
REMEMBERED_S: Final = 60.0
REMEMBERED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Lookup:
    """A look-up, under way or done; no addresses stand for no answer."""

    asked_at_s: float
    answer: asyncio.Task[tuple[IPAddress, ...]]


class SubmissionCheck:
    """Checks URLs; remembers what a name server answered, and that it did not, for a minute.

    `now_s` is a clock that only moves forward, in seconds. A submission waits for `lookup_s` at most; the
    look-up goes on for the next one, and submissions with the same name share it.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        now_s: Callable[[], float] = time.monotonic,
        lookup_s: float = LOOKUP_S,
        remembered_max: int = REMEMBERED_MAX,
    ) -> None:
        self._resolver = resolver
        self._now_s = now_s
        self._lookup_s = lookup_s
        self._remembered_max = remembered_max
        self._lookups: dict[str, _Lookup] = {}

    async def check(self, url: str, policy: Policy) -> Target | Refused:
        """The target of `url` if webhooks may go there as far as can be told now; without an answer they may."""
        target = parse(url, policy)
        if isinstance(target, Refused) or target.host.address is not None:
            return target
        return policy.refuse_addresses(target, await self._addresses(target.host.text)) or target

    async def aclose(self) -> None:
        """End the look-ups under way."""
        answers = [lookup.answer for lookup in self._lookups.values()]
        self._lookups.clear()
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)

    async def _addresses(self, name: str) -> tuple[IPAddress, ...]:
        answer = self._look_up(name)
        done, _ = await asyncio.wait([answer], timeout=self._lookup_s)
        return answer.result() if done else ()

    def _look_up(self, name: str) -> asyncio.Task[tuple[IPAddress, ...]]:
        now_s = self._now_s()
        known = self._lookups.get(name)
        if known is not None and now_s < known.asked_at_s + REMEMBERED_S:
            return known.answer
        self._forget(name, now_s)
        answer = asyncio.create_task(self._ask(name))
        self._lookups[name] = _Lookup(now_s, answer)
        return answer

    def _forget(self, name: str, now_s: float) -> None:
        """Make room for a new look-up of `name`. The oldest stand first, as they were inserted."""
        self._lookups.pop(name, None)
        while self._lookups:
            oldest = next(iter(self._lookups))
            is_old = now_s >= self._lookups[oldest].asked_at_s + REMEMBERED_S
            if not is_old and len(self._lookups) < self._remembered_max:
                return
            del self._lookups[oldest]

    async def _ask(self, name: str) -> tuple[IPAddress, ...]:
        try:
            return await self._resolver.resolve(name)
        except (NameUnknownError, NameServerError):
            return ()
