"""Takes back submissions whose answer never came: their callers were told 503, which means nothing was accepted."""

from collections import OrderedDict

from jobs.store import JobStore

MOST_REMEMBERED = 10_000
ROUNDS = 3
"""A frozen Redis may run a lost submission after a cancel that came on another connection: ask that often."""


class Retractions:
    """The submissions that may or may not have reached Redis; `work` is called once a second."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._open: OrderedDict[tuple[str, str], int] = OrderedDict()

    def add(self, user: str, job_id: str) -> None:
        """This job is not to be, should it exist."""
        self._open[user, job_id] = ROUNDS
        if len(self._open) > MOST_REMEMBERED:
            self._open.popitem(last=False)

    async def work(self) -> None:
        """Cancels what is found. Raises RedisError while Redis is away; what is left is kept for the next time."""
        for user, job_id in list(self._open):
            outcome = (await self._store.cancel(user, job_id)).outcome
            self._open[user, job_id] -= 1
            if outcome != "not_found" or self._open[user, job_id] == 0:
                del self._open[user, job_id]
