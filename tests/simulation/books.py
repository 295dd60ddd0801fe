"""Audits of all that is in Redis at one moment: counters against what they count, sets against records, and each key
against the list of those that may be left.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.jobs.builders import day_of
from tests.simulation.facts import Job
from tests.simulation.world import World

EVERYBODY = "ip:all"
FINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})

LASTING = re.compile(
    r"epoch|sequence|heartbeat|users|user:.+|config:.+|window:.+|learned:.+|answers:.+|fair:(finish|virtual):.+"
)
"""What may be in Redis when nothing has happened for a year."""
ENDING = re.compile(
    r"job:.+|jobs:.+|idem:.+|tokens:.+|holds:.+|requests:.+|ledger:.+|usage:.+|dead|pause:.+|fair:(finish|virtual):.+"
    r"|claim:.+|worker:.+|cancels:.+|answers:.+|rate:.+|grace"
)
"""What may be left at rest, if it has an end."""


@dataclass(frozen=True)
class Books:
    """A dump (wire.py), read by kinds of keys."""

    dump: dict[str, tuple[str, int, Any]]

    def text(self, key: str) -> str | None:
        entry = self.dump.get(key)
        return None if entry is None else entry[2]

    def pairs(self, key: str) -> dict[str, str]:
        """A hash, or a sorted set's members with their scores."""
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
    def lines(self) -> list[dict[str, str]]:
        """All lines of the ledger, with their day."""
        found = []
        for key, day in self.keys("ledger:"):
            for _, flat in self.dump[key][2]:
                found.append({"day": day, **dict(zip(flat[::2], flat[1::2], strict=True))})
        return found

    def of_state(self, state: str) -> dict[str, dict[str, Any]]:
        return {name: head for name, head in self.heads.items() if head["st"] == state}


def audit(world: World, jobs: dict[str, Job]) -> Books:
    """Everything that must hold at any moment between two scripts."""
    books = Books(world.wire.dump())
    for check in (_records, _budgets, _usage, _queues, _lanes, _leases, _windows):
        check(world, books, jobs)
    return books


