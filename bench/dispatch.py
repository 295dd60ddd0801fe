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
        waits_ms = [(arrived[number] - at_s) * 1000 for number, at_s in accepted.items()]
        time.sleep(1)
        before_s = cpu_s(pid)
        with counted(line.redis_url) as counts:
            time.sleep(idle_s)
        # The API's sweep, once a second, is no call of the worker's.
        calls = sum(counts.values()) / idle_s - (1.0 if name == queues.PENSTOCK else 0.0)
        return Latency(
            percentile(waits_ms, 0.5), percentile(waits_ms, 0.99), calls, (cpu_s(pid) - before_s) / idle_s
        )


def measuring(name: str, jobs: int, idle_s: float) -> Callable[[], Awaitable[Latency]]:
    """The measurement as `interleaved` calls it."""
    return lambda: asyncio.to_thread(latency, name, jobs, idle_s)


def run(arguments: Arguments) -> Report:
    """The whole question."""
    report = Report("dispatch", "How long after its acceptance does a job reach the provider?")
    jobs, idle_s = (100, 4.0) if arguments.quick else (300, 10.0)
    variants = []
    for name in VARIANTS:
        try:
            if name in (queues.TASKIQ, queues.STREAQ):
                environment(name)
            variants.append(name)
        except PeerMissing as missing:
            report.note(f"{name} was not measured: {missing}")
    repetitions = 1 if arguments.quick else 3
    found = asyncio.run(
        interleaved(
            {name: measuring(name, jobs, idle_s) for name in variants}, repetitions=repetitions, warm_ups=0
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
        ["", "p50 ms", "p99 ms", "Redis calls/s of an idle worker", "its share of a core"],
        [[name, p50[name], p99[name], calls[name], cores[name]] for name in found],
    )
    report.bars("dispatch", "From acceptance to the provider, p50 in ms", p50)
    report.judge("p50_ms", p50[queues.PENSTOCK])
    report.judge("p99_ms", p99[queues.PENSTOCK])
    report.judge("idle_calls", calls[queues.PENSTOCK])
    report.judge("idle_cpu", cores[queues.PENSTOCK])
    report.note(
        "Penstock's jobs are accepted over HTTP (the 202), the others' by a call of their own client. All clocks are "
        "those of one machine. The API's sweep, once a second, is not counted as a call of the worker's."
    )


if __name__ == "__main__":
    chosen = parsed(__doc__)
    run(chosen).write(chosen.results)
