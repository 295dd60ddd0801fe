"""Audits of all that is in Redis at one moment: the records against what the simulation knows, the sums against the
limits, and at rest each key against the list of those that may be left.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from tests.docs.redis_keys import Key, documented, wrong_expiries
from tests.jobs.builders import day_of
from tests.jobs.invariants import AT_REST_NEVER, Kept, check
from tests.simulation.facts import Job
from tests.simulation.letters import Letters
from tests.simulation.world import World

EVERYBODY = "ip:all"
FINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})


@dataclass(frozen=True)
class Books:
    """A dump (wire.py), read by kinds of keys."""

    dump: dict[str, tuple[str, int, Any]]

    def text(self, key: str) -> str | None:
        entry = self.dump.get(key)
        return None if entry is None else entry[2]

    def pairs(self, key: str) -> dict[str, str]:
        """A hash, or a sorted set's members with their scores, lowest first."""
        entry = self.dump.get(key)
        flat = list(entry[2]) if entry else []
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def keys(self, prefix: str) -> Iterator[tuple[str, str]]:
        """Keys that begin so, with the rest of their names."""
        for key in self.dump:
            if key.startswith(prefix):
                yield key, key[len(prefix) :]

    @cached_property
    def heads(self) -> dict[str, dict[str, Any]]:
        return {name: json.loads(self.pairs(key)["h"]) for key, name in self.keys("job:")}

    @cached_property
    def deliveries(self) -> dict[str, dict[str, Any]]:
        return {name: json.loads(self.pairs(key)["h"]) for key, name in self.keys("delivery:")}

    def stored(self, job_id: str) -> tuple[bytes | None, ...]:
        """A job's record, result and error."""
        fields = self.pairs(f"job:{job_id}")
        return tuple(fields[name].encode() if name in fields else None for name in ("h", "r", "e"))

    @cached_property
    def lines(self) -> list[dict[str, str]]:
        """All lines of the ledger, with their day."""
        return [
            {"day": day, **dict(zip(flat[::2], flat[1::2], strict=True))}
            for key, day in self.keys("ledger:")
            for _, flat in self.dump[key][2]
        ]

    @property
    def kept(self) -> Kept:
        """The same for the invariants of the scripts' own tests."""
        found = Kept(jobs=self.heads, deliveries=self.deliveries)
        for key, (kind, _, value) in self.dump.items():
            match kind:
                case "string":
                    found.strings[key] = value
                case "hash":
                    found.hashes[key] = self.pairs(key)
                case "set":
                    found.sets[key] = set(value)
                case "zset":
                    found.zsets[key] = {member: float(score) for member, score in self.pairs(key).items()}
                case "list":
                    found.lists[key] = list(value)
                case _:
                    pass
        return found

    def running(self) -> list[str]:
        return [name for name, head in self.heads.items() if head["st"] == "running"]


def audit(world: World, jobs: dict[str, Job], letters: Letters) -> Books:
    """Everything that must hold at any moment between two scripts."""
    books = Books(world.wire.dump())
    try:
        check(books.kept)
    except AssertionError as error:
        world.fail("books", str(error))
    _records(world, books, jobs)
    _limits(world, books, jobs)
    _totals(world, books)
    if world.plan.hooks is not None:
        letters.audit(books.deliveries, books.heads)
    if not world.faults_stopped:
        _overdue(world, books)
    return books


def _records(world: World, books: Books, jobs: dict[str, Job]) -> None:
    """Nothing that was accepted is gone, or has ended without a word."""
    for name, job in jobs.items():
        if job.end is None:
            head = books.heads.get(name)
            if head is None:
                world.fail("durable", f"{name} was accepted, has not ended, and is gone")
            elif head["st"] in FINAL:
                world.fail("final", f"{name} has {head['st']}, and nobody was told")


def _limits(world: World, books: Books, jobs: dict[str, Job]) -> None:
    """Budgets are kept, but for what a provider reported beyond the cap it was sent; so is concurrency."""
    over: Counter[str] = Counter()
    for line in books.lines:
        if line["kind"] == "charged":
            tokens = int(line["in"]) + int(line["out"]) - jobs[line["job"]].estimate
            for payer in _payers(line["user"]):
                over[f"{payer}:{line['day']}"] += max(0, tokens)
    for key, rest in books.keys("tokens:"):
        limit, total = _budget(world, rest.rpartition(":")[0]), int(books.text(key) or 0)
        if limit is not None and total - over[rest] > limit:
            world.fail("budget", f"{total} of {limit} tokens are used and held in {rest}")
    running = Counter(books.heads[name]["u"] for name in books.running())
    for who, number in running.items():
        most = world.plan.config.tier(world.plan.tier(who)).max_concurrent
        if most is not None and number > most:
            world.fail("concurrency", f"{who} has {number} jobs running, and may have {most}")


