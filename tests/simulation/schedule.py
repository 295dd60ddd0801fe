"""One schedule from its seed to its end: play with faults, then let healthy workers finish, then look at what is left.

Everything happens in one VirtualLoop, one thing after the other, and every choice comes from the plan's own sources of
chance: a seed gives the same schedule each time, on any machine, as long as the code is the same.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import structlog

from jobs.claims import Claims
from tests.simulation.books import Books, audit, audit_after_a_year, audit_at_rest, runnable
from tests.simulation.clockwork import DeadlockError, VirtualLoop
from tests.simulation.faults import faults
from tests.simulation.plan import Hooks, Plan, draw
from tests.simulation.provider import Provider
from tests.simulation.receivers import Receivers
from tests.simulation.users import Act, Crowd
from tests.simulation.verdict import judge_healthy_workers, judge_ledger, judge_windows
from tests.simulation.wire import Wire
from tests.simulation.witness import Watch
from tests.simulation.workers import Fleet, make_sender, now
from tests.simulation.world import Killed, Link, Violation, World, all_scripts, until_it_serves

if TYPE_CHECKING:
    from redis.asyncio import Redis

AUDITS_S = 4.0
"""Between two audits on the way, at most twice this."""
QUIET_S = 2.5
"""When nothing has moved for so long, nothing will until some time is up."""
RECOVERY_S = 60.0
"""When nothing has moved for so long although jobs run, nobody will recover them."""
WINDOW_S = 65.0
AFTERWARDS_S = 70.0
"""After which what is known of workers that have gone, and of their calls, is settled."""
HOUR_S, YEAR_S = 3600.0, 365 * 86_400.0
MOST_JUMPS = 200
SHORT_JUMPS = 5
"""After so many, whoever has not taken his webhooks is hardly there: he is not asked as soon as he might be."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a schedule went. `trace`: what happened, a line each."""

    seed: int
    violation: Violation | None
    jobs: int
    scripts: int
    trace: tuple[str, ...]

    def __str__(self) -> str:
        how = "held" if self.violation is None else f"{self.violation.invariant}: {self.violation.message}"
        return f"seed {self.seed}: {self.jobs} jobs, {self.scripts} scripts: {how}"


def run(seed: int, wire: Wire, bend: Callable[[Plan], Plan] = lambda plan: plan) -> Outcome:
    """Play the schedule of a seed on an emptied Valkey, up to its first violation. `bend` changes what it has drawn."""
    wire.empty()
    # What another schedule has left loaded, or flushed, must not decide who has to load a script first.
    wire.load([script.text for script in all_scripts().values()])
    loop = VirtualLoop()
    world = World(bend(draw(seed)), wire, loop)
    watch = Watch(world)
    world.witness = watch
    world.provider = Provider(world, on_written=watch.written)
    if world.plan.hooks is not None:
        world.receivers = Receivers(world, world.plan.hooks, watch.jobs, watch.letters)
    loop.set_exception_handler(lambda _, context: _unhandled(world, context))
    try:
        with _heard(world):
            loop.run_until_complete(_until_failure(world, _play(world, watch)))
    except DeadlockError as error:
        world.fail("durable", str(error))
    finally:
        world.over = True
        _end(loop)
    return Outcome(seed, world.violation, len(watch.jobs), world.scripts_run, tuple(world.trace))


async def _until_failure(world: World, play: Awaitable[None]) -> None:
    playing = asyncio.ensure_future(play)
    failing = asyncio.ensure_future(world.failed.wait())
    await asyncio.wait({playing, failing}, return_when=asyncio.FIRST_COMPLETED)
    if playing.done():
        playing.result()


async def _play(world: World, watch: Watch) -> None:
    plan, loop = world.plan, world.loop
    crowd = await Crowd.gather(world, watch)
    fleet = Fleet(world, lambda worker: _spawn(world, worker.run()))
    for slots in plan.workers:
        fleet.add(slots)
    _spawn(world, crowd.keep_sweeping())
    begun = loop.now_s
    acts: list[asyncio.Future[None]] = []
    for at, act in sorted([*crowd.play(), *faults(world, watch, fleet)], key=lambda one: one[0]):
        loop.call_at(begun + at, _begin, world, act, acts)
    chance = plan.random("audits")
    while loop.now_s < begun + plan.length_s:
        await asyncio.sleep(chance.random() * 2 * AUDITS_S)
        audit(world, watch.jobs, watch.letters)
    _stop_faults(world, fleet)
    await asyncio.wait(acts)
    await _drain(world, watch, fleet)
    await _rest(world, watch, fleet, crowd)


def _begin(world: World, act: Act, begun: "list[asyncio.Future[None]]") -> None:
    begun.append(_spawn(world, act()))


