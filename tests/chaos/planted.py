"""Runs one of Penstock's commands with a known bug in it: `python -m tests.chaos.planted <bug> worker ...`.

The bugs are put in before the command starts, by replacing a function or some text of a script. `none` puts in none;
with any of them SIGUSR1 hangs the process's main thread, and so its loop, until the next SIGUSR1, and SIGUSR2 puts its
clocks an hour ahead and lets them run double, until the next SIGUSR2.
"""

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

AHEAD_S = 3600.0


def sdk_retries() -> None:
    import openai

    from worker import provider, transport

    class Retrying(openai.AsyncOpenAI):
        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, "max_retries": 2})

    class Lenient(transport.Sending):
        def pass_gate(self, writer: Any) -> None:
            self.sent = False
            super().pass_gate(writer)

    setattr(openai, "AsyncOpenAI", Retrying)  # noqa: B010  (mypy lets nobody assign to a class)
    setattr(provider, "Sending", Lenient)  # noqa: B010  (as above)


def heartbeat_of_a_hung_loop() -> None:
    from worker import heartbeat

    # A clock that stands: the loop has always just ticked.
    setattr(heartbeat, "time", SimpleNamespace(monotonic=lambda: 0.0))  # noqa: B010  (mypy lets nobody assign it)


def outcome_dropped_without_redis() -> None:
    from redis.exceptions import RedisError

    from worker.dispatch import Dispatcher

    async def once(self: Dispatcher, operation: Callable[[], Any]) -> bool:
        try:
            return bool(await operation())
        except RedisError:
            return False

    Dispatcher._keep_trying = once  # type: ignore[method-assign]  # what is planted has to replace it


def claim_numbered_anew() -> None:
    from worker.seam import ClaimingWorker

    claim = ClaimingWorker._claim

    async def forgetful(self: ClaimingWorker) -> None:
        before = self._failures
        await claim(self)
        if self._failures > before:
            self._sequence += 1

    ClaimingWorker._claim = forgetful  # type: ignore[method-assign]  # what is planted has to replace it


def worker_exits_without_redis() -> None:
    from worker.seam import ClaimingWorker

    claim = ClaimingWorker._claim

    async def fragile(self: ClaimingWorker) -> None:
        await claim(self)
        if self._failures:
            raise ConnectionError("Redis is away")

    ClaimingWorker._claim = fragile  # type: ignore[method-assign]  # what is planted has to replace it


def worker_dies_of_its_first_question() -> None:
    from worker.seam import ClaimingWorker

    del ClaimingWorker.main


def no_drain() -> None:
    from worker.seam import ClaimingWorker

    ClaimingWorker.handle_sig_wait_for_completion = ClaimingWorker.handle_sig  # type: ignore[method-assign]  # as above


def drain_spends_an_attempt() -> None:
    from jobs.claims import Claims

    put_back = Claims.put_back

    async def counting(self: Claims, job: Any, **options: Any) -> bool:
        return await put_back(self, job, **{**options, "counts": True})

    Claims.put_back = counting  # type: ignore[method-assign]  # what is planted has to replace it


def submitted_again_under_a_new_id() -> None:
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import TimeoutError as RedisTimeoutError

    from api.service import Service

    async def submit(self: Service, job: Any) -> Any:
        try:
            return await self.store.submit(job)
        except (RedisConnectionError, RedisTimeoutError):
            return await self.store.submit(replace(job, id=f"{job.id[:-4]}0000"))

    Service.submit = submit  # type: ignore[method-assign]  # what is planted has to replace it


def refused_submissions_stay() -> None:
    from api.retraction import Retractions

    async def nothing(self: Retractions) -> None:
        return None

    Retractions.work = nothing  # type: ignore[method-assign]  # what is planted has to replace it


def readiness_writes_nothing() -> None:
    from jobs.store import JobStore

    JobStore.ping = JobStore.confirm  # type: ignore[method-assign]  # what is planted has to replace it


def clock_of_the_process_counts() -> None:
    from jobs.runner import Runner

    now = property(lambda self: round(time.time() * 1000))
    setattr(Runner, "now", now)  # noqa: B010  (mypy lets nobody assign to a property)


def api_holds_on_to_who_waits() -> None:
    from api.waiting import Waiters

    Waiters.drain = lambda self: None  # type: ignore[method-assign]  # what is planted has to replace it


def redis_errors_are_500() -> None:
    from api import errors

    errors._redis_problem = lambda error: None


def deaf_after_a_cut() -> None:
    import asyncio

    from api.subscription import Subscription

    hear = Subscription._hear

    async def once(self: Subscription, pubsub: Any) -> None:
        try:
            await hear(self, pubsub)
        except Exception:
            await asyncio.Event().wait()

    Subscription._hear = once  # type: ignore[method-assign]  # what is planted has to replace it


