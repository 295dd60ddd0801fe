"""The providers: they answer as the plan's chances say, and keep their own log of what they charged, at their time.

What they charge, and when, follows each provider's accounting; the log is what the invariant of the windows and that
of the ledger are judged by.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jobs.config import Pool
from jobs.record import Usage
from jobs.tokens.estimator import TokenEstimator
from tests.simulation.plan import NETWORK_S, Fate
from tests.simulation.world import Process, World
from worker.dispatch import Dispatcher
from worker.outcome import Completion, Failure, FailureKind, RateHeaders

COMPLETE: frozenset[Fate] = frozenset(
    {"ok", "no_usage", "over_cap", "server_error", "throttled", "too_large", "unauthorized", "quota",
     "forbidden", "rejected", "rejected_usage"}
)  # fmt: skip
"""The fates that are complete answers."""
SUCCESSFUL: frozenset[Fate] = frozenset({"ok", "no_usage", "over_cap"})
UNCOUNTED: frozenset[Fate] = frozenset({"too_large", "unauthorized", "quota", "forbidden"})
"""Refused at the door: no limit of the provider's counts these."""

_STATUS: dict[Fate, tuple[FailureKind, int]] = {
    "server_error": (FailureKind.SERVER_ERROR, 503),
    "throttled": (FailureKind.THROTTLED, 429),
    "too_large": (FailureKind.REQUEST_TOO_LARGE, 429),
    "unauthorized": (FailureKind.UNAUTHORIZED, 401),
    "quota": (FailureKind.QUOTA, 429),
    "forbidden": (FailureKind.FORBIDDEN, 403),
    "rejected": (FailureKind.REJECTED, 400),
    "rejected_usage": (FailureKind.REJECTED, 400),
}


@dataclass(slots=True)
class Attempt:
    """One request that was written to a provider. Times in simulated seconds."""

    number: int
    job: str
    token: str
    pool: str
    process: Process
    fate: Fate
    prompt_tokens: int
    cap_tokens: int
    written_at: float
    usage: Usage | None
    delivered: bool = False

    @property
    def result(self) -> bytes:
        return json.dumps({"attempt": self.number}).encode()

    @property
    def known(self) -> bool:
        """Whether the worker got a complete answer to it."""
        return self.delivered and self.fate in COMPLETE


@dataclass(frozen=True, slots=True)
class Charge:
    """What a limit of a provider's counted at `at` (simulated seconds); `over`: beyond the cap that it was sent."""

    scope: str
    at: float
    tokens: int
    requests: int
    over: int


@dataclass
class Provider:
    """All providers of the configuration."""

    world: World
    attempts: list[Attempt] = field(default_factory=list)
    charges: list[Charge] = field(default_factory=list)
    on_written: Callable[[Attempt], None] = lambda attempt: None

    def __post_init__(self) -> None:
        self._chance = self.world.plan.random("provider")

    def fate(self) -> Fate:
        """What is to become of the next request."""
        if self.world.faults_stopped:
            return "ok"
        fates = self.world.plan.fates
        return self._chance.choices(list(fates), list(fates.values()))[0]

    def connect_s(self) -> float:
        """How long connecting takes: now and then nearly the whole margin, or more."""
        slow = not self.world.faults_stopped and self._chance.random() < self.world.plan.faults.slow_connects
        if slow:
            return self._chance.random() * self._chance.choice((1.0, 3.0)) * self.world.plan.margin_s
        return self._chance.random() * 0.02

    def until_charges_leave_s(self) -> float:
        """How long until the first charge of the last minute is nearly a minute old."""
        now = self.world.loop.now_s
        leaving = [charge.at + NEARLY_A_MINUTE_S - now for charge in self.charges]
        return min((left for left in leaving if left > 0), default=NEARLY_A_MINUTE_S)

    def written(
        self, process: Process, token: str, pool: Pool, fields: dict[str, Any], fate: Fate, deadline: float
    ) -> "tuple[Attempt, asyncio.Future[Completion | Failure]]":
        """A request is on its way; the future is the provider's answer, which may never come."""
        chance, now = self._chance, self.world.loop.now_s
        prompt, cap = int(fields["prompt"]), int(fields["max_tokens"])
        usage = self._usage(fate, prompt, cap)
        attempt = Attempt(
            len(self.attempts) + 1, fields["user"], token, pool.id, process, fate, prompt, cap, now, usage
        )
        self.attempts.append(attempt)
        self.world.note(f"{process.name} writes {attempt.job} under {token} to {pool.id}: it will be {fate}")
        self.on_written(attempt)
        healthy = self.world.faults_stopped
        arrives_s = chance.random() * NETWORK_S
        takes_s = chance.random() * (0.3 if healthy else self.world.plan.answer_s)
        if not healthy and chance.random() < 0.05:
            takes_s *= 5
        done_at = min(now + arrives_s + takes_s, deadline - 0.001)
        self._charge(attempt, pool, now + arrives_s, done_at)
        answer: asyncio.Future[Completion | Failure] = self.world.loop.create_future()
        if fate != "silence":
            self.world.loop.call_at(now + arrives_s + takes_s, self._answer, attempt, answer)
        return attempt, answer

    def _usage(self, fate: Fate, prompt: int, cap: int) -> Usage | None:
        if fate == "ok":
            said = cap if self._chance.random() < 0.2 else self._chance.randint(0, cap)
            return Usage(prompt, said, prompt + said)
        if fate == "over_cap":
            said = cap + self._chance.randint(1, 50)
            return Usage(prompt, said, prompt + said)
        if fate == "rejected_usage":
            return Usage(prompt, 0, prompt)
        return None

    def _charge(self, attempt: Attempt, pool: Pool, arrives_at: float, done_at: float) -> None:
        """Into the log, for the provider as a whole and for the model; what is in flight is charged by `done_at`."""
        if attempt.fate in UNCOUNTED:
            return
        prompt, cap = attempt.prompt_tokens, attempt.cap_tokens
        tokens_at_arrival, output, over = 0, 0, 0
        if attempt.fate != "throttled":
            if attempt.usage is not None:
                output = attempt.usage.completion_tokens
            elif attempt.fate == "no_usage":
                output = min(cap, WORDS)
            elif attempt.fate != "reset":
                output = self._chance.randint(0, cap)
            over = max(0, output - cap)
            tokens_at_arrival = prompt
        accounting = pool.provider_settings.accounting
        if accounting == "openai":
            tokens_at_arrival = prompt + cap if tokens_at_arrival else 0
            output, over = 0, 0
        elif accounting == "actual":
            output += tokens_at_arrival
            tokens_at_arrival = 0
        for scope in (pool.provider, pool.id):
            self.charges.append(Charge(scope, arrives_at, tokens_at_arrival, 1, 0))
            if accounting == "anthropic" and output > 1:
                halfway, half = (arrives_at + done_at) / 2, output // 2
                over_by_half = max(0, half - cap)
                self.charges.append(Charge(scope, halfway, half, 0, over_by_half))
                self.charges.append(Charge(scope, done_at, output - half, 0, over - over_by_half))
            elif output:
                self.charges.append(Charge(scope, done_at, output, 0, over))

    def _answer(self, attempt: Attempt, answer: "asyncio.Future[Completion | Failure]") -> None:
        if answer.done():
            return
        fate = attempt.fate
        if fate in SUCCESSFUL:
            answer.set_result(Completion(attempt.result, attempt.usage, RateHeaders(), "word " * WORDS))
        elif fate in _STATUS:
            kind, status = _STATUS[fate]
            retry_after_s = self._chance.choice((None, 1.0, 3.0)) if fate == "throttled" else None
            answer.set_result(
                Failure(
                    kind, fate, sent=True, status=status, usage=attempt.usage,
                    headers=RateHeaders(retry_after_s=retry_after_s),
                )
            )  # fmt: skip
        else:
            answer.set_result(Failure(FailureKind.UNKNOWN, fate, sent=True))


