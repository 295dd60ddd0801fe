"""What everybody in a schedule shares: simulated time, the connection to Redis, the processes, and what was seen."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from jobs import claims, keys, store, users
from jobs.webhooks import deliveries, endpoints, outbox
from limiter.scripts import Script
from tests.simulation.clockwork import VirtualLoop
from tests.simulation.plan import Plan
from tests.simulation.wire import Part, Wire
from worker.process import WAKE_READ_S

if TYPE_CHECKING:
    from tests.simulation.provider import Provider
    from tests.simulation.receivers import Receivers

NOW = -(2**53)
"""Stands for the time of the moment in which a script runs; a clock that is asked for earlier cannot know that."""

SLOW_S = 0.3
"""The longest way to Redis, or back: a third of the shortest lease leaves room for two."""
MOST_SCRIPTS = 20_000
"""A schedule that runs more has got into a circle."""
AGE_EVERY_MS = 10_000
THAW_S = 0.1


class Killed(BaseException):
    """Thrown into whatever still waits when a schedule is over, so that no cleanup of a dead process runs."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never happen, has."""

    invariant: str
    message: str


class Witness(Protocol):
    """Sees each script that runs, with its arguments and its answer, whether or not anybody gets that."""

    def before(self, script: str, arguments: Sequence[Part]) -> object: ...

    def after(
        self, process: "Process", script: str, arguments: Sequence[Part], reply: Any, noted: object
    ) -> None: ...

    def ended(self, job_id: str) -> None: ...


@dataclass(eq=False, slots=True)
class Process:
    """An API process or a worker. A killed one is frozen for ever."""

    world: "World"
    name: str
    frozen_until: float = 0.0
    killed: bool = False
    was_frozen: bool = False
    told_to_stop: bool = False
    renewals_lost: int = 0
    left_in_outage: bool = False
    gone: bool = False
    told: Callable[[str], None] | None = None

    async def gate(self) -> None:
        """Returns when this process may go on: passed before and after all that reaches beyond it."""
        loop = self.world.loop
        while True:
            if self.world.over:
                raise Killed
            if self.killed:
                await self.world.for_ever()
            left_s = self.frozen_until - loop.time()
            if left_s <= 0:
                return
            # It may thaw sooner.
            await asyncio.sleep(min(left_s, THAW_S))


