"""A name server of our own: what each name leads to, one answer after the other."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from jobs.egress import IPAddress, NameServerError, NameUnknownError


@dataclass(frozen=True, slots=True)
class Later:
    """`addresses`, but not before `moment`."""

    moment: asyncio.Event
    addresses: tuple[str, ...]


Answer = tuple[str, ...] | type[Exception] | Later

PUBLIC: Final = ("93.184.215.14",)
"""An address in public use; no test connects to it."""

UNKNOWN: Final = NameUnknownError
SILENT: Final = NameServerError


class Names:
    """Answers the nth question for a name with the nth of its answers, the last one for ever.

    An answer is addresses, now or later, or an error. `asked` keeps the names.
    """

    def __init__(self, answers: Mapping[str, Sequence[Answer]]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    async def resolve(self, name: str) -> tuple[IPAddress, ...]:
        """What a Resolver does."""
        self.asked.append(name)
        answers = self._answers[name]
        answer = answers[min(self.asked.count(name), len(answers)) - 1]
        if isinstance(answer, Later):
            await answer.moment.wait()
            answer = answer.addresses
        if not isinstance(answer, tuple):
            raise answer
        return tuple(ip_address(text) for text in answer)
