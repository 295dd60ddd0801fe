"""The real scripts on a real Valkey, with users, workers and provider in simulated time.

Calls end when their time has come, workers claim whenever a script could have woken them: minutes pass in seconds, and
the same seed gives the same run.
"""

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import redis

from jobs.codec import decode_claimed, decode_view, encode_charge, encode_head, encode_info
from jobs.config import Config
from jobs.publication import publication
from jobs.record import ClaimedJob, JobView, NewJob, Usage
from jobs.runner import job_script

START_MS = 1_800_000_000_000
LEASE_MS = 3_600_000
CLAIM_BYTES = 1 << 24
TIER = "open"
_EPOCH = "bench"

Answer = Callable[[ClaimedJob], tuple[int, int]]
"""What a call comes to: the tokens it used in all, and how long it took (ms)."""


class Line:
    """One server's jobs. Times in Unix ms, and only as told."""

    def __init__(self, url: str, config: Config, users: Iterable[str] = ()) -> None:
        self.redis = redis.Redis.from_url(url)
        self._scripts = {
            name: job_script(name) for name in ("submit", "claim", "settle", "read", "sweep", "publish")
        }
        self._sequence = itertools.count(1)
        self._made = itertools.count(1)
        self.submitted = 0
        self.redis.flushall()
        self.redis.set("epoch", _EPOCH)
        for script in self._scripts.values():
            self.redis.script_load(script.text)
        self._run([("publish", (START_MS, publication(config), config.digest()))])
        self.add_users(users)

    def add_users(self, users: Iterable[str], **limits: int) -> None:
        """Users on the tier without limits; `limits` are their own."""
        with self.redis.pipeline(transaction=False) as pipe:
            for user in users:
                pipe.hset(f"user:{user}", mapping={"tier": TIER, "created": START_MS, **limits})
            pipe.execute()

    def _run(self, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        with self.redis.pipeline(transaction=False) as pipe:
            for name, arguments in calls:
                pipe.evalsha(self._scripts[name].sha, 0, *arguments)
            return list(pipe.execute())

    def job(self, user: str, tokens: int, *, name: str = "m", prompt: int = 1, **fields: Any) -> NewJob:
        """A submission whose estimate is `tokens`."""
        return NewJob(
            id=f"job_{next(self._made):026d}", user=user, name=name, body=b"{}", prompt_tokens=prompt,
            output_tokens=tokens - prompt, **fields,
        )  # fmt: skip

    def submit(self, jobs: Sequence[NewJob], now_ms: int) -> list[JobView]:
        """All of them have to be accepted."""
        replies = self.load(jobs, now_ms)
        return [decode_view(reply[2].decode(), *reply[3:]) for reply in replies]

    def load(self, jobs: Sequence[NewJob], now_ms: int) -> list[Any]:
        """The same, with the script's own answers."""
        replies = self._run(
            [
                ("submit", (_EPOCH, now_ms, job.id, encode_head(job), encode_info(job), job.body, "", ""))
                for job in jobs
            ]
        )
        assert all(reply[0] == b"accepted" for reply in replies), replies
        self.submitted += len(jobs)
        return replies

    def claim(self, slots: int, now_ms: int, worker: str = "w") -> tuple[list[ClaimedJob], int]:
        """Jobs, and the ms after which there may be more."""
        [reply] = self._run(
            [("claim", (_EPOCH, now_ms, worker, next(self._sequence), slots, LEASE_MS, CLAIM_BYTES))]
        )
        return [decode_claimed(*row) for row in reply[2:]], reply[0]

    def settle(self, jobs: Sequence[tuple[ClaimedJob, int]], now_ms: int) -> None:
        """End each with what it used in all."""
        calls = []
        for job, used in jobs:
            charge = encode_charge(Usage(job.prompt_tokens, max(0, used - job.prompt_tokens), used))
            how = ("succeeded", charge, 0, "charged", "{}", "", 0, "", "")
            calls.append(("settle", (_EPOCH, now_ms, job.id, job.token, *how)))
        self._run(calls)

    def read(self, jobs: Sequence[tuple[str, str]], now_ms: int) -> list[JobView]:
        """Polls of (user, id)."""
        replies = self._run([("read", (_EPOCH, now_ms, user, job_id)) for user, job_id in jobs])
        return [decode_view(reply[1].decode(), *reply[2:]) for reply in replies]

    def sweep(self, now_ms: int) -> None:
        """What each process does once a second."""
        self._run([("sweep", (_EPOCH, now_ms, LEASE_MS))])

    def info(self, section: str) -> dict[str, Any]:
        """What the server tells of itself."""
        return cast(dict[str, Any], self.redis.info(section))

    def server_us(self, calls: Callable[[], object]) -> float:
        """CPU time of the server's main thread that the calls took, in µs."""
        stat = Path(f"/proc/{self.info('server')['process_id']}/schedstat")
        before = int(stat.read_text().split()[0])
        calls()
        return (int(stat.read_text().split()[0]) - before) / 1000

    def commands(self, calls: Callable[[], object]) -> int:
        """How many commands the calls ran inside the server, those of scripts included."""
        self.redis.config_resetstat()
        calls()
        stats = self.info("commandstats")
        return sum(
            of["calls"]
            for name, of in stats.items()
            if not name.startswith(("cmdstat_config", "cmdstat_info"))
        )


class Simulation:
    """A line whose workers have so many slots in all. `taken` and `ended` are told of each job, with the time."""

    def __init__(self, line: Line, answer: Answer, *, slots: int = 10_000) -> None:
        self.line = line
        self.now_ms = START_MS
        self.taken: Callable[[ClaimedJob], None] = lambda job: None
        self.ended: Callable[[ClaimedJob, int], None] = lambda job, used: None
        self._answer = answer
        self._free = slots
        self._order = itertools.count()
        self._events: list[tuple[int, int, Callable[[], None]]] = []

    def at(self, ms: int, do: Callable[[], None]) -> None:
        """Do something when the time has come."""
        heapq.heappush(self._events, (ms, next(self._order), do))

    def every(self, ms: int, do: Callable[[], None]) -> None:
        """Do something now and again and again."""

        def again() -> None:
            do()
            self.at(self.now_ms + ms, again)

        self.at(self.now_ms, again)

    def more(self, slots: int) -> None:
        """Workers with so many slots begin."""
        self._free += slots

    def run(self, until_ms: int) -> None:
        """Let time pass."""
        look_at = self.now_ms
        while self.now_ms < until_ms:
            self.now_ms = min(look_at, self._events[0][0] if self._events else look_at, until_ms)
            while self._events and self._events[0][0] <= self.now_ms:
                heapq.heappop(self._events)[2]()
            look_at = self.now_ms + self._claim()

    def _claim(self) -> int:
        while self._free > 0:
            submitted = self.line.submitted
            jobs, wait_ms = self.line.claim(min(self._free, 50), self.now_ms)
            for job in jobs:
                self._start(job)
            # What was submitted meanwhile has woken a worker.
            if len(jobs) < 50 and self.line.submitted == submitted:
                return max(1, wait_ms)
        return 1000

    def _start(self, job: ClaimedJob) -> None:
        self._free -= 1
        self.taken(job)
        used, took_ms = self._answer(job)

        def end() -> None:
            self._free += 1
            self.line.settle([(job, used)], self.now_ms)
            self.ended(job, used)

        self.at(self.now_ms + took_ms, end)