@dataclass(eq=False)
class World:
    """`fail` ends the schedule; `trace` tells what happened, a line for each event."""

    plan: Plan
    wire: Wire
    loop: VirtualLoop
    witness: Witness = field(init=False)
    provider: "Provider" = field(init=False)
    receivers: "Receivers | None" = None
    processes: list[Process] = field(default_factory=list)
    trace: list[str] = field(default_factory=list)
    violation: Violation | None = None
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    faults_stopped: bool = False
    over: bool = False
    step_ms: int = 0
    outage_until: float = 0.0
    scripts_run: int = 0

    def __post_init__(self) -> None:
        self.chance = self.plan.random("network")
        # Who sleeps on which list, and how many tokens it has.
        lists = (keys.WAKE,) if self.plan.hooks is None else (keys.WAKE, keys.WAKE_SENDERS)
        self.sleepers: dict[str, dict[Process, asyncio.Future[None]]] = {name: {} for name in lists}
        self.tokens_left = dict.fromkeys(lists, 0)
        self._names = {script.sha: name for name, script in all_scripts().items()}
        self._aged_ms = self.redis_ms()
        self._ambushes: list[tuple[str, asyncio.Future[Process]]] = []
        self._nevers: list[asyncio.Future[None]] = []

    async def for_ever(self) -> None:
        """Does not return. What waits here is kept from being collected as garbage."""
        self._nevers.append(self.loop.create_future())
        await self._nevers[-1]

    def redis_ms(self) -> int:
        """The time by Redis's clock, Unix ms."""
        return self.plan.start_ms + int(self.loop.now_s * 1000 + 0.5) + self.step_ms

    def note(self, text: str) -> None:
        self.trace.append(f"{self.loop.now_s:11.4f}  {text}")

    def fail(self, invariant: str, message: str) -> None:
        """The first violation counts."""
        if self.violation is None:
            self.violation = Violation(invariant, message)
            self.note(f"VIOLATION  {invariant}: {message}")
            self.failed.set()

    def process(self, name: str) -> Process:
        process = Process(self, name)
        self.processes.append(process)
        return process

    def kill(self, process: Process) -> None:
        """kill -9."""
        self.note(f"{process.name} is killed")
        process.killed = True
        for sleepers in self.sleepers.values():
            sleepers.pop(process, None)

    def freeze(self, process: Process, seconds: float) -> None:
        self.note(f"{process.name} is frozen for {seconds:.3f} s")
        process.frozen_until = max(process.frozen_until, self.loop.now_s + seconds)
        process.was_frozen = True

    def thaw(self, process: Process) -> None:
        self.note(f"{process.name} thaws")
        process.frozen_until = self.loop.now_s

    async def blpop_wake(self, process: Process, seconds: float, tokens: str = keys.WAKE) -> None:
        """Sleep until a wake token is there, at most so long: BLPOP on a wake list, for which 0 is for ever."""
        await process.gate()
        if self.outage:
            return
        if self.tokens_left[tokens]:
            self.tokens_left[tokens] -= 1
            self.wire.call(("LPOP", tokens))
            return
        woken: asyncio.Future[None] = self.loop.create_future()
        sleepers = self.sleepers[tokens]
        sleepers[process] = woken
        try:
            async with asyncio.timeout(seconds or WAKE_READ_S):
                await woken
        except TimeoutError:
            pass
        finally:
            if sleepers.get(process) is woken:
                del sleepers[process]
        await process.gate()

    def age(self) -> None:
        """Let keys end whose time has come by the simulated clock."""
        passed_ms = self.redis_ms() - self._aged_ms
        if passed_ms > 0:
            self._aged_ms += passed_ms
            self.wire.age(passed_ms)

    def run_script(self, process: Process, sha: str, arguments: Sequence[Part]) -> Any:
        """Run a script now. Raises redis.exceptions.ResponseError and NoScriptError as a client does."""
        now = self.redis_ms()
        if now - self._aged_ms >= AGE_EVERY_MS:
            self.age()
        name = self._names[sha]
        self.scripts_run += 1
        if self.scripts_run > MOST_SCRIPTS:
            self.fail("durable", f"the schedule does not come to an end: {MOST_SCRIPTS} scripts have run")
            raise Killed
        filled = [now if argument == NOW else argument for argument in arguments]
        noted = self.witness.before(name, filled)
        # As Redis itself does it: those that sleep on the list get what the script has pushed before anybody else.
        waiting = [tokens for tokens, sleepers in self.sleepers.items() if sleepers]
        take = [("LPOP", tokens, len(self.sleepers[tokens])) for tokens in waiting]
        left = [("LLEN", tokens) for tokens in self.sleepers]
        try:
            # After the answer to the last command, what the script has published is here too.
            reply, *answers = self.wire.call(("EVALSHA", sha, 0, *filled), *take, *left)
        except ResponseError as error:
            if not isinstance(error, NoScriptError):
                self.fail("scripts", f"{name} failed: {error}")
            raise
        self.tokens_left = dict(zip(self.sleepers, answers[len(waiting) :], strict=True))
        for tokens, taken in zip(waiting, answers, strict=False):
            self._wake(self.sleepers[tokens], len(taken or ()))
        self.witness.after(process, name, filled, reply, noted)
        self._hand_on_pushes()
        if name not in ("claim", "deliveries_claim") or len(reply) > 2:
            self.strike(process, name)
        return reply

    async def next_script(self, name: str, within_s: float) -> Process | None:
        """Whoever runs such a script next (a claim: one that gives something), as soon as it has run: its answer is
        still on the way. `post`: whoever's webhook arrives next.
        """
        struck: asyncio.Future[Process] = self.loop.create_future()
        self._ambushes.append((name, struck))
        try:
            async with asyncio.timeout(within_s):
                return await struck
        except TimeoutError:
            return None

    def strike(self, process: Process, name: str) -> None:
        """A process has got to where somebody may lie in wait for it."""
        for ambush in self._ambushes:
            if ambush[0] == name:
                self._ambushes.remove(ambush)
                if not ambush[1].done():
                    ambush[1].set_result(process)
                return

    def _wake(self, sleepers: dict[Process, asyncio.Future[None]], count: int) -> None:
        for _ in range(count):
            woken = sleepers.pop(next(iter(sleepers)))
            if not woken.done():
                woken.set_result(None)

    def _hand_on_pushes(self) -> None:
        pushes, self.wire.pushes = self.wire.pushes, []
        for channel, message in pushes:
            if channel == "done":
                self.witness.ended(message)
            elif self.faults_stopped or self.chance.random() >= self.plan.faults.lost_messages:
                name = channel.removeprefix("worker:")
                for process in self.processes:
                    if process.name == name and process.told is not None and not process.killed:
                        self.loop.create_task(self._tell(process, message)).add_done_callback(_retrieve)

    async def _tell(self, process: Process, message: str) -> None:
        await asyncio.sleep(0.001)
        await process.gate()
        if process.told is not None:
            process.told(message)

    @property
    def outage(self) -> bool:
        return self.loop.now_s < self.outage_until

    async def cross(self, process: Process, chance: random.Random, *, back: bool) -> None:
        """The way of a command to Redis, or of its answer back. Raises redis.exceptions.ConnectionError."""
        faults = self.plan.faults
        if self.faults_stopped:
            await asyncio.sleep(0.0005)
        else:
            slow = chance.random() < faults.slow_calls
            await asyncio.sleep(chance.random() * (SLOW_S if slow else 0.004))
        await process.gate()
        if self.outage:
            raise RedisConnectionError("Redis is away")
        lost = faults.lost_answers if back else faults.lost_requests
        if not self.faults_stopped and lost and chance.random() < lost:
            self.note(f"{process.name} loses {'the answer' if back else 'its connection before that'}")
            raise RedisConnectionError("the connection broke")


