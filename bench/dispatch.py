"""How long after its acceptance a job reaches the provider, and what an idle worker costs.

    python -m bench.dispatch [--quick]

One job every 20 ms, at an idle worker: from the moment that the submitter has its answer (202, or that of the queue's
own client) to that in which the provider has read the request. Then nothing at all, for ten seconds.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench import provider, queues
from bench.arguments import Arguments, parsed
from bench.commands import counted
from bench.environments import PeerMissing, environment
from bench.figures import Spread, interleaved, percentile
from bench.processes import cpu_s
from bench.report import Report
from bench.worker import answering, until_came, url_of

VARIANTS = (
    queues.PENSTOCK,
    queues.TASKIQ,
    queues.STREAQ,
    queues.ARQ_WRITTEN,
    queues.ARQ_DEFAULT,
)
GAP_S = 0.02
WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Latency:
    """Of one run, in ms, and of the worker when it has nothing to do."""

    p50_ms: float
    p99_ms: float
    from_call_p50_ms: float
    from_call_p99_ms: float
    idle_calls_per_s: float
    idle_cores: float


def latency(name: str, jobs: int, idle_s: float) -> Latency:
    """One run of one queue."""
    with answering() as port, queues.queue(name, url_of(port)) as line, line.working() as pid:
        line.submit(WARM_UP)
        until_came(port, WARM_UP)
        provider.arrivals(port)
        accepted = line.submit(jobs, first=WARM_UP, gap_s=GAP_S)
        until_came(port, jobs)
        arrived = dict(provider.arrivals(port))
        waits_ms = [(arrived[job.number] - job.accepted_s) * 1000 for job in accepted]
        from_call_ms = [(arrived[job.number] - job.begun_s) * 1000 for job in accepted]
        time.sleep(1)
        before_s = cpu_s(pid)
        with counted(line.redis_url, but_for="penstock-api") as counts:
            time.sleep(idle_s)
        return Latency(
            percentile(waits_ms, 0.5), percentile(waits_ms, 0.99),
            percentile(from_call_ms, 0.5), percentile(from_call_ms, 0.99),
            sum(counts.values()) / idle_s, (cpu_s(pid) - before_s) / idle_s,
        )  # fmt: skip


def measuring(name: str, jobs: int, idle_s: float) -> Callable[[], Awaitable[Latency]]:
    """The measurement as `interleaved` calls it."""
    return lambda: asyncio.to_thread(latency, name, jobs, idle_s)


def run(arguments: Arguments) -> Report:
    """The whole question."""
    report = Report("dispatch", "How long after its acceptance does a job reach the provider?")
    jobs, idle_s = (100, 4.0) if arguments.quick else (200, 6.0)
    variants = []
    for name in VARIANTS:
        try:
            if name in (queues.TASKIQ, queues.STREAQ):
                environment(name)
            variants.append(name)
        except PeerMissing as missing:
            report.note(f"{name} was not measured: {missing}")
    found = asyncio.run(
        interleaved(
            {name: measuring(name, jobs, idle_s) for name in variants},
            repetitions=arguments.repetitions,
            warm_ups=0,
        )
    )
    _tell(report, found)
    return report


def _tell(report: Report, found: dict[str, list[Latency]]) -> None:
    p50 = {name: Spread.of([one.p50_ms for one in runs]) for name, runs in found.items()}
    p99 = {name: Spread.of([one.p99_ms for one in runs]) for name, runs in found.items()}
    calls = {name: Spread.of([one.idle_calls_per_s for one in runs]) for name, runs in found.items()}
    cores = {name: Spread.of([one.idle_cores for one in runs]) for name, runs in found.items()}
    report.table(
        "One job every 20 ms; then none",
        ["", "p50 ms", "p99 ms", "from the call: p50 ms", "p99 ms", "idle: Redis calls/s", "share of a core"],
        [
            [
                name,
                p50[name],
                p99[name],
                Spread.of([one.from_call_p50_ms for one in runs]),
                Spread.of([one.from_call_p99_ms for one in runs]),
                calls[name],
                cores[name],
            ]
            for name, runs in found.items()
        ],
    )
    report.bars("dispatch", "From acceptance to the provider, p50 in ms", p50)
    report.judge("p50_ms", p50[queues.PENSTOCK])
    report.judge("p99_ms", p99[queues.PENSTOCK])
    report.judge("idle_calls", calls[queues.PENSTOCK])
    report.judge("idle_cpu", cores[queues.PENSTOCK])
    report.note(
        "Penstock's jobs are accepted over HTTP (the 202), the others' by a call of their own client. All clocks are "
        "those of one machine. An acceptance may be read after the job has begun: from the call is counted, too, what "
        "it took to be accepted. Idle calls and processor are those of the worker alone."
    )


if __name__ == "__main__":
    chosen = parsed(__doc__, repetitions=3)
    run(chosen).write(chosen.results)
