"""What must hold in Redis after any operation, read key by key and compared with the jobs' own records."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from redis.asyncio import Redis

from tests.support.windows import stored_window

Head: TypeAlias = dict[str, object]

_STRINGS = ("tokens", "fair:virtual", "window")
_LISTS = ("slices",)
_HASHES = (
    "holds",
    "queue",
    "backlog",
    "parked",
    "receipts",
    "usage",
    "fair:weight",
    "fair:weights",
    "outbox:sending",
    "receiver",
    "endpoint",
    "subscriptions",
)
_SETS = ("cancels", "charged", "crowded")
_ZSETS = (
    "lane",
    "due",
    "expiries",
    "leases",
    "receipts:due",
    "midnight",
    "fair:ready",
    "jobs",
    "outbox:waiting",
    "outbox:lanes",
    "outbox:leases",
    "outbox:ends",
    "deliveries",
)
_CLASSES = "isbISB"


@dataclass
class Kept:
    """Everything that the checks look at, as text."""

    jobs: dict[str, Head] = field(default_factory=dict)
    deliveries: dict[str, Head] = field(default_factory=dict)
    strings: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    sets: dict[str, set[str]] = field(default_factory=dict)
    zsets: dict[str, dict[str, float]] = field(default_factory=dict)

    def named(self, kind: Mapping[str, object], prefix: str) -> dict[str, str]:
        """Keys of one kind with a prefix, to what follows it."""
        return {key: key[len(prefix) :] for key in kind if key.startswith(prefix)}

    def states(self, *states: str) -> dict[str, Head]:
        return {job_id: head for job_id, head in self.jobs.items() if head["st"] in states}


def _is(key: str, families: tuple[str, ...]) -> bool:
    return any(key == family or key.startswith(f"{family}:") for family in families)


async def kept(redis: Redis) -> Kept:
    """Read it all in one round trip after the list of keys."""
    found = Kept()
    keys = sorted(key.decode() for key in await redis.keys("*"))
    wanted: list[tuple[str, str]] = []
    async with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            if key.startswith("job:"):
                pipe.hget(key, "h")
                wanted.append(("job", key))
            elif key.startswith("delivery:"):
                pipe.hget(key, "h")
                wanted.append(("delivery", key))
            elif _is(key, _SETS):
                pipe.smembers(key)
                wanted.append(("set", key))
            elif _is(key, _ZSETS):
                pipe.zrange(key, 0, -1, withscores=True)
                wanted.append(("zset", key))
            elif _is(key, _HASHES):
                pipe.hgetall(key)
                wanted.append(("hash", key))
            elif _is(key, _LISTS):
                pipe.lrange(key, 0, -1)
                wanted.append(("list", key))
            elif _is(key, _STRINGS):
                pipe.get(key)
                wanted.append(("string", key))
        replies = await pipe.execute()
    for (kind, key), reply in zip(wanted, replies, strict=True):
        match kind:
            case "job":
                found.jobs[key[4:]] = cast(Head, json.loads(reply))
            case "delivery":
                found.deliveries[key[9:]] = cast(Head, json.loads(reply))
            case "set":
                found.sets[key] = {member.decode() for member in reply}
            case "zset":
                found.zsets[key] = {member.decode(): score for member, score in reply}
            case "hash":
                found.hashes[key] = {name.decode(): value.decode() for name, value in reply.items()}
            case "list":
                found.lists[key] = [value.decode() for value in reply]
            case _:
                found.strings[key] = reply.decode()
    return found


def check(found: Kept) -> None:
    """Raise AssertionError for whatever does not fit together."""
    _counters(found)
    _places(found)
    _turns(found)
    _attempts(found)
    _budgets(found)
    _windows(found)
    _deliveries(found)


def _number(head: Head, name: str) -> int:
    return cast(int, head[name])


def _counters(found: Kept) -> None:
    """The counters of users and names are the sums of the records."""
    queued, running = found.states("queued"), found.states("running")
    of_user: defaultdict[str, Counter[str]] = defaultdict(Counter)
    of_name: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for head in queued.values():
        for counters in (of_user[str(head["u"])], of_name[str(head["n"])]):
            counters["jobs"] += 1
            counters["tokens"] += _number(head, "et")
    for head in running.values():
        of_user[str(head["u"])]["running"] += 1
    stored = {name: _counter(found, key) for key, name in found.named(found.hashes, "queue:").items()}
    assert stored == dict(of_user), "queue counters"
    stored = {name: _counter(found, key) for key, name in found.named(found.hashes, "backlog:").items()}
    assert stored == dict(of_name), "backlog counters"


def _counter(found: Kept, key: str) -> Counter[str]:
    counters = ("jobs", "tokens", "running")
    return +Counter({name: int(found.hashes[key].get(name, 0)) for name in counters})


def _score(head: Head) -> float:
    """A job's place in its lane: its class, jobs without a hold on their budget apart, then its sequence."""
    priority = str(head["pr"])
    letter = priority.upper() if head.get("w") and "day" not in head else priority
    return (_CLASSES.index(letter) + 1) * 1e14 + _number(head, "q")


