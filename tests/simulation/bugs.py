"""Bugs to be put into the real code, one at a time, to see whether the simulation notices: in the composed scripts by a
replacement of text, in Python by a wrapper around one function.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from redis.exceptions import RedisError

import jobs.store
import worker.dispatch
from jobs.claims import Claims, Renewal
from jobs.webhooks.outbox import Outbox
from tests.simulation.plan import Plan, hooks
from tests.simulation.provider import Client
from tests.simulation.schedule import Outcome, run
from tests.simulation.wire import Wire
from tests.simulation.world import all_scripts
from worker.dispatch import Dispatcher
from worker.outcome import Failure, FailureKind
from worker.retry import Retry
from worker.seam import ClaimingWorker
from worker.webhooks.sender import Sender

MOST_SEEDS = 600
"""A bug that none of so many schedules shows counts as missed."""


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug by what it does wrong. `plant` puts it in until its block ends.

    `bend`: for a bug that few schedules come near, the schedules it is hunted in have more of what it needs.
    """

    name: str
    plant: Callable[[], Any]
    bend: Callable[[Plan], Plan] = lambda plan: plan


@dataclass(frozen=True, slots=True)
class Catch:
    """Which schedule showed a bug, after how many, if any."""

    bug: str
    seeds: int
    outcome: Outcome | None

    def __str__(self) -> str:
        if self.outcome is None or self.outcome.violation is None:
            return f"MISSED  {self.bug}: {self.seeds} schedules noticed nothing"
        violation = self.outcome.violation
        return f"caught  {self.bug}\n        seed {self.outcome.seed}, {violation.invariant}: {violation.message}"


def hunt(bug: Bug, wire: Wire, most: int = MOST_SEEDS) -> Catch:
    """Play schedules with the bug until one shows it."""
    with bug.plant():
        for seed in range(most):
            outcome = run(seed, wire, bug.bend)
            if outcome.violation is not None:
                assert outcome.violation.invariant != "scripts", f"not a bug but an error: {outcome}"
                return Catch(bug.name, seed + 1, outcome)
    return Catch(bug.name, most, None)


def _away_often(plan: Plan) -> Plan:
    """Redis is away while calls run on for long."""
    return replace(plan, answer_s=8.0, faults=replace(plan.faults, outages=4, kills=0, clock_steps=0))


def _dying_while_away(plan: Plan) -> Plan:
    """Workers die while calls run on for long, and Redis is away."""
    return replace(
        plan, answer_s=8.0, workers=plan.workers[:2], faults=replace(plan.faults, outages=4, kills=4)
    )


def _throttled_often(plan: Plan) -> Plan:
    """Providers with few requests a minute, which refuse many."""
    few = {
        name: settings.model_copy(update={"requests_per_minute": 3})
        for name, settings in plan.config.providers.items()
    }
    return replace(
        plan,
        config=plan.config.model_copy(update={"providers": few}),
        fates={"ok": 0.5, "throttled": 0.5},
        operations=max(plan.operations, 40),
    )


def _parked_often(plan: Plan) -> Plan:
    """Most jobs wait for a small budget, each user's in one lane, in which some fit that come behind others."""
    tiers = plan.config.tiers
    small = tiers["small"].model_copy(
        update={"tokens_per_day": 200, "max_queued_jobs": None, "max_queued_tokens": None}
    )
    return replace(
        plan,
        config=plan.config.model_copy(update={"tiers": tiers | {"small": small}}),
        users={f"user{n}": "small" for n in range(12)},
        waiting=0.9,
        names=("a",),
        answer_s=0.3,
        operations=80,
    )


def _overtaken_often(plan: Plan) -> Plan:
    """Workers wake just when their jobs run elsewhere."""
    return replace(plan, faults=replace(plan.faults, overtakings=4))


def told(plan: Plan) -> Plan:
    """Most ends are to be told, and much of that goes wrong."""
    drawn = hooks(plan.seed, plan.users)
    return replace(plan, hooks=replace(drawn, own=0.8, troubled=0.6, cuts=4, acts=4))