def webhook_built_anew() -> None:
    from worker.webhooks.sender import Sender

    prepared = Sender._prepared

    async def anew(self: Sender, claimed: Any) -> Any:
        ready = await prepared(self, claimed)
        return ready and replace(ready, body=ready.body[:-1] + f',"sent":{time.time_ns()}}}'.encode())

    Sender._prepared = anew  # type: ignore[method-assign]  # what is planted has to replace it


def webhook_id_of_each_attempt() -> None:
    from worker.webhooks import sender

    signed = vars(sender)["signed_headers"]

    def anew(secrets: Any, event_id: str, at_s: int, body: bytes) -> Any:
        return signed(secrets, f"{event_id}_{time.time_ns()}", at_s, body)

    setattr(sender, "signed_headers", anew)  # noqa: B010  (mypy knows it for another module's)


def _in_scripts(name: str, old: str, new: str) -> None:
    """Replaces some text in all scripts that have it; the script `name` must."""
    import limiter.scripts
    from limiter.compose import compose

    def changed(path: Any, folders: Any) -> str:
        text = compose(path, folders)
        assert path.stem != name or old in text, f"{name}.lua has changed: nothing was planted"
        return text.replace(old, new)

    limiter.scripts.compose = changed  # type: ignore[attr-defined]  # as imported there


IN_SCRIPTS: Final[dict[str, tuple[str, str, str]]] = {
    "no_fencing": ("settle", "if not head or head.lt ~= token then", "if not head then"),
    "no_recovery": ("sweep", "or silent(now, lease_ms) then return end", "or true then return end"),
    "outage_counts_as_death": (
        "sweep",
        "local passed = heard and now - tonumber(heard) or 0",
        "local passed = 0",
    ),
    "epoch_ignored": (
        "submit",
        "if known == '' or redis.call('GET', 'epoch') == known then",
        "if true then",
    ),
    "full_server_refuses_settling": ("settle", "redis.call('DEL', 'nothing')", ""),
    "end_without_its_delivery": ("settle", "told, life = outbox.write(id, head, life, now)", ""),
    "delivery_of_a_dead_worker_forgotten": (
        "sweep",
        "if head and head.lt == token then\n        local at",
        "if false then\n        local at",
    ),
    "settling_again_charges_again": ("settle", "if head.st ~= 'running' then return 'settled' end", ""),
}
"""Bugs of scripts: a script that has the text, the text, and what takes its place in all scripts that have it."""

PLANTS: Final[dict[str, Callable[[], None]]] = {
    plant.__name__: plant
    for plant in (
        sdk_retries,
        heartbeat_of_a_hung_loop,
        outcome_dropped_without_redis,
        claim_numbered_anew,
        worker_exits_without_redis,
        worker_dies_of_its_first_question,
        no_drain,
        drain_spends_an_attempt,
        submitted_again_under_a_new_id,
        refused_submissions_stay,
        readiness_writes_nothing,
        clock_of_the_process_counts,
        api_holds_on_to_who_waits,
        redis_errors_are_500,
        deaf_after_a_cut,
        webhook_built_anew,
        webhook_id_of_each_attempt,
    )
} | {bug: partial(_in_scripts, *change) for bug, change in IN_SCRIPTS.items()}


class Hang:
    """What a loop is that does not turn."""

    def __init__(self) -> None:
        self._hangs = False

    def switch(self, _number: int, _frame: object) -> None:
        """The handler: it runs in the main thread, the second time within the first."""
        self._hangs = not self._hangs
        while self._hangs:
            time.sleep(0.02)


class Clocks:
    """This process's clocks in place of the real ones."""

    def __init__(self) -> None:
        self._time, self._monotonic = time.time, time.monotonic
        self._rate, self._real_s, self._told_s = 1, self._monotonic(), self._monotonic()
        time.time, time.time_ns, time.monotonic = self.time, self.time_ns, self.monotonic

    def time(self) -> float:
        return self._time() + (AHEAD_S if self._rate > 1 else 0.0)

    def time_ns(self) -> int:
        return int(self.time() * 1e9)

    def monotonic(self) -> float:
        return self._told_s + (self._monotonic() - self._real_s) * self._rate

    def switch(self, _number: int, _frame: object) -> None:
        """The handler: wrong from now on, or right again; the monotonic clock never goes back."""
        self._real_s, self._told_s = self._monotonic(), self.monotonic()
        self._rate = 3 - self._rate


def main() -> None:
    """Plant the bug that is named first, and run the command that follows."""
    bug = sys.argv.pop(1)
    clocks = Clocks()
    if bug != "none":
        PLANTS[bug]()
    from cli.main import main as run

    signal.signal(signal.SIGUSR1, Hang().switch)
    signal.signal(signal.SIGUSR2, clocks.switch)
    run()


if __name__ == "__main__":
    main()
