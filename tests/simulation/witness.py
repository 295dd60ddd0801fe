"""Sees every script run and judges on the spot what can be judged there: claims, fencing, ends that change."""

import json
from collections.abc import Sequence
from typing import Any

from jobs.codec import decode_limits
from tests.jobs.builders import day_of
from tests.simulation.facts import End, Job, Turn
from tests.simulation.letters import Letters
from tests.simulation.provider import Attempt
from tests.simulation.verdict import judge_end, judge_write
from tests.simulation.wire import Part
from tests.simulation.world import AGE_EVERY_MS, Process, World

LEAST_PAUSE_MS = 1000
"""The shortest pause after a 429."""
FIRST_PROBE_MS = 30_000
"""The shortest pause after an alarm."""
ALARM_FORGOTTEN_MS = 1_200_000 - 2 * AGE_EVERY_MS
"""How long after its pause an alarm is certainly remembered when no job was tried."""


CLAIM_FORGOTTEN_MS = 600_000 - 2 * AGE_EVERY_MS
"""How long a claim is certainly remembered."""


class Watch:
    """The world's witness. `jobs`: all that were accepted; `letters`: what is told of their ends.

    `progress` counts what moved a job.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.letters = Letters(world)
        self.jobs: dict[str, Job] = {}
        self.turns: dict[str, Turn] = {}
        self.progress = 0
        self._keys: dict[tuple[str, str], str] = {}
        self._claims: dict[tuple[str, str], tuple[set[str], int]] = {}
        self._paused_until: dict[str, tuple[int, bool]] = {}
        self._heard_ms: int | None = None

    def overtaken(self, process: Process) -> bool:
        """Whether a job that the process had claimed and not given up runs elsewhere."""
        return any(
            turn.process is process and not turn.closed_by and not job.turns[-1].closed_by
            for job in self.unfinished
            for turn in job.turns[:-1]
        )

    @property
    def unfinished(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.end is None]

    def before(self, script: str, arguments: Sequence[Part]) -> object:
        """For a settle or a put-back that comes too late: all there is, for nothing may change."""
        if script in ("deliveries_prepare", "deliveries_settle"):
            return self.letters.before(script, arguments)
        if script not in ("settle", "retry"):
            return None
        job_id, token = str(arguments[2]), str(arguments[3])
        [stored] = self._world.wire.call(("HGET", f"job:{job_id}", "h"))
        head = json.loads(stored) if stored else {}
        late = head.get("st") != "running" or head.get("lt") != token
        return self._world.wire.dump(lives=True) if late else None

    def after(
        self, process: Process, script: str, arguments: Sequence[Part], reply: Any, noted: object
    ) -> None:
        now = int(arguments[0 if script == "publish" else 1]) if script not in _WITHOUT_TIME else 0
        if script in ("claim", "renew", "sweep"):
            self._silence(script, arguments, now)
        match script:
            case "submit":
                self._submitted(arguments, reply, now)
            case "claim":
                self._claimed(process, arguments, reply, now)
            case "settle" | "retry":
                if noted is None:
                    self._closed(script, arguments, reply, now)
                else:
                    self._came_late(process, script, arguments, reply, noted)
            case "renew":
                self._renewed(arguments, reply, now)
            case "cancel":
                self._cancelled(arguments, reply, now)
            case "erase":
                self._erased(arguments, reply)
            case "read":
                self._read(arguments, reply)
            case "deliveries_prepare" | "deliveries_settle" if noted is not None:
                self.letters.late(script, arguments, reply)
                self._changed_nothing(script, arguments, noted)
            case _:
                self.letters.after(process, script, arguments, reply, now)

    def ended(self, job_id: str) -> None:
        """A job's end was published: once, and from now on nothing of it changes."""
        job = self.jobs.get(job_id)
        if job is None:
            self._world.fail("durable", f"{job_id} ended, which nobody was told was accepted")
            return
        if job.end is not None:
            self._world.fail("final", f"{job_id} ended twice: {job.end.state}, then again")
            return
        self.progress += 1
        stored = self.stored(job_id)
        head = json.loads(stored[0] or b"{}")
        error = json.loads(stored[2]) if stored[2] else None
        job.end = End(self._world.redis_ms(), head, stored[1], error, stored)
        self._world.note(f"{job_id} has {job.end.state} {job.end.code}")
        judge_end(self._world, job)
        if self._world.plan.hooks is not None:
            self.letters.ended(job)

    def stored(self, job_id: str) -> tuple[bytes | None, ...]:
        """Record, result and error as they are in Redis now."""
        [values] = self._world.wire.call(("HMGET", f"job:{job_id}", "h", "r", "e"))
        return tuple(values)

    def forgotten(self, job: Job) -> bool:
        """Whether the job's record may be gone: erased, or kept for as long as was configured."""
        if job.erased:
            return True
        kept_ms = self._world.plan.config.retention.jobs_s * 1000
        return job.end is not None and self._world.redis_ms() + AGE_EVERY_MS >= job.end.at_ms + kept_ms

    def written(self, attempt: Attempt) -> None:
        """A worker sends a job."""
        turn = self.turns[attempt.token]
        judge_write(self._world, self.jobs[attempt.job], turn, attempt)
        turn.attempt = attempt

    def _submitted(self, arguments: Sequence[Part], reply: Any, now: int) -> None:
        job_id, head, digest, payload = (
            str(arguments[2]), json.loads(str(arguments[3])), str(arguments[6]), str(arguments[7])
        )  # fmt: skip
        who, estimate = head["u"], head["et"]
        outcome, limits = reply[0].decode(), decode_limits(who, reply[1])
        known = self.jobs.get(self._keys.get((who, digest), "")) if digest else None
        if outcome == "accepted":
            if job_id in self.jobs:
                return
            if known is not None and not self.forgotten(known):
                self._world.fail("once per key", f"{job_id} was made though {known.id} has the same key")
            due_ms = max(now, head.get("nb", 0))
            self.jobs[job_id] = Job(
                job_id, who, head["n"], head["pt"], head["ot"], head["rt"], bool(head.get("w")), digest, payload,
                now, now + head["x"], day_of(due_ms), head.get("wu", ""), head.get("wl", ""),
            )  # fmt: skip
            if digest:
                self._keys[who, digest] = job_id
            self.progress += 1
            self._world.note(f"{job_id} of {who} is accepted: {arguments[3]!s} {digest[:4]}")
            return
        self._world.note(f"{job_id} of {who} is answered {outcome}")
        if outcome == "replayed":
            if known is None or reply[2].decode() != known.id:
                self._world.fail(
                    "once per key", f"{job_id} was answered with {reply[2].decode()}, not {known}"
                )
        elif outcome == "idempotency_key_reused":
            if known is None or known.payload == payload:
                self._world.fail("once per key", f"{job_id} was refused for its key, known for {known}")
        elif outcome == "budget_exhausted":
            same_day = day_of(max(now, head.get("nb", 0))) == day_of(now)
            taken = limits.tokens_used + limits.tokens_reserved
            alone = not who.startswith("ip:")
            if (
                same_day
                and alone
                and (limits.tokens_limit is None or taken + estimate <= limits.tokens_limit)
            ):
                self._world.fail(
                    "budget", f"{job_id} of {estimate} tokens was refused with room for it: {limits}"
                )
        elif outcome == "queue_full":
            jobs, tokens = limits.max_queued_jobs, limits.max_queued_tokens
            if not (
                (jobs is not None and limits.queued_jobs + 1 > jobs)
                or (tokens is not None and limits.queued_tokens + estimate > tokens)
            ):
                self._world.fail("budget", f"{job_id} was refused by a queue that is not full: {limits}")

    def _claimed(self, process: Process, arguments: Sequence[Part], reply: Any, now: int) -> None:
        worker, sequence, slots = str(arguments[2]), str(arguments[3]), int(arguments[4])
        rows = [(row[0].decode(), row[1].decode(), row[2].decode()) for row in reply[2:]]
        tokens = {token for _, token, _ in rows}
        again, at_ms = self._claims.get((worker, sequence), (None, now))
        if now > at_ms + CLAIM_FORGOTTEN_MS:
            again = None
        if again is not None and not tokens <= again:
            self._world.fail("repeatable", f"claim {sequence} of {worker}, repeated, gave other jobs")
        if int(reply[0]) < 1 and len(rows) < slots:
            # For BLPOP, 0 is for ever.
            self._world.fail("repeatable", f"{worker} is told to wait {reply[0]} ms")
        if again is None and len(rows) > slots:
            self._world.fail("repeatable", f"{worker} got {len(rows)} jobs for {slots} slots")
        if again is not None:
            for token in tokens & again:
                self.turns[token].repeated += 1
            return
        if rows:
            self._claims[worker, sequence] = tokens, now
        for job_id, token, pool in rows:
            self._world.note(f"{worker} has claimed {job_id} under {token} for {pool}")
            self.progress += 1
            job = self.jobs[job_id]
            if job.end is not None:
                self._world.fail("final", f"{job_id} was claimed after its end")
            if job.asked_ms is not None:
                self._world.fail("final", f"{job_id} was claimed again after it had been asked to end")
            if token in self.turns:
                self._world.fail("fenced", f"the lease token {token} was given twice")
            if now >= job.expires_ms:
                self._world.fail("final", f"{job_id} was claimed after it had expired")
            until, alarm = self._paused_until.get(pool, (0, False))
            alarm = alarm and now < until + ALARM_FORGOTTEN_MS
            if now < until:
                self._world.fail("paused", f"{job_id} was claimed for {pool}, which is paused until {until}")
            if alarm:
                self._paused_until[pool] = (now + FIRST_PROBE_MS, True)
            self.turns[token] = Turn(
                token, pool, process, self._world.loop.now_s, day_of(now), now + self._world.plan.lease_ms
            )
            job.turns.append(self.turns[token])

    def _closed(self, script: str, arguments: Sequence[Part], reply: Any, now: int) -> None:
        job_id, turn = str(arguments[2]), self.turns[str(arguments[3])]
        outcome = reply.decode()
        if outcome == "lost":
            self._world.fail(
                "fenced", f"a {script} of {job_id} in time, under its own token, was answered lost"
            )
        self.progress += 1
        turn.closed_by = script
        if script == "settle":
            turn.how, turn.charged = str(arguments[7]), arguments[5] != ""
            turn.asked = arguments[4] == "asked"
            pause = arguments[11]
            if arguments[4] == "succeeded" and self._paused_until.get(turn.pool, (0, False))[1]:
                del self._paused_until[turn.pool]
        else:
            turn.how, turn.back = str(arguments[6]), outcome == "queued"
            turn.counted = not turn.back or str(arguments[5]) == "1"
            pause = arguments[8]
        self._world.note(f"{script} of {job_id} under {turn.token}: {turn.how}, {outcome}")
        said = json.loads(str(pause)) if pause else {"ms": 0, "alarm": False}
        fate = turn.attempt.fate if turn.attempt is not None and turn.attempt.delivered else "ok"
        alarm = bool(said["alarm"]) or fate in ("unauthorized", "quota")
        ms = FIRST_PROBE_MS if alarm else max(int(said["ms"]), LEAST_PAUSE_MS if fate == "throttled" else 0)
        until, alarmed = self._paused_until.get(turn.pool, (0, False))
        if ms and not (alarm and alarmed):
            self._paused_until[turn.pool] = (max(until, now + ms), alarmed or alarm)

    def _came_late(
        self, process: Process, script: str, arguments: Sequence[Part], reply: Any, before: object
    ) -> None:
        job_id, token = str(arguments[2]), str(arguments[3])
        self._world.note(f"{process.name}: {script} of {job_id} under {token} comes too late: {reply!r}")
        self._changed_nothing(script, arguments, before)

    def _changed_nothing(self, script: str, arguments: Sequence[Part], before: object) -> None:
        assert isinstance(before, dict)
        after = self._world.wire.dump()
        # What was about to end by Valkey's own clock may have ended meanwhile; nothing else may be gone.
        lasting = {key for key, (_, left_ms, _) in before.items() if left_ms == -1 or left_ms > 5000}
        altered = any(key not in before or before[key][::2] != kept[::2] for key, kept in after.items())
        if altered or not lasting <= after.keys():
            held, token = arguments[2:4]
            self._world.fail(
                "fenced", f"a {script} of {held!s} under {token!s}, which is over, changed something"
            )

    def _silence(self, script: str, arguments: Sequence[Part], now: int) -> None:
        """Leases run on by as long as nobody was heard, and no more."""
        plan, passed = self._world.plan, 0 if self._heard_ms is None else now - self._heard_ms
        if passed > plan.lease_ms / 2:
            slack_ms = plan.clock_slack_s * 1000
            renewed = {str(lease).encode() for lease in arguments[6:]} if script == "renew" else set()
            [kept] = self._world.wire.call(("ZRANGE", "leases", 0, -1, "WITHSCORES"))
            for lease, ends_ms in kept:
                turn = self.turns.get(lease.decode().split(" ", 1)[1])
                if turn is None or lease in renewed:
                    continue
                if int(ends_ms) > turn.leased_until_ms + passed + slack_ms:
                    over_ms = int(ends_ms) - turn.leased_until_ms
                    self._world.fail("leases", f"{turn.token} got {over_ms} ms for a silence of {passed} ms")
        if script != "sweep":
            self._heard_ms = now
            if passed > plan.lease_ms / 2:
                for turn in self.turns.values():
                    turn.leased_until_ms += passed

    def _renewed(self, arguments: Sequence[Part], reply: Any, now: int) -> None:
        lost = {token.decode() for token in reply[0]}
        for lease in arguments[6:]:
            job_id, token = str(lease).split(" ", 1)
            if job_id.startswith("dlv_"):
                continue
            job = self.jobs[job_id]
            if token not in lost:
                self.turns[token].leased_until_ms = now + self._world.plan.lease_ms
            over = job.end is not None or job.turns[-1].token != token or bool(job.turns[-1].closed_by)
            if over and token not in lost:
                self._world.fail("fenced", f"the lease of {job_id} under {token} was renewed after its end")

    def _cancelled(self, arguments: Sequence[Part], reply: Any, now: int) -> None:
        who, job_id, outcome = str(arguments[2]), str(arguments[3]), reply[0].decode()
        self._world.note(f"{who} cancels {job_id}: {outcome}")
        job = self.jobs.get(job_id)
        if job is None or job.user != who:
            if outcome != "not_found":
                self._world.fail("apart", f"{who} was told {outcome} of {job_id}, which is not his")
            return
        if outcome in ("cancelled", "requested"):
            job.asked_ms = now
        if outcome == "not_found" and not self.forgotten(job):
            self._world.fail("durable", f"{job_id} is gone")
        if outcome == "requested" and job.end is not None:
            self._world.fail("final", f"{job_id}, which had ended, was asked to stop")

    def _erased(self, arguments: Sequence[Part], reply: Any) -> None:
        who, job_id, outcome = str(arguments[2]), str(arguments[3]), reply[0].decode()
        job = self.jobs.get(job_id)
        if outcome == "erased":
            self._world.note(f"{who} erases {job_id}")
            if job is None or job.user != who:
                self._world.fail("apart", f"{who} erased {job_id}, which is not his")
            elif job.end is None:
                self._world.fail("durable", f"{job_id} was erased before its end")
            else:
                job.erased = True
                self.letters.erase(job)

    def _read(self, arguments: Sequence[Part], reply: Any) -> None:
        who, job_id = str(arguments[2]), str(arguments[3])
        job = self.jobs.get(job_id)
        if len(reply) == 1:
            if job is not None and job.user == who and not self.forgotten(job):
                self._world.fail("durable", f"{who} reads {job_id} and finds nothing")
        elif job is None or job.user != who:
            self._world.fail("apart", f"{who} reads {job_id}, which is not his")
        elif job.end is not None and (reply[2], reply[4], reply[5]) != job.end.stored:
            self._world.fail("final", f"{who} reads {reply} of {job_id}, which ended as {job.end}")


_WITHOUT_TIME = frozenset(
    {
        "goodbye",
        "users_create",
        "users_change",
        "users_put_key",
        "users_expire_key",
        "users_revoke_key",
        "users_touch_key",
    }
)
