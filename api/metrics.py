"""The metrics of docs/metrics.md from the figures in Redis, for prometheus-client to write out. None names a user."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from jobs.figures import NO_TIER, Figures, Histogram, PoolFigures
from jobs.scaling import Advice

WAITS_FOR: Final = (
    "none", "not_before", "user_budget", "provider_tokens", "provider_requests", "provider_paused", "concurrency",
    "backoff",
)  # fmt: skip
"""The values of `blocked_on`; none: about to start."""
OUTCOMES: Final = ("delivered", "retried", "failed")
TOKEN_TYPES: Final = ("prompt", "completion", "cached")


def exposition(figures: Figures, advice: Advice, *, version: str, accept: str) -> tuple[bytes, str]:
    """The body and its content type, in the format that `accept` asks for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot([*_metrics(figures, advice, version)]))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Snapshot(Collector):
    """Metrics that were read before: prometheus-client collects without waiting for anything."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _metrics(figures: Figures, advice: Advice, version: str) -> Iterator[Metric]:
    yield from _jobs(figures)
    yield from _queue(figures)
    yield _histogram(
        "queue_wait_seconds", "From submission, or not_before, to the first start.", figures.waits
    )
    yield _histogram(
        "provider_request_duration_seconds", "Of an attempt: from its claim to its outcome.", figures.calls
    )
    yield _histogram("job_duration_seconds", "From submission to the end.", figures.jobs)
    yield from _providers(figures)
    yield from _tokens(figures)
    yield from _fleet(figures, advice)
    yield _gauge("build_info", "1, with the version that answers.", ("version",), {(version,): 1})


def _counter(
    name: str, told: str, labels: tuple[str, ...], totals: Mapping[tuple[str, ...], float]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"penstock_{name}", told, labels=labels)
    for values, total in sorted(totals.items()):
        family.add_metric(values, total)
    return family


def _gauge(
    name: str, told: str, labels: tuple[str, ...], numbers: Mapping[tuple[str, ...], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"penstock_{name}", told, labels=labels)
    for values, number in numbers.items():
        family.add_metric(values, number)
    return family


def _histogram(name: str, told: str, observed: Histogram) -> HistogramMetricFamily:
    bounds = [*(f"{bound:g}" for bound in observed.bounds_s), "+Inf"]
    family = HistogramMetricFamily(f"penstock_{name}", told)
    family.add_metric(
        (), list(zip(bounds, map(float, accumulate(observed.counts)), strict=True)), observed.sum_s
    )
    return family


def _with_tier(totals: Mapping[tuple[str, ...], int]) -> dict[tuple[str, ...], int]:
    return {("" if tier == NO_TIER else tier, *rest): total for (tier, *rest), total in totals.items()}


def _jobs(figures: Figures) -> Iterator[Metric]:
    submitted, finished, rejected = (
        _with_tier(figures.labelled(what)) for what in ("submitted", "finished", "rejected")
    )
    yield _counter("jobs_submitted", "Jobs that were accepted.", ("tier", "model"), submitted)
    yield _counter("jobs_finished", "Jobs that have ended, by how.", ("tier", "model", "status"), finished)
    yield _counter("jobs_rejected", "Submissions that were refused, by code.", ("tier", "reason"), rejected)


def _queue(figures: Figures) -> Iterator[Metric]:
    pools = [pool.pool for pool in figures.pools]
    jobs: dict[tuple[str, ...], float] = {(pool, reason): 0 for pool in pools for reason in WAITS_FOR}
    tokens: dict[tuple[str, ...], float] = {(pool,): 0 for pool in pools}
    ages: dict[tuple[str, ...], float] = {(pool,): 0 for pool in pools}
    for name in figures.names:
        first = name.pools[0]
        tokens[first,] += name.tokens
        if name.oldest_ms is not None:
            ages[first,] = max(ages[first,], (figures.now_ms - name.oldest_ms) / 1000)
        waiting = {**name.due_jobs, **name.parked_jobs}
        waiting[name.waits_for] = waiting.get(name.waits_for, 0) + name.ready_jobs
        for reason, number in waiting.items():
            jobs[first, reason] += number
    yield _gauge("queue_jobs", "Jobs that wait, by what they wait for.", ("pool", "blocked_on"), jobs)
    yield _gauge("queue_tokens", "Estimated tokens of the jobs that wait.", ("pool",), tokens)
    yield _gauge("queue_oldest_age_seconds", "Age of the oldest job that waits.", ("pool",), ages)


def _providers(figures: Figures) -> Iterator[Metric]:
    limits: dict[tuple[str, ...], float] = {}
    left: dict[tuple[str, ...], float] = {}
    reserved: dict[tuple[str, ...], float] = {}
    for pool in figures.pools:
        reserved[pool.pool,] = pool.scopes[-1].tokens_in_flight
        limited = _token_limits(pool)
        if limited:
            limits[pool.pool,] = min(limit for limit, _ in limited)
            left[pool.pool,] = max(0, min(free for _, free in limited))
    yield _gauge("provider_limit_tokens", "Tokens a minute that are in force.", ("pool",), limits)
    yield _gauge("provider_available_tokens", "Tokens free in the window now.", ("pool",), left)
    yield _gauge("provider_reserved_tokens", "Tokens held for calls under way.", ("pool",), reserved)
    throttled = {(pool.pool,): 0 for pool in figures.pools} | figures.labelled("throttled")
    yield _counter("provider_throttled", "Answers 429 of the provider.", ("pool",), throttled)


def _token_limits(pool: PoolFigures) -> list[tuple[int, int]]:
    """Of each window that limits tokens: the limit, and what is free."""
    return [
        (limit, limit - scope.tokens_charged - scope.tokens_in_flight)
        for scope in pool.scopes
        if (limit := scope.tokens_in_force) is not None
    ]


def _tokens(figures: Figures) -> Iterator[Metric]:
    by_type = {
        (*model, kind): total for kind in TOKEN_TYPES for model, total in figures.labelled(kind).items()
    }
    yield _counter(
        "tokens", "Tokens charged to users; cached ones are prompt too.", ("model", "type"), by_type
    )
    for name, what, told in (
        ("reservation_refunded_tokens", "refunded", "Tokens held for jobs that did not take them."),
        ("reservation_overrun_tokens", "overrun", "Tokens that jobs took beyond what was held for them."),
        ("lost_attempt_tokens", "lost", "Estimated tokens of attempts whose answer nobody received."),
    ):
        yield _counter(name, told, (), {(): 0, **figures.labelled(what)})


def _fleet(figures: Figures, advice: Advice) -> Iterator[Metric]:
    outcomes = {(outcome,): 0 for outcome in OUTCOMES} | figures.labelled("delivery")
    yield _counter(
        "webhook_deliveries", "Attempts to deliver webhooks, by what came of them.", ("outcome",), outcomes
    )
    busy = sum(worker.running for worker in figures.workers)
    slots: dict[tuple[str, ...], float] = {
        ("busy",): busy,
        ("free",): max(0, sum(worker.slots for worker in figures.workers) - busy),
    }
    yield _gauge("workers", "Workers that live.", (), {(): advice.current})
    yield _gauge("worker_slots", "Slots of the workers.", ("state",), slots)
    yield _gauge("workers_recommended", "Workers worth running now.", (), {(): advice.recommended})