def _spawn(world: World, coroutine: Awaitable[None]) -> "asyncio.Future[None]":
    def done(task: "asyncio.Future[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, Killed):
            world.fail("internal", f"{type(error).__name__}: {error}")

    task = asyncio.ensure_future(coroutine)
    task.add_done_callback(done)
    return task


def _stop_faults(world: World, fleet: Fleet) -> None:
    """From now on everything works; the frozen thaw in their time, the dead stay dead."""
    world.note("the faults stop")
    world.faults_stopped = True
    world.outage_until = 0.0
    # More would only have more idle turns.
    for worker in fleet.alive[1 + world.plan.seed % 2 :]:
        worker.sigterm()
    if not fleet.alive:
        fleet.add(4)


async def _drain(world: World, watch: Watch, fleet: Fleet) -> None:
    """Until every job has ended; whatever waits for a time gets there by a jump."""
    loop = world.loop
    jumps, seen, moved_at, awake_at = 0, -1, loop.now_s, loop.now_s
    while watch.unfinished:
        await asyncio.sleep(0.5)
        if not [worker for worker in fleet.alive if worker.process.frozen_until <= loop.now_s]:
            fleet.add(4)
        if watch.progress != seen:
            seen, moved_at, awake_at = watch.progress, loop.now_s, loop.now_s
        if loop.now_s - awake_at < QUIET_S:
            continue
        books = audit(world, watch.jobs, watch.letters)
        running = books.running()
        if running and loop.now_s - awake_at < RECOVERY_S:
            continue
        jumps += 1
        if running or jumps > MOST_JUMPS:
            world.fail(
                "durable", f"jobs do not come to an end: {running or [job.id for job in watch.unfinished]}"
            )
            return
        _jump(world, books, loop.now_s - moved_at)
        awake_at = loop.now_s


def _jump(world: World, books: Books, quiet_s: float) -> None:
    """Let the time pass that the waiting jobs need: up to whatever is due next; where only windows can be what is
    waited for, that of the windows, and then that in which a learned limit recovers.
    """
    now = world.redis_ms()
    times = [float(score) for key in ("due", "midnight", "expiries") for score in books.pairs(key).values()]
    times += [float(books.pairs(key).get("until", 0)) for key, _ in books.keys("pause:")]
    next_ms = min((at for at in times if at > now), default=now + HOUR_S * 1000)
    stuck = runnable(world, books, now)
    if stuck and quiet_s > 2 * HOUR_S:
        world.fail("stuck", f"{', '.join(stuck)} could run, and nobody lets them")
        return
    at_most_s = YEAR_S
    if stuck:
        at_most_s = world.provider.until_charges_leave_s() if quiet_s < 2 * WINDOW_S else HOUR_S
    seconds = min((next_ms - now) / 1000 + 0.001, at_most_s)
    world.note(f"nothing moves: {seconds:.3f} s pass")
    world.loop.jump(seconds)
    world.age()


async def _rest(world: World, watch: Watch, fleet: Fleet, crowd: Crowd) -> None:
    """All jobs have ended: the workers go, and what is left in Redis is what should be."""
    jobs = list(watch.jobs.values())
    judge_healthy_workers(world, jobs)
    judge_windows(world)
    for worker in fleet.alive:
        worker.sigterm()
    await fleet.all_gone()
    if world.plan.hooks is not None:
        await _post_the_rest(world, watch, crowd, world.plan.hooks)
    world.loop.jump(AFTERWARDS_S)
    world.age()
    await crowd.sweep()
    books = audit(world, watch.jobs, watch.letters)
    judge_ledger(world, jobs, books.lines)
    audit_at_rest(world)
    for job in jobs:
        assert job.end is not None
        if job.id in books.heads:
            if books.stored(job.id) != job.end.stored:
                world.fail("final", f"{job.id} is no longer what it was at its end: {books.heads[job.id]}")
        elif not watch.forgotten(job):
            world.fail("durable", f"{job.id} is gone before its time")
    world.loop.jump(YEAR_S)
    world.age()
    await crowd.sweep()
    audit_after_a_year(world)


async def _post_the_rest(world: World, watch: Watch, crowd: Crowd, hooks: Hooks) -> None:
    """One more sender, alone, sends what is left, each in its time, until nothing is."""
    process = world.process("postman")
    claims = Claims(cast("Redis", Link(process)), process.name, lease_ms=world.plan.lease_ms, clock=now)
    sender = await make_sender(world, process, 1.0)
    await until_it_serves(claims.start)
    sending = _spawn(world, sender.run())
    for jumps in count():
        await asyncio.sleep(0.3)
        # There is nobody else whose heartbeat could be heard.
        await claims.renew([], slots=1, deliveries=sender.leases())
        await crowd.sweep()
        books = audit(world, watch.jobs, watch.letters)
        if not books.pairs("outbox:ends"):
            break
        if jumps > MOST_JUMPS:
            world.fail("webhooks", f"deliveries do not come to an end: {books.pairs('outbox:ends')}")
            break
        if books.pairs("outbox:leases"):
            # They end while somebody is heard; when all fall silent at once, everybody is given time.
            await asyncio.sleep(world.plan.lease_ms / 3000)
            continue
        times = [float(at) for key in ("outbox:lanes", "outbox:ends") for at in books.pairs(key).values()]
        seconds = max(0.0, min(times) - world.redis_ms()) / 1000 + 0.001
        if seconds > 1 and jumps > SHORT_JUMPS:
            seconds = max(seconds, 3 * HOUR_S)
        world.note(f"only deliveries are left: {seconds:.3f} s pass")
        world.loop.jump(seconds)
        world.age()
    sender.stop()
    await asyncio.wait([sending])
    await sender.drain(0)
    await claims.goodbye()
    watch.letters.audit_at_rest(hooks.dead)


def _unhandled(world: World, context: MutableMapping[str, Any]) -> None:
    error = context.get("exception")
    if not world.over and not isinstance(error, Killed):
        world.fail("internal", f"{context.get('message')}: {error!r}")


@contextmanager
def _heard(world: World) -> Iterator[None]:
    """Our own code's logs: into the trace, and an error among them is a violation."""

    def keep(_: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if method in ("error", "exception", "critical"):
            what = traceback.format_exc() if event.get("exc_info") else ""
            world.fail("internal", f"logged as an error: {dict(event)} {what}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep])
    try:
        yield
    finally:
        structlog.configure(**before)


def _end(loop: VirtualLoop) -> None:
    """Throw what still waits out of its wait, and close."""
    while waiting := asyncio.all_tasks(loop):
        for task in waiting:
            task.cancel()
        loop.run_until_complete(asyncio.wait(waiting))
    loop.close()