def _places(found: Kept) -> None:
    """Every queued job is in its lane or due later; nothing else is; whoever has not ended will expire."""
    due = set(found.zsets.get("due", {}))
    lanes: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for job_id, head in found.states("queued").items():
        if job_id not in due:
            lanes[f"lane:{head['n']} {head['u']}"][job_id] = _score(head)
    assert due <= set(found.states("queued")), "only queued jobs are due"
    stored = {key: found.zsets[key] for key in found.named(found.zsets, "lane:")}
    assert stored == dict(lanes), "lanes"
    assert set(found.zsets.get("expiries", {})) == set(found.states("queued", "running")), "expiries"
    for job_id, head in found.jobs.items():
        assert job_id in found.zsets[f"jobs:{head['u']}"], "the user's list"


def _turns(found: Kept) -> None:
    """A lane with jobs is ready or parked, and the weights are those of the ready ones."""
    lanes = {tuple(rest.split(" ")) for rest in found.named(found.zsets, "lane:").values()}
    ready = {
        (name, user)
        for key, name in found.named(found.zsets, "fair:ready:lanes:").items()
        for user in found.zsets[key]
    }
    parked = {
        (name, user)
        for key, user in found.named(found.hashes, "parked:").items()
        for name in found.hashes[key]
    }
    for key, user in found.named(found.hashes, "queue:").items():
        of_user = sum(1 for _, each in parked if each == user)
        assert int(found.hashes[key].get("parked", 0)) == of_user, "the number of parked lanes"
    assert not ready & parked, "ready and parked at once"
    assert ready | parked == lanes, "each lane is ready or parked"
    weights = {
        (name, user): int(weight)
        for key, name in found.named(found.hashes, "fair:weights:").items()
        for user, weight in found.hashes[key].items()
    }
    assert set(weights) == ready, "weights"
    sums: Counter[str] = Counter()
    for (name, _), weight in weights.items():
        sums[name] += weight
    assert Counter({n: int(w) for n, w in found.hashes.get("fair:weight", {}).items()}) == sums, "sums"
    assert set(found.zsets.get("fair:ready:names", {})) == set(sums), "names"
    midnight = set(found.zsets.get("midnight", {}))
    assert midnight <= {user for _, user in parked}, "only the parked wait for midnight"
    for key, user in found.named(found.hashes, "parked:").items():
        if "user_budget" in found.hashes[key].values():
            assert user in midnight, "whoever waits for a budget is looked at at midnight"
    crowded = set(found.sets.get("crowded", set()))
    assert crowded <= {user for _, user in parked}, "only the parked are crowded"
    for key, user in found.named(found.hashes, "parked:").items():
        if "concurrency" in found.hashes[key].values():
            assert user in crowded, "whoever is parked for concurrency is counted"
    guests = set(found.zsets.get("midnight:anonymous", {}))
    assert guests == {user for user in midnight if user.startswith("ip:")}, "guests"


def _attempts(found: Kept) -> None:
    """Every running job, and no other, has a lease; every receipt has its end; cancels are known to the worker."""
    running = found.states("running")
    leases = {f"{job_id} {head['lt']}" for job_id, head in running.items()}
    assert set(found.zsets.get("leases", {})) == leases, "leases"
    receipts = set(found.hashes.get("receipts", {}))
    assert receipts == set(found.zsets.get("receipts:due", {})), "receipts"
    asked: defaultdict[str, set[str]] = defaultdict(set)
    for job_id, head in running.items():
        if "cx" in head:
            asked[f"cancels:{head['wk']}"].add(job_id)
    assert {key: found.sets[key] for key in found.named(found.sets, "cancels:")} == asked, "cancels"


def _budgets(found: Kept) -> None:
    """Holds are those of the jobs that have not ended; a day's counter is what they hold and what was charged."""
    holds: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for job_id, head in found.states("queued", "running").items():
        if "day" in head:
            for user in _charged(str(head["u"])):
                holds[f"holds:{user}:{head['day']}"][job_id] = _number(head, "et")
    stored: dict[str, dict[str, int]] = {}
    for key in found.named(found.hashes, "holds:"):
        fields = {name: int(value) for name, value in found.hashes[key].items()}
        total = fields.pop("*")
        assert sum(fields.values()) == total, "the sum of the holds"
        stored[key] = fields
    assert stored == dict(holds), "holds"
    used: Counter[str] = Counter()
    for key, rest in found.named(found.hashes, "usage:").items():
        user, _, day = rest.rpartition(":")
        spent = sum(
            int(value) for name, value in found.hashes[key].items() if name.startswith(("in:", "out:"))
        )
        for charged in _charged(user):
            used[f"{charged}:{day}"] += spent
    for key, rest in found.named(found.strings, "tokens:").items():
        held = sum(stored.get(f"holds:{rest}", {}).values())
        assert int(found.strings[key]) == used[rest] + held, f"counter of {rest}"


