"""How many jobs one worker process does, and what one costs, beside arq, streaq and taskiq.

    python -m bench.worker [--quick]

The queue is filled, then one worker with 100 slots is started; the provider answers at once. The rate is that between
the 10th and the 90th of a hundred requests that reach the provider. Then 500 calls of a second each are kept in flight.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench import provider, queues
from bench.arguments import Arguments, parsed
from bench.commands import counted
from bench.environments import PeerMissing
from bench.figures import Spread, interleaved
from bench.processes import cpu_s, free_port, module, resident_bytes, running
from bench.report import Report

VARIANTS = (queues.PENSTOCK, queues.ARQ_WRITTEN, queues.ARQ_SAME, queues.STREAQ, queues.TASKIQ)
IN_FLIGHT = 500
PATIENCE_S = 240.0


@dataclass(frozen=True, slots=True)
class Throughput:
    """Of one worker: jobs a second, and microseconds of its processor a job."""

    jobs_per_s: float
    cpu_us: float


@dataclass(frozen=True, slots=True)
class InFlight:
    """With many calls under way: the share of a core, jobs a second, and bytes of memory a job."""

    cores: float
    jobs_per_s: float
    bytes_per_job: float


@contextmanager
def answering(latency_s: float = 0.0) -> Iterator[int]:
    """The port of a provider."""
    port = free_port()
    with running(module("bench.provider", "--port", str(port), "--latency", str(latency_s)), port=port):
        yield port


def url_of(port: int) -> str:
    """What a client of the provider is told."""
    return f"http://127.0.0.1:{port}/v1"


def until_came(port: int, jobs: int) -> None:
    """Returns when that many requests have come. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_S
    while provider.count(port)[0] < jobs:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{provider.count(port)[0]} of {jobs} jobs came within {PATIENCE_S:g} s")
        time.sleep(0.02)


def throughput(name: str, jobs: int) -> Throughput:
    """One run of one queue."""
    with answering() as port, queues.queue(name, url_of(port)) as line:
        line.submit(jobs)
        with line.working() as pid:
            until_came(port, jobs // 10)
            before_s, before_jobs = cpu_s(pid), provider.count(port)[0]
            until_came(port, jobs * 9 // 10)
            took_s, took_jobs = cpu_s(pid) - before_s, provider.count(port)[0] - before_jobs
            until_came(port, jobs)
            times = sorted(at_s for _, at_s in provider.arrivals(port))
            first, last = jobs // 10, jobs * 9 // 10
            return Throughput((last - first) / (times[last] - times[first]), took_s / took_jobs * 1e6)


def commands(name: str, jobs: int) -> float:
    """Commands that went to Redis for a job, from its submission to its end, by all clients."""
    with answering() as port, queues.queue(name, url_of(port)) as line, line.working():
        line.submit(10)
        until_came(port, 10)
        time.sleep(1)
        with counted(line.redis_url) as counts:
            line.submit(jobs, first=10)
            until_came(port, jobs + 10)
            time.sleep(0.5)
        return sum(counts.values()) / jobs


def in_flight(jobs: int) -> InFlight:
    """One run of Penstock with 500 slots and calls of a second."""
    with answering(1.0) as port, queues.queue(queues.PENSTOCK, url_of(port), slots=IN_FLIGHT) as line:
        with line.working() as pid:
            line.submit(1)
            until_came(port, 1)
            time.sleep(1.5)
            idle_bytes = resident_bytes(pid)
        provider.arrivals(port)
        line.submit(jobs)
        with line.working() as pid:
            until_came(port, jobs // 4)
            before_s, began_s = cpu_s(pid), time.monotonic()
            before_jobs = provider.count(port)[0]
            most_bytes = resident_bytes(pid)
            until_came(port, jobs * 3 // 4)
            took_s = time.monotonic() - began_s
            cores = (cpu_s(pid) - before_s) / took_s
            rate = (provider.count(port)[0] - before_jobs) / took_s
            return InFlight(cores, rate, (max(most_bytes, resident_bytes(pid)) - idle_bytes) / IN_FLIGHT)


def measuring(name: str, jobs: int) -> Callable[[], Awaitable[Throughput]]:
    """The measurement as `interleaved` calls it."""
    return lambda: asyncio.to_thread(throughput, name, jobs)


def run(arguments: Arguments) -> Report:
    """The whole question."""
    report = Report("worker", "How many jobs does one worker process do, and what does a job cost?")
    jobs = 1000 if arguments.quick else 2000
    variants: list[str] = []
    sent: dict[str, float] = {}
    for name in VARIANTS:
        try:
            sent[name] = commands(name, 300)
            variants.append(name)
        except PeerMissing as missing:
            report.note(f"{name} was not measured: {missing}")
    found = asyncio.run(
        interleaved(
            {name: measuring(name, jobs) for name in variants}, repetitions=arguments.repetitions, warm_ups=0
        )
    )
    flights = [in_flight(IN_FLIGHT * (4 if arguments.quick else 10)) for _ in range(arguments.repetitions)]
    _tell(report, found, sent, flights)
    return report


def _tell(
    report: Report, found: dict[str, list[Throughput]], sent: dict[str, float], flights: list[InFlight]
) -> None:
    rates = {name: Spread.of([one.jobs_per_s for one in runs]) for name, runs in found.items()}
    ours = rates[queues.PENSTOCK]
    report.table(
        "One worker, 100 slots, a provider that answers at once",
        ["", "jobs/s", "penstock is × that", "CPU µs a job", "Redis commands a job"],
        [
            [name, rates[name], ours.over(rates[name]), Spread.of([one.cpu_us for one in runs]), sent[name]]
            for name, runs in found.items()
        ],
    )
    cores = Spread.of([one.cores for one in flights])
    report.table(
        f"One worker, {IN_FLIGHT} slots, calls of 1 s",
        ["", "share of a core", "jobs/s", "KB of memory a job"],
        [
            [
                "penstock", cores, Spread.of([one.jobs_per_s for one in flights]),
                Spread.of([one.bytes_per_job / 1000 for one in flights]),
            ]
        ],
    )  # fmt: skip
    report.bars("worker", "Jobs a second, one worker process, 100 slots", rates)
    report.judge("jobs_of_arq_as_written", ours.over(rates[queues.ARQ_WRITTEN]))
    report.judge("jobs_of_arq_same_call", ours.over(rates[queues.ARQ_SAME]))
    report.judge("round_trips", sent[queues.PENSTOCK])
    report.judge("cpu_of_500_in_flight", cores)
    report.note(
        "Commands are those of all clients of Redis, from the submission to the end of a job; each of Penstock's is "
        "one round trip. arq as written polls every 10 ms and calls `chat.completions.create`; with the same call it "
        "makes that of Penstock's worker. streaq and taskiq make the bare HTTP call by aiohttp, without openai's SDK, "
        "with none of its checks; taskiq's list loses the jobs that a killed worker has popped."
    )


if __name__ == "__main__":
    chosen = parsed(__doc__, repetitions=3)
    run(chosen).write(chosen.results)
