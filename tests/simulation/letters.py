"""Sees every script run and judges the deliveries: written with the end of their job, sent in their time, kept until
somebody has taken them or their schedule has ended.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.webhooks.signing import SecretBox
from tests.jobs.builders import DAY_MS
from tests.jobs.post import PEPPER
from tests.simulation.facts import Job
from tests.simulation.wire import Part
from tests.simulation.world import AGE_EVERY_MS, Process, World

WAITS_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Before the second attempt, the third, and so on."""
SCHEDULE_MS = 4 * DAY_MS
OURS_MOST_MS = 360_000
"""The longest wait after a fault of our own."""
DELIVERED_KEPT_MS, FAILED_KEPT_MS = 3_600_000, 30 * DAY_MS


@dataclass(slots=True)
class Address:
    """A registered endpoint. `types`: what it wants to hear of; `deleted`: it is gone."""

    id: str
    user: str
    url: str
    types: set[str]
    disabled: bool = False
    deleted: bool = False


@dataclass(slots=True)
class Letter:
    """One delivery. `attempts`: all there were; `counted`: those of them that count in its schedule.

    `token`: the lease it was last claimed under, None when that was settled; `holder`: whose it was; `repeated`: how
    often he has asked for it again, since the answer was lost. `kept_ms`: until then its record stays.
    """

    id: str
    job: Job
    lane: str
    ends_ms: int
    due_ms: int
    kept_ms: int
    address: Address | None
    status: str = "pending"
    attempts: int = 0
    counted: int = 0
    token: str | None = None
    holder: Process | None = None
    repeated: int = 0
    body: bytes = b""
    tokens: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        attempts = f"{self.attempts} attempts, {self.counted} of them counted"
        return f"{self.status} after {attempts}, due at {self.due_ms} (ms)"

    @property
    def url(self) -> str:
        return self.job.url if self.address is None else self.address.url

    @property
    def event(self) -> str:
        return f"evt_{self.job.id.removeprefix('job_')}"