def _lua(old: str, new: str) -> Callable[[], Any]:
    """Replaces text in every script that has it; there must be one."""

    @contextmanager
    def plant() -> Iterator[None]:
        changed = [(script, script.text) for script in all_scripts().values() if old in script.text]
        assert changed, f"no script has {old!r} any more: write the bug anew"
        for script, text in changed:
            _set(script, text.replace(old, new))
        try:
            yield
        finally:
            for script, text in changed:
                _set(script, text)

    return plant


def _set(script: Any, text: str) -> None:
    script.text = text
    script.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _python(owner: Any, name: str, make: Callable[[Any], Any]) -> Callable[[], Any]:
    """Puts `make(original)` in the place of a function or method."""

    @contextmanager
    def plant() -> Iterator[None]:
        original = getattr(owner, name)
        setattr(owner, name, make(original))
        try:
            yield
        finally:
            setattr(owner, name, original)

    return plant


def _decides(change: Callable[[Any, Any, Any], Any]) -> Callable[[], Any]:
    """A wrong row in the table of retry.py: `change(decide, failure, state)` is decided instead."""

    def make(decide: Any) -> Any:
        return lambda failure, state, jitter: change(
            lambda failure, state: decide(failure, state, jitter), failure, state
        )

    return _python(worker.dispatch, "decide", make)


def _never_is_safe(decide: Any, failure: Failure, state: Any) -> Any:
    return decide(failure, replace(state, retry="safe"))


def _unknown_is_free(decide: Any, failure: Failure, state: Any) -> Any:
    decision = decide(failure, state)
    if failure.kind is FailureKind.UNKNOWN and isinstance(decision, Retry):
        return replace(decision, window="given_back")
    return decision


def _throttled_is_free(decide: Any, failure: Failure, state: Any) -> Any:
    decision = decide(failure, state)
    if failure.kind is FailureKind.THROTTLED:
        return replace(decision, window="given_back")
    return decision


def _refused_key_burns_attempts(decide: Any, failure: Failure, state: Any) -> Any:
    decision = decide(failure, state)
    return replace(decision, pause=None) if isinstance(decision, Retry) else decision


def _sends_again(chat: Any) -> Any:
    async def chat_twice(self: Client, body: bytes, **rest: Any) -> Any:
        outcome = await chat(self, body, **rest)
        if isinstance(outcome, Failure) and outcome.sent:
            return await chat(self, body, **rest)
        return outcome

    return chat_twice


def _sends_late(chat: Any) -> Any:
    async def chat_late(self: Client, body: bytes, **rest: Any) -> Any:
        return await chat(self, body, **(rest | {"write_by": rest["deadline"]}))

    return chat_late


def _says_nothing_of_sending(chat: Any) -> Any:
    async def chat_silently(self: Client, body: bytes, **rest: Any) -> Any:
        return await chat(self, body, **(rest | {"on_sent": None}))

    return chat_silently


def _tries_once(_: Any) -> Any:
    async def try_once(self: Dispatcher, operation: Callable[[], Any]) -> bool:
        try:
            return bool(await operation())
        except RedisError:
            return False

    return try_once


def _new_number_each_time(claim: Any) -> Any:
    numbers = itertools.count()

    async def claim_anew(self: Claims, sequence: int, slots: int) -> Any:
        del sequence
        return await claim(self, next(numbers), slots)

    return claim_anew


def _silent_heartbeat(_: Any) -> Any:
    async def renew_nothing(self: Claims, leases: Any, *, slots: int) -> Renewal:
        return Renewal((), ())

    return renew_nothing


def _asks_late(start: Any) -> Any:
    async def start_now(self: ClaimingWorker, job: Any, asked_at: float) -> None:
        del asked_at
        await start(self, job, self.loop.time())

    return start_now


def _hands_nothing_back(_: Any) -> Any:
    async def hand_nothing_back(self: ClaimingWorker) -> bool:
        return True

    return hand_nothing_back