def _payers(user: str) -> tuple[str, ...]:
    return (user, EVERYBODY) if user.startswith("ip:") else (user,)


def _budget(world: World, who: str) -> int | None:
    config = world.plan.config
    if who == EVERYBODY:
        return config.anonymous.tokens_per_day if config.anonymous else None
    return config.tier(world.plan.tier(who)).tokens_per_day


def _totals(world: World, books: Books) -> None:
    """The totals of users and days are the sums of the ledger's lines."""
    expected: Counter[tuple[str, str]] = Counter()
    for line in books.lines:
        key = f"usage:{line['user']}:{line['day']}"
        for metric, amount in (("jobs", 1), ("in", int(line["in"])), ("out", int(line["out"]))):
            expected[key, f"{metric}:{line['model']}"] += amount
    found = Counter(
        {
            (key, field): int(amount)
            for key, rest in books.keys("usage:")
            if not rest.startswith("users:")
            for field, amount in books.pairs(key).items()
            if field.startswith(("jobs:", "in:", "out:"))
        }
    )
    if +found != +expected:
        world.fail("ledger", f"the totals are {found}, the lines' sums {expected}")


def _overdue(world: World, books: Books) -> None:
    """What is due by time does not wait much longer than the API's sweeps leave it."""
    patience_s = 3 * world.plan.sweep_s + 2
    if world.loop.now_s < world.outage_until + patience_s:
        return
    latest = world.redis_ms() - 1000 * patience_s
    for key in ("leases", "due", "expiries", "midnight", "receipts:due", "outbox:leases", "outbox:ends"):
        late = [member for member, score in books.pairs(key).items() if float(score) < latest]
        if late:
            world.fail("overdue", f"{key} still has {late}, by more than {patience_s} s")


def runnable(world: World, books: Books, now: int) -> list[str]:
    """The jobs at their turn that nothing but a provider's window can hold back."""
    firsts: dict[tuple[str, int], str] = {}
    for key, _ in books.keys("lane:"):
        for job_id, score in books.pairs(key).items():
            firsts.setdefault((key, int(float(score) // 1e14)), job_id)
    return [job_id for job_id in firsts.values() if _could_run(world, books, books.heads[job_id], now)]


def _could_run(world: World, books: Books, head: dict[str, Any], now: int) -> bool:
    who, config = head["u"], world.plan.config
    most = config.tier(world.plan.tier(who)).max_concurrent
    if now >= head["x"] or (most is not None and int(books.pairs(f"queue:{who}").get("running", 0)) >= most):
        return False
    if min(float(books.pairs(f"pause:{pool.id}").get("until", 0)) for pool in config.pools(head["n"])) > now:
        return False
    return "day" in head or all(
        limit is None or int(books.text(f"tokens:{payer}:{day_of(now)}") or 0) + head["et"] <= limit
        for payer in _payers(who)
        for limit in [_budget(world, payer)]
    )


def audit_at_rest(world: World) -> None:
    """Nothing waits, runs or is held any more: only what docs/redis.md tells of is left, and with its end."""
    for key, (_, left_ms, value) in world.wire.dump(lives=True).items():
        wrong = _wrong(key, left_ms >= 0)
        if wrong or any(key == family or key.startswith(f"{family}:") for family in AT_REST_NEVER):
            world.fail("clean", f"{wrong or key} is left at rest: {value}")


def audit_after_a_year(world: World) -> None:
    """All that had an end is gone."""
    for key, (_, left_ms, value) in world.wire.dump(lives=True).items():
        if left_ms >= 0:
            world.fail("clean", f"{key} is left after a year: {value}")


@lru_cache(maxsize=4096)
def _wrong(key: str, ends: bool) -> str:
    """What documentation has against such a key; '' for nothing."""
    return "".join(wrong_expiries({key: 1 if ends else -1}, _documented()))


@lru_cache(maxsize=1)
def _documented() -> tuple[Key, ...]:
    return tuple(documented())