class Letters:
    """What is to be told, by what the scripts were asked and answered.

    `taken`: the events that a receiver has answered 2xx to, with its URL; `erased`: deliveries that were, sent or not;
    `secrets`: those that may sign what goes to an endpoint's URL, or (by the user) to jobs' own.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._box = SecretBox(PEPPER)
        self.all: dict[str, Letter] = {}
        self.addresses: dict[str, Address] = {}
        self.taken: set[tuple[str, str]] = set()
        self.erased: set[str] = set()
        self.secrets: defaultdict[str, set[str]] = defaultdict(set)

    def before(self, script: str, arguments: Sequence[Part]) -> object:
        """For what comes under a lease that is over: all there is, for nothing may change."""
        delivery_id, token = str(arguments[2]), str(arguments[3])
        head = self._head(delivery_id)
        return self._world.wire.dump(lives=True) if head is None or head.get("lt") != token else None

    def after(self, process: Process, script: str, arguments: Sequence[Part], reply: Any, now: int) -> None:
        """What a script did."""
        match script:
            case "deliveries_claim":
                self._claimed(process, reply, now)
            case "deliveries_prepare":
                self._prepared(arguments, reply)
            case "deliveries_settle":
                self._settled(arguments, reply, now)
            case "deliveries_redeliver":
                self._redelivered(arguments, reply, now)
            case "endpoints_create":
                who, endpoint_id, url, types = (str(part) for part in arguments[2:6])
                self.addresses.setdefault(endpoint_id, Address(endpoint_id, who, url, set(types.split())))
                self.secrets[url].add(self._box.open(str(arguments[7]), who))
            case "endpoints_change" if reply:
                fields = dict(zip(arguments[4::2], arguments[5::2], strict=True))
                self.addresses[str(arguments[3])].disabled = fields["disabled"] != ""
            case "endpoints_delete" if reply:
                self.addresses[str(arguments[3])].deleted = True
            case _:
                pass

    def late(self, script: str, arguments: Sequence[Part], reply: Any) -> None:
        """A settle or a body under a lease that is over: it is refused, unless it only says again what was said."""
        delivery_id, token = str(arguments[2]), str(arguments[3])
        self._world.note(f"{script} of {delivery_id} under {token} comes too late: {reply!r}")
        head = self._head(delivery_id)
        again = head is not None and "lt" not in head and head.get("lo") == token
        if script == "deliveries_settle" and reply != (b"settled" if again else b"lost"):
            self._fail(f"a {script} of {delivery_id} under the old token {token} was answered {reply!r}")

    def ended(self, job: Job) -> None:
        """A job's end can be seen: from this moment on whoever is to hear of it has a delivery, and nobody else."""
        assert job.end is not None
        kind, ulid, now = f"job.{job.end.state}", job.id.removeprefix("job_"), self._world.redis_ms()
        lanes = [job.lane] if job.url else self._wanting(job.user, kind)
        for place, lane in enumerate(lanes):
            made = f"dlv_{ulid}_{place}"
            kept_ms = now + SCHEDULE_MS + DAY_MS
            address = self.addresses.get(lane)
            self.all[made] = Letter(made, job, lane, now + SCHEDULE_MS, now, kept_ms, address)
            head = self._head(made)
            told = {
                "u": job.user,
                "j": job.id,
                "t": kind,
                "ev": f"evt_{ulid}",
                "l": lane,
                "st": "pending",
                "k": 0,
            }
            if head is None or {name: head.get(name) for name in told} != told:
                self._fail(f"{job.id} has {job.end.state}, and {lane} will be told {head}")
        if self._head(f"dlv_{ulid}_{len(lanes)}") is not None:
            self._fail(f"{job.id} has {job.end.state}, and more are told than {lanes}")

    def erase(self, job: Job) -> None:
        """A job is erased, and its deliveries with it, whatever they are at."""
        for name in [name for name, letter in self.all.items() if letter.job is job]:
            del self.all[name]
            self.erased.add(name)

    def audit(self, heads: Mapping[str, Mapping[str, Any]], jobs: Mapping[str, Any]) -> None:
        """Each is there and stands as is known; one that ended by itself had a reason."""
        now = self._world.redis_ms()
        for name, letter in self.all.items():
            head = heads.get(name)
            if head is None:
                if now + AGE_EVERY_MS < letter.kept_ms:
                    self._fail(f"{name}, which was {letter.status}, is gone before its time")
                continue
            if head["st"] == "failed" and letter.status == "pending":
                self._given_up(letter, now)
            if head["st"] != letter.status:
                self._fail(f"{name} is {head['st']}, and was {letter.status}")
            if head["st"] == "pending" and letter.job.id not in jobs:
                self._fail(f"{name} waits, and the record of its job is gone")
        for name in heads.keys() & self.erased:
            self._fail(f"{name} is still there, and its job was erased")

    def audit_at_rest(self, dead: frozenset[str]) -> None:
        """Whoever can be reached has all that was meant for him."""
        for name, letter in self.all.items():
            known = letter.address
            excused = letter.url in dead or (known is not None and (known.deleted or known.disabled))
            if letter.status == "pending" or (letter.status == "failed" and not excused):
                self._fail(f"{name} is {letter.status} when all is at rest")

    def _wanting(self, user: str, kind: str) -> list[str]:
        known = self.addresses.values()
        return sorted(
            one.id
            for one in known
            if one.user == user and kind in one.types and not one.disabled and not one.deleted
        )

    def _claimed(self, process: Process, reply: Any, now: int) -> None:
        for row in reply[2:]:
            name, token, head, body = row[0].decode(), row[1].decode(), json.loads(row[2]), row[3]
            letter = self.all.get(name)
            if letter is None:
                self._fail(f"{process.name} is given {name}, which tells of no end")
                continue
            if letter.token == token:
                letter.repeated += 1
                continue
            self._world.note(f"{process.name} has claimed {name} under {token}")
            if token in letter.tokens:
                self._fail(f"the lease token {token} was given twice")
            if letter.token is not None:
                # Its lease has ended: a sweep has noted that, and when it is due again.
                letter.attempts += 1
                letter.due_ms = head["due"]
                self._judge_loss(letter)
            if letter.status != "pending" or head["k"] != letter.attempts:
                self._fail(f"{name} is claimed as {head}, and was {letter!s}")
            if now < letter.due_ms:
                self._fail(f"{name} is claimed {letter.due_ms - now} ms before its time")
            if body != letter.body:
                self._fail(f"{name} is to send {body!r}, and has sent {letter.body!r}")
            letter.token, letter.holder, letter.repeated = token, process, 0
            letter.tokens.add(token)

    def _judge_loss(self, letter: Letter) -> None:
        """Nobody loses a lease but who died, was frozen or told to stop, or could not be heard again and again."""
        assert letter.holder is not None
        holder = letter.holder
        excused = holder.killed or holder.was_frozen or holder.told_to_stop or holder.renewals_lost
        if not excused and letter.repeated < 2:
            self._fail(f"{holder.name} was well, and yet {letter.id} was lost under {letter.token}")

    def _prepared(self, arguments: Sequence[Part], reply: Any) -> None:
        name, body = str(arguments[2]), arguments[4]
        letter = self.all[name]
        if reply[0] != b"ready":
            self._fail(f"{name} was prepared in time, and answered {reply}")
        letter.body = letter.body or (body if isinstance(body, bytes) else str(body).encode())
        if arguments[5]:
            self.secrets[letter.job.user].add(self._box.open(str(arguments[5]), letter.job.user))
        if reply[1] != letter.body:
            self._fail(f"{name} is to send {reply[1]!r}, and keeps {letter.body!r}")

    def _settled(self, arguments: Sequence[Part], reply: Any, now: int) -> None:
        name, outcome, code = str(arguments[2]), str(arguments[4]), arguments[5]
        letter = self.all[name]
        self._world.note(f"{name} is settled under {letter.token}: {outcome} {code!r}")
        if reply != b"settled":
            self._fail(f"a settle of {name} in time, under its own token, was answered {reply!r}")
        if (outcome == "delivered") != (code == 204):
            self._fail(f"{name} was answered {code!r}, and is noted as {outcome}")
        letter.token = None
        letter.attempts += 1
        head = self._head(name) or {}
        if outcome == "ours":
            letter.due_ms = head.get("due", now + OURS_MOST_MS)
        elif outcome == "delivered":
            if (letter.event, letter.url) not in self.taken:
                self._fail(f"{name} is noted as delivered, and {letter.url} has not taken it")
            letter.counted += 1
            letter.status, letter.kept_ms = "delivered", now + DELIVERED_KEPT_MS
        else:
            letter.counted += 1
            if outcome == "gone" and letter.address is not None:
                letter.address.disabled = True
            wait_ms: float = (
                1000 * WAITS_S[letter.counted - 1] if letter.counted <= len(WAITS_S) else SCHEDULE_MS
            )
            wait_ms = max(wait_ms * float(arguments[8]), float(arguments[7] or 0))
            letter.due_ms = int(now + wait_ms)
        if letter.status == "pending" and letter.due_ms >= letter.ends_ms:
            letter.status, letter.kept_ms = "failed", now + FAILED_KEPT_MS
        due_ms = letter.due_ms if letter.status == "pending" else None
        if (head.get("st"), head.get("due")) != (letter.status, due_ms):
            self._fail(f"{name} is {head} after its settle, and should be {letter!s}")

    def _redelivered(self, arguments: Sequence[Part], reply: Any, now: int) -> None:
        who, name, outcome = str(arguments[2]), str(arguments[3]), reply[0]
        letter = self.all.get(name)
        if outcome != b"pending":
            return
        if letter is None or letter.job.user != who:
            self._world.fail("apart", f"{who} lets {name} be sent, which is not his")
            return
        self._world.note(f"{who} lets {name} be sent again")
        head = json.loads(reply[1])
        if "lt" in head:
            return
        if letter.token is not None:
            # Its lease had ended, and nobody has claimed it since.
            letter.token, letter.attempts = None, letter.attempts + 1
        if letter.status == "pending" and head["x"] != letter.ends_ms:
            self._given_up(letter, now)
        if letter.status != "pending":
            letter.status, letter.counted = "pending", 0
            letter.ends_ms, letter.kept_ms = now + SCHEDULE_MS, now + SCHEDULE_MS + DAY_MS
        letter.due_ms = now

    def _given_up(self, letter: Letter, now: int) -> None:
        """It failed without an attempt that says so."""
        deleted = letter.address is not None and letter.address.deleted
        if not deleted and now < letter.ends_ms:
            self._fail(f"{letter.id} was given up {letter.ends_ms - now} ms before its schedule ends")
        letter.status, letter.token, letter.kept_ms = "failed", None, now + FAILED_KEPT_MS - SCHEDULE_MS

    def _head(self, name: str) -> dict[str, Any] | None:
        [stored] = self._world.wire.call(("HGET", f"delivery:{name}", "h"))
        found: dict[str, Any] | None = json.loads(stored) if stored else None
        return found

    def _fail(self, message: str) -> None:
        self._world.fail("webhooks", message)