def _without_margin(publication: Any) -> Any:
    def publish_minutes(config: Any) -> str:
        told = json.loads(publication(config))
        for settings in told["pools"].values():
            settings["span"] = "60000"
        return json.dumps(told)

    return publish_minutes


def _tries_post_once(_: Any) -> Any:
    async def try_once(self: Sender, step: Callable[[], Any]) -> Any:
        try:
            return await step()
        except RedisError:
            return None

    return try_once


def _takes_all_for_2xx(settle: Any) -> Any:
    async def settle_well(self: Outbox, claimed: Any, outcome: Any, attempt: Any, **rest: Any) -> Any:
        return await settle(self, claimed, "delivered" if outcome == "failed" else outcome, attempt, **rest)

    return settle_well


def _builds_anew(prepared: Any) -> Any:
    async def build_anew(self: Sender, claimed: Any) -> Any:
        ready = await prepared(self, claimed)
        attempt = claimed.delivery.attempts + 1
        return ready and replace(ready, body=ready.body[:-1] + f',"attempt":{attempt}}}'.encode())

    return build_anew


BUGS = (
    Bug(
        "settle does not compare the lease token",
        _lua("if not head or head.lt ~= token then return 'lost' end", "if not head then return 'lost' end"),
        bend=_overtaken_often,
    ),
    Bug(
        "a put-back does not compare the lease token",
        _lua(
            "head.st ~= 'running' or head.lt ~= token then return 'lost'",
            "head.st ~= 'running' then return 'lost'",
        ),
        bend=_overtaken_often,
    ),
    Bug(
        "a repeated settle settles again",
        _lua("if head.st ~= 'running' then return 'settled' end\n", ""),
    ),
    Bug(
        "a settle that comes after a cancel overwrites it",
        _lua(
            "if head.st ~= 'running' then return 'settled' end",
            "if head.st ~= 'running' and head.st ~= 'cancelled' then return 'settled' end",
        ),
    ),
    Bug("a budget is refunded twice", _lua("int(actual - held)", "int(actual - 2 * held)")),
    Bug(
        "a cancelled job keeps its hold",
        _lua(
            "if head.day then\n    budget.settle",
            "if head.day and state ~= 'cancelled' then\n    budget.settle",
        ),
    ),
    Bug("a job's own estimate is left out of the budget's check", _lua("+ estimate <= limit", "<= limit")),
    Bug(
        "a job that waits for a budget is held on the day it was submitted",
        _lua("head.day = day_of(now)", "head.day = day_of(head.c)"),
    ),
    Bug(
        "a charge goes to the day on which the job ends",
        _lua("budget.settle(head.u, head.day, id, tokens)", "budget.settle(head.u, day_of(now), id, tokens)"),
    ),
    Bug(
        "the ledger gets each charge twice",
        _lua(
            "write_ledger(id, head, head.u, 'charged', charge, with.cost or 0, now)",
            "write_ledger(id, head, head.u, 'charged', charge, with.cost or 0, now) "
            "write_ledger(id, head, head.u, 'charged', charge, with.cost or 0, now)",
        ),
    ),
    Bug(
        "a job that expires while it waits is charged",
        _lua(
            "finish.job(id, head, 'expired', {error",
            "finish.job(id, head, 'expired', {charge = finish.estimate(head), error",
        ),
    ),
    Bug(
        "a cancelled attempt is also put on the operator's account",
        _lua(
            "finish.asked(id, head, charge, now, tonumber(ARGV[7]))\n  return 'settled'",
            "finish.lost(id, head, now) finish.asked(id, head, charge, now, tonumber(ARGV[7]))\n  return 'settled'",
        ),
    ),
    Bug("a claim does not know its number again", _lua("if last[1] == sequence then", "if false then")),
    Bug(
        "a submission that is repeated makes the job again",
        _lua("if redis.call('EXISTS', ('job:' .. (id))) == 1 then return accepted('accepted', id) end\n", ""),
    ),
    Bug(
        "an Idempotency-Key is forgotten",
        _lua(
            "local first = digest ~= '' and redis.call('GET', ('idem:' .. (who) .. ':' .. (digest)))",
            "local first = false",
        ),
    ),
    Bug(
        "a user may cancel another's job",
        _lua("if not head or head.u ~= who then return {'not_found'", "if not head then return {'not_found'"),
    ),
    Bug(
        "a lost lease is renewed",
        _lua("if redis.call('ZSCORE', leases, ARGV[i]) then", "if true then"),
    ),
    Bug(
        "a job with retry never is sent again after its worker died",
        _lua("if head.rt == 'never' then", "if false then"),
    ),
    Bug(
        "a recovered attempt gives its window back",
        _lua(
            "finish.lost(id, head, now)\n  if head.dw",
            "receipt.settle(now, head.lt, 'given_back') finish.lost(id, head, now)\n  if head.dw",
        ),
    ),
    Bug(
        "recovery forgets that the job was asked to end",
        _lua("if head.cx then\n    return finish.asked", "if false then\n    return finish.asked"),
    ),
    Bug(
        "a put-back forgets that the job was asked to end",
        _lua("if head.cx then\n  local charge", "if false then\n  local charge"),
    ),
    Bug(
        "a put-back does not free the user's slot",
        _lua(
            "finish.attempt(id, head, 0, now)\n", "finish.attempt(id, head, 0, now) counts.move(head, 0, 1)\n"
        ),
    ),
    Bug("a job is lost between two attempts", _lua("redis.call('ZADD', 'due', int(now + after), id)", "")),
    Bug(
        "one job more than allowed runs for a user",
        _lua(">= limits.max_concurrent then", "> limits.max_concurrent then"),
    ),
    Bug(
        "a job that could go is not looked at in a parked lane",
        _lua("if SHARE[class] == nil and", "if SHARE[class] == nil or"),
        bend=_parked_often,
    ),
    Bug("a worker is told to wait for ever", _lua("if refusal and ms then wait", "if ms then wait")),
    Bug("parked lanes stay parked when a job ends", _lua("lane.unpark(head.u)\n", "")),
    Bug("parked lanes stay parked at midnight", _lua("if lane.unpark(who) then wake.push(now, 1) end", "")),
    Bug("an end is not published", _lua("redis.call('PUBLISH', 'done', id)", "")),
    Bug(
        "a result is forgotten before its time",
        _lua(
            "redis.call('PEXPIRE', ('job:' .. (id)), int(life))",
            "redis.call('PEXPIRE', ('job:' .. (id)), 5000)",
        ),
    ),
    Bug(
        "what is in flight is never charged",
        _lua("if receipt.sweep(now, MOST) > 0 then wake.push(now, 1) end", ""),
    ),
    Bug(
        "what is in flight at its deadline is given back",
        _lua("if not receipt.settle(now, id, 'kept')", "if not receipt.settle(now, id, 'given_back')"),
    ),
    Bug("usage is not charged to the window", _lua("late = input + output", "late = 0")),
    Bug("output is not charged to the window", _lua("late = output\n", "late = 0\n")),
    Bug(
        "a refused request is given back to the window",
        _lua("window.charge(w, slice, -charged, 0)", "window.charge(w, slice, -charged, -1)"),
        bend=_throttled_often,
    ),
    Bug("a pause is not kept", _lua("return until_ms and math.max(0, until_ms - now) or 0", "return 0")),
    Bug(
        "the first heartbeat after an outage hides it from other leases",
        _lua("due.heard(now, lease_ms)\n  silent(now, lease_ms)", "due.heard(now, lease_ms)"),
        bend=_away_often,
    ),
    Bug(
        "leases end while Redis is away",
        _lua("local passed = heard and now - tonumber(heard) or 0", "local passed = 0"),
        bend=_away_often,
    ),
    Bug(
        "an outage is worth a whole period to every lease",
        _lua(
            "redis.call('ZINCRBY', leases, int(passed), lease)",
            "redis.call('ZADD', leases, int(now + lease_ms), lease)",
        ),
        bend=_dying_while_away,
    ),
    Bug(
        "an outage counts again for as long as nobody is heard",
        _lua("or redis.call('GET', 'grace') == heard then", "then"),
        bend=_dying_while_away,
    ),
    Bug("the window's margin is dropped", _python(jobs.store, "publication", _without_margin)),
    Bug("the SDK's retries are on", _python(Client, "chat", _sends_again)),
    Bug("a call is sent however late", _python(Client, "chat", _sends_late)),
    Bug(
        "the margin is counted from the answer to the claim",
        _python(ClaimingWorker, "_start", _asks_late),
    ),
    Bug(
        "what was sent is not remembered when the call is cut off",
        _python(Client, "chat", _says_nothing_of_sending),
    ),
    Bug("a settle is tried once", _python(Dispatcher, "_keep_trying", _tries_once), bend=_away_often),
    Bug("a claim whose answer was lost gets a new number", _python(Claims, "claim", _new_number_each_time)),
    Bug("the heartbeat is silent", _python(Claims, "renew", _silent_heartbeat)),
    Bug(
        "a drain leaves what it had claimed to its leases",
        _python(ClaimingWorker, "_hand_back", _hands_nothing_back),
    ),
    Bug("a job with retry never is sent again after a timeout", _decides(_never_is_safe)),
    Bug("an attempt of unknown outcome gives its window back", _decides(_unknown_is_free)),
    Bug("a 429 gives the request back", _decides(_throttled_is_free), bend=_throttled_often),
    Bug("a refused key does not pause the pool", _decides(_refused_key_burns_attempts)),
    Bug(
        "an end is told to nobody where it came by itself",
        _lua(
            "told, life = outbox.write(id, head, life, now)",
            "if state ~= 'expired' then told, life = outbox.write(id, head, life, now) end",
        ),
        bend=told,
    ),
    Bug(
        "a retry is told as if it were the end",
        _lua(
            "if after > 0 then\n    head.bk = true",
            "if head.wu then outbox.write(id, {u = head.u, wu = head.wu, wl = head.wl, st = ''}, DAY_MS, now) end\n"
            "  if after > 0 then\n    head.bk = true",
        ),
        bend=told,
    ),
    Bug(
        "the settle of a delivery does not compare the lease token",
        _lua("(head.lt or head.lo) ~= token then", "not head then"),
        bend=told,
    ),
    Bug(
        "a settle of a delivery that is repeated settles again",
        _lua("if not head.lt then return 'settled' end\n", "head.lt = head.lt or token\n"),
        bend=told,
    ),
    Bug(
        "a delivery whose worker died is not sent again",
        _lua("if head and head.lt == token then\n        local at", "if false then\n        local at"),
        bend=told,
    ),
    Bug(
        "the body of a webhook is built anew on each attempt",
        _python(Sender, "_prepared", _builds_anew),
        bend=told,
    ),
    Bug("any answer to a webhook is a success", _python(Outbox, "settle", _takes_all_for_2xx), bend=told),
    Bug(
        "the settle of a delivery is tried once",
        _python(Sender, "_keep_trying", _tries_post_once),
        bend=told,
    ),
    Bug(
        "a fault of our own is one of the attempts",
        _lua(
            "again(id, head, our_wait(head) * spread, now)",
            "head.n = head.n + 1\n    again(id, head, our_wait(head) * spread, now)",
        ),
        bend=told,
    ),
    Bug(
        "a failed webhook is sent again at once",
        _lua(
            "again(id, head, math.max(seconds * 1000 * spread, retry_after or 0), now)",
            "again(id, head, 0, now)",
        ),
        bend=told,
    ),
    Bug(
        "what waits for a webhook is kept no longer than any job",
        _lua("local kept = math.max(life, SCHEDULE_MS + KEPT_AFTER_MS)", "local kept = life"),
        bend=told,
    ),
    Bug(
        "erasing a job leaves its deliveries",
        _lua("outbox.erase(id, head, now)\n", ""),
        bend=told,
    ),
)