def _charged(user: str) -> tuple[str, ...]:
    return (user, "ip:all") if user.startswith("ip:") else (user,)


def _windows(found: Kept) -> None:
    """A window's sums are those of its slices, and what is in flight is on the receipts."""
    flying: Counter[str] = Counter()
    for written in found.hashes.get("receipts", {}).values():
        for taken in json.loads(written)["w"]:
            flying[taken[0]] += taken[3]
    for key, scope in found.named(found.strings, "window:").items():
        window = stored_window(found.strings[key], found.lists.get(f"slices:{scope}", []))
        window.check(scope)
        assert window.flying == flying[scope], f"in flight in {key}"


def _deliveries(found: Kept) -> None:
    """A pending delivery waits in its lane or is under way with a lease; counters and lanes are those of them."""
    pending = {name: head for name, head in found.deliveries.items() if head["st"] == "pending"}
    waiting: defaultdict[str, set[str]] = defaultdict(set)
    leases: set[str] = set()
    of_user: Counter[str] = Counter()
    of_lane: Counter[str] = Counter()
    for name, head in pending.items():
        if "lt" in head:
            leases.add(f"{name} {head['lt']}")
            of_user[str(head["u"])] += 1
            of_lane[str(head["l"])] += 1
        else:
            waiting[f"outbox:waiting:{head['l']}"].add(name)
    for name, head in found.deliveries.items():
        assert name in pending or "lt" not in head, "what has ended is not under way"
        assert name in found.zsets[f"deliveries:{head['u']}"], "the user's deliveries"
    stored = {key: set(found.zsets[key]) for key in found.named(found.zsets, "outbox:waiting:")}
    assert stored == dict(waiting), "waiting deliveries"
    assert set(found.zsets.get("outbox:leases", {})) == leases, "leases of deliveries"
    assert set(found.zsets.get("outbox:ends", {})) == set(pending), "ends of schedules"
    sending = {user: int(n) for user, n in found.hashes.get("outbox:sending", {}).items()}
    assert sending == dict(of_user), "deliveries under way of each user"
    receivers = {
        lane: int(found.hashes[key]["sending"])
        for key, lane in found.named(found.hashes, "receiver:").items()
        if "sending" in found.hashes[key]
    }
    assert receivers == dict(of_lane), "deliveries under way to each receiver"
    assert all(n <= 4 for n in receivers.values()), "no receiver gets more than four at once"
    looked_at = set(found.zsets.get("outbox:lanes", {}))
    for key, lane in found.named(found.zsets, "outbox:waiting:").items():
        closed = found.hashes.get(f"endpoint:{lane}", {}).get("disabled", "") != ""
        full = receivers.get(lane, 0) >= 4
        assert (lane in looked_at) != (closed or full), f"the lane of {key} is looked at"
    assert looked_at <= {key.rpartition(":")[2] for key in waiting}, "lanes"


AT_REST_NEVER = (
    "holds", "leases", "receipts", "due", "expiries", "lane", "turns", "parked", "midnight", "queue", "backlog",
    "crowded", "fair:ready", "fair:weights", "fair:weight", "cancels", "asleep", "wake", "workers",
    "outbox:waiting", "outbox:lanes", "outbox:leases", "outbox:ends", "outbox:sending",
)  # fmt: skip
"""Keys that no job leaves behind once all have ended and what their calls may be charged is known."""

WITHOUT_EXPIRY = (
    "config", "endpoint", "endpoints", "epoch", "figures", "grace", "heartbeat", "learned", "pace", "progress",
    "scaling", "sequence", "signing", "slices", "subscriptions", "user", "users", "window",
)  # fmt: skip
"""Keys that stay: the configuration, users, and a bounded number that do not grow with the jobs."""

WITH_EXPIRY = (
    "answers", "charged", "claim", "dead", "deliveries", "delivery", "fair:finish", "fair:virtual", "idem", "job",
    "jobs", "ledger", "outbox:failed", "pause", "relook", "rate", "receiver", "requests", "tokens", "usage", "worker",
)  # fmt: skip
"""Keys that go by themselves."""


async def check_at_rest(redis: Redis) -> None:
    """Raise AssertionError for a key that is left behind, or that would stay for ever without being known to."""
    keys = sorted(key.decode() for key in await redis.keys("*"))
    async with redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.pttl(key)
        lives = dict(zip(keys, cast(list[int], await pipe.execute()), strict=True))
    left = [key for key in keys if _is(key, AT_REST_NEVER)]
    assert not left, left
    for_ever = [key for key in keys if lives[key] == -1 and not _is(key, WITHOUT_EXPIRY)]
    assert not for_ever, for_ever
    unknown = [key for key in keys if lives[key] != -1 and not _is(key, WITH_EXPIRY)]
    assert not unknown, unknown
    check(await kept(redis))