class Link:
    """One process's client of Redis: what Runner, Script and Claims ask of `redis.asyncio.Redis`, and no more.

    `chance`: what becomes of its calls, where that must not move what becomes of others'.
    """

    def __init__(self, process: Process, chance: random.Random | None = None) -> None:
        self._process = process
        self._world = process.world
        self._chance = chance or process.world.chance

    async def evalsha(self, sha: str, numkeys: int, *arguments: Part) -> Any:
        del numkeys
        return await self._ask(lambda: self._world.run_script(self._process, sha, arguments))

    async def script_load(self, script: str) -> Any:
        return await self._ask(lambda: self._world.wire.call(("SCRIPT", "LOAD", script))[0])

    async def set(self, name: str, value: str, *, nx: bool) -> Any:
        assert nx
        return await self._ask(lambda: self._world.wire.call(("SET", name, value, "NX"))[0])

    async def get(self, name: str) -> Any:
        return await self._ask(lambda: self._world.wire.call(("GET", name))[0])

    async def _ask(self, what: Callable[[], Any]) -> Any:
        await self._world.cross(self._process, self._chance, back=False)
        answer = what()
        await self._world.cross(self._process, self._chance, back=True)
        return answer


def all_scripts() -> dict[str, Script]:
    """The scripts of all stubs by name, as they are at the moment: a planted bug may have changed them."""
    found = [
        script
        for module in (claims, store, users, outbox, deliveries, endpoints)
        for script in vars(module).values()
        if isinstance(script, Script)
    ]
    return {script.name: script for script in found}


def _retrieve(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()


async def until_it_serves(operation: Callable[[], Awaitable[Any]]) -> None:
    """Repeat what needs Redis until it was there for it."""
    while True:
        try:
            await operation()
            return
        except RedisError:
            await asyncio.sleep(0.2)