def _equal(world: World, invariant: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        world.fail(invariant, f"{what}: {found}, and should be {expected}")


def _records(world: World, books: Books, jobs: dict[str, Job]) -> None:
    for name, job in jobs.items():
        head = books.heads.get(name)
        if job.end is None:
            if head is None:
                world.fail("durable", f"{name} was accepted, has not ended, and is gone")
            elif head["st"] in FINAL:
                world.fail("final", f"{name} has {head['st']}, and nobody was told")
    _equal(
        world, "records", "jobs that expire", set(books.pairs("expiries")),
        {name for name, head in books.heads.items() if head["st"] not in FINAL},
    )  # fmt: skip


def _budgets(world: World, books: Books, jobs: dict[str, Job]) -> None:
    held: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for name, head in books.heads.items():
        if head["st"] not in FINAL and "day" in head:
            for who in _payers(head["u"]):
                held[who, head["day"]][name] = head["et"]
    used: Counter[tuple[str, str]] = Counter()
    over: Counter[tuple[str, str]] = Counter()
    for line in books.lines:
        if line["kind"] == "charged":
            tokens = int(line["in"]) + int(line["out"])
            for who in _payers(line["user"]):
                used[who, line["day"]] += tokens
                over[who, line["day"]] += max(0, tokens - jobs[line["job"]].estimate)
    found_holds = {rest: books.pairs(key) for key, rest in books.keys("holds:")}
    _equal(world, "budget", "budgets with holds", set(found_holds), {f"{who}:{day}" for who, day in held})
    for (who, day), own in held.items():
        holds = {name: int(tokens) for name, tokens in found_holds.get(f"{who}:{day}", {}).items()}
        _equal(world, "budget", f"sum of the holds of {who} on {day}", holds.pop("*", 0), sum(own.values()))
        _equal(world, "budget", f"holds of {who} on {day}", holds, own)
    for who, day in {**held, **used}:
        counter = books.text(f"tokens:{who}:{day}")
        total = used[who, day] + sum(held[who, day].values() if (who, day) in held else ())
        if counter is not None or (who, day) in held:
            _equal(world, "budget", f"the counter of {who} on {day}", int(counter or 0), total)
        limit = _budget(world, who)
        if limit is not None and total - over[who, day] > limit:
            world.fail("budget", f"{who} has used and held {total} of {limit} tokens on {day}")


def _payers(user: str) -> tuple[str, ...]:
    return (user, EVERYBODY) if user.startswith("ip:") else (user,)


def _budget(world: World, who: str) -> int | None:
    config = world.plan.config
    if who == EVERYBODY:
        return config.anonymous.tokens_per_day if config.anonymous else None
    return config.tier(world.plan.tier(who)).tokens_per_day


def _usage(world: World, books: Books, jobs: dict[str, Job]) -> None:
    expected: Counter[tuple[str, str, str]] = Counter()
    for line in books.lines:
        place = (line["user"], line["day"])
        for metric, amount in (("jobs", 1), ("in", int(line["in"])), ("out", int(line["out"]))):
            expected[(*place, f"{metric}:{line['model']}")] += amount
    found = {
        (who, day, field): int(amount)
        for key, rest in books.keys("usage:")
        if not rest.startswith("users:")
        for who, day in [rest.rsplit(":", 1)]
        for field, amount in books.pairs(key).items()
        if not field.startswith(("cached:", "cost:"))
    }
    _equal(world, "ledger", "totals", +Counter(found), +expected)


def _queues(world: World, books: Books, jobs: dict[str, Job]) -> None:
    queues: dict[str, Counter[str]] = defaultdict(Counter)
    backlogs: dict[str, Counter[str]] = defaultdict(Counter)
    for head in books.of_state("queued").values():
        counted = {"jobs": 1, "tokens": head["et"]}
        queues[head["u"]].update(counted)
        backlogs[head["n"]].update(counted)
    for head in books.of_state("running").values():
        queues[head["u"]]["running"] += 1
    found = {rest: +Counter(_numbers(books.pairs(key))) for key, rest in books.keys("queue:")}
    _equal(world, "counters", "what users have waiting and running", {k: v for k, v in found.items() if v}, queues)
    names = {rest: +Counter(_numbers(books.pairs(key))) for key, rest in books.keys("backlog:")}
    _equal(world, "counters", "what waits by name", {k: v for k, v in names.items() if v}, backlogs)
    for who, counted in queues.items():
        most = world.plan.config.tier(world.plan.tier(who)).max_concurrent
        if most is not None and counted["running"] > most:
            world.fail("concurrency", f"{who} has {counted['running']} jobs running, and may have {most}")


def _numbers(pairs: dict[str, str]) -> dict[str, int]:
    return {name: int(value) for name, value in pairs.items()}


def _lanes(world: World, books: Books, jobs: dict[str, Job]) -> None:
    places: Counter[str] = Counter(books.pairs("due"))
    places = Counter(dict.fromkeys(places, 1))
    ready = {}
    for key, rest in books.keys("lane:"):
        name, who, _ = rest.split(" ")
        for job_id in books.pairs(key):
            places[job_id] += 1
        ready[name, who] = (
            who in books.pairs(f"fair:ready:lanes:{name}"),
            name in books.pairs(f"parked:{who}"),
        )
    _equal(world, "lanes", "queued jobs in a lane or due", places, Counter(dict.fromkeys(books.of_state("queued"), 1)))
    for (name, who), found in ready.items():
        if found not in ((True, False), (False, True)):
            world.fail("lanes", f"the lane of {who} for {name} is (ready, parked): {found}")


def _leases(world: World, books: Books, jobs: dict[str, Job]) -> None:
    running = {f"{name} {head['lt']}" for name, head in books.of_state("running").items()}
    _equal(world, "leases", "leases", set(books.pairs("leases")), running)


def _windows(world: World, books: Books, jobs: dict[str, Job]) -> None:
    flying: Counter[str] = Counter()
    for stored in books.pairs("receipts").values():
        for taken in json.loads(stored)["w"]:
            flying[taken[0]] += taken[3]
    for key, scope in books.keys("window:"):
        fields = _numbers({name: value for name, value in books.pairs(key).items() if name != "B"})
        _equal(world, "windows", f"tokens in flight at {scope}", fields["F"], flying[scope])
        for total, kind in (("T", "t"), ("R", "r")):
            slices = sum(value for name, value in fields.items() if re.fullmatch(kind + r"\d+", name))
            _equal(world, "windows", f"{total} of {scope}", fields[total], slices)


def runnable(world: World, books: Books, now: int) -> list[str]:
    """The jobs at their turn that nothing but a provider's window can hold back."""
    firsts = [next(iter(books.pairs(key))) for key, _ in books.keys("lane:")]
    return [job_id for job_id in firsts if _could_run(world, books, books.heads[job_id], now)]


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


def audit_at_rest(world: World, books: Books) -> None:
    """Nothing waits, runs or is held any more: only what is documented is left, with its end."""
    for key in books.dump:
        if key.startswith(("holds:", "parked:", "queue:", "backlog:", "lane:", "receipts")):
            world.fail("clean", f"{key} is left at rest: {books.dump[key]}")
    for key, (_, left_ms, value) in world.wire.dump(lives=True).items():
        if not LASTING.fullmatch(key) and not (ENDING.fullmatch(key) and left_ms >= 0):
            world.fail("clean", f"{key} is left at rest with {left_ms} ms to live: {value}")
    for key, scope in books.keys("window:"):
        if int(books.pairs(key)["F"]) != 0:
            world.fail("clean", f"{scope} has tokens in flight at rest")


def audit_after_a_year(world: World) -> None:
    """All that had an end is gone."""
    for key in world.wire.dump():
        if not LASTING.fullmatch(key):
            world.fail("clean", f"{key} is left after a year")