NEARLY_A_MINUTE_S = 59.0
WORDS = 30
"""What an answer without usage is counted as here."""


class Client:
    """Stands where a worker's ProviderClient stands. `dispatcher`: whose calls these are."""

    def __init__(self, world: World, process: Process, pool: Pool) -> None:
        self._world = world
        self._process = process
        self._pool = pool
        self.dispatcher: Dispatcher | None = None

    async def chat(
        self, body: bytes, *, deadline: float, write_by: float, on_sent: Callable[[], None] | None = None
    ) -> Completion | Failure:
        """As worker.provider.ProviderClient.chat, but nothing is written so late that it could arrive after the margin:
        the margin is also for the way, and for steps of Redis's clock.
        """
        world, provider, loop = self._world, self._world.provider, self._world.loop
        fields: dict[str, Any] = json.loads(body)
        fate = provider.fate()
        last_moment = write_by - NETWORK_S - world.plan.clock_slack_s
        await asyncio.sleep(max(0.0, min(provider.connect_s(), last_moment + 0.01 - loop.now_s)))
        await self._process.gate()
        if fate == "refused":
            return Failure(FailureKind.NOT_SENT_CONNECT, "refused", sent=False)
        if loop.now_s > last_moment:
            return Failure(FailureKind.TOO_LATE, "too late", sent=False)
        if on_sent is not None:
            on_sent()
        attempt, answer = provider.written(self._process, self._token(), self._pool, fields, fate, deadline)
        if fields["poison"]:
            world.kill(self._process)
            await self._process.gate()
        try:
            async with asyncio.timeout_at(deadline):
                outcome = await answer
        except TimeoutError:
            outcome = Failure(FailureKind.UNKNOWN, "no answer in time", sent=True)
        await self._process.gate()
        attempt.delivered = answer.done() and not answer.cancelled()
        return outcome

    def _token(self) -> str:
        """Under which lease this is called: the Dispatcher's call says nothing of it."""
        assert self.dispatcher is not None
        task = asyncio.current_task()
        return next(token for token, run in self.dispatcher.running.items() if run.task is task)


class Clients:
    """Stands where worker.providers.Providers stands."""

    def __init__(self, world: World, process: Process) -> None:
        self._pools = {pool.id: pool for pool in world.plan.config.all_pools()}
        self._clients = {pool.id: Client(world, process, pool) for pool in self._pools.values()}

    def serve(self, dispatcher: Dispatcher) -> None:
        for client in self._clients.values():
            client.dispatcher = dispatcher

    def pool(self, pool_id: str) -> Pool | None:
        return self._pools.get(pool_id)

    def client(self, pool: Pool) -> Client:
        return self._clients[pool.id]


class Words(TokenEstimator):
    """Counts without a vocabulary, and without threads."""

    async def count_text(self, text: str, encoding: str) -> int:
        del encoding
        return len(text.split())
