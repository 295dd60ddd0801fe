"""/v1/scaling and /metrics: who may read them, and that what they say is what happened."""

from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from api.openapi.document import SCHEMAS
from jobs.claims import PoolPause
from tests.api.harness import ADMIN, Api, chat, config, problem, running_api
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from redis.asyncio import Redis

LABELS = {
    "penstock_jobs_submitted": {"tier", "model"},
    "penstock_jobs_finished": {"tier", "model", "status"},
    "penstock_jobs_rejected": {"tier", "reason"},
    "penstock_queue_jobs": {"pool", "blocked_on"},
    "penstock_queue_tokens": {"pool"},
    "penstock_queue_oldest_age_seconds": {"pool"},
    "penstock_queue_wait_seconds": {"le"},
    "penstock_provider_request_duration_seconds": {"le"},
    "penstock_job_duration_seconds": {"le"},
    "penstock_provider_limit_tokens": {"pool"},
    "penstock_provider_available_tokens": {"pool"},
    "penstock_provider_reserved_tokens": {"pool"},
    "penstock_provider_throttled": {"pool"},
    "penstock_tokens": {"model", "type"},
    "penstock_reservation_refunded_tokens": set(),
    "penstock_reservation_overrun_tokens": set(),
    "penstock_lost_attempt_tokens": set(),
    "penstock_webhook_deliveries": {"outcome"},
    "penstock_workers": set(),
    "penstock_worker_slots": {"state"},
    "penstock_workers_recommended": set(),
    "penstock_build_info": {"version"},
}


async def read(api: Api) -> dict[str, float]:
    """Every sample as it stands in the text, to its value."""
    answer = await api.http.get("/metrics", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def scaling(api: Api) -> Any:
    answer = await api.http.get("/v1/scaling", headers=ADMIN)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("path", ["/v1/scaling", "/metrics"])
async def test_they_take_a_key_with_their_scope(api: Api, path: str) -> None:
    problem(await api.http.get(path), 401, "invalid_key")
    ann = await api.user("ann")
    problem(await api.http.get(path, headers=ann), 403, "forbidden")
    prometheus = await api.user("prometheus", scopes=("metrics",))
    assert (await api.http.get(path, headers=prometheus)).status_code == 200


async def test_they_are_open_where_the_configuration_says_so(redis: "Redis") -> None:
    async with running_api(redis, config(open_metrics=True)) as api:
        for path in ("/v1/scaling", "/metrics"):
            assert (await api.http.get(path)).status_code == 200
        problem(await api.http.get("/v1/admin/providers"), 401, "invalid_key")


async def test_every_metric_is_there_with_its_labels_and_none_names_a_user(api: Api) -> None:
    ann = await api.user("ann-the-user")
    await api.submitted(ann)
    await api.submitted(ann)
    await api.succeed(await api.claimed())
    await api.submit(ann, body={})
    await api.app.service.rejections.write()
    text = (await api.http.get("/metrics", headers=ADMIN)).text
    families = {family.name: family for family in parse(text)}
    assert families.keys() == LABELS.keys()
    for name, labels in LABELS.items():
        samples = families[name].samples
        assert samples, name
        for sample in samples:
            own = labels if not sample.name.endswith(("_sum", "_count")) else labels - {"le"}
            assert set(sample.labels) == own, sample
    assert "ann-the-user" not in text


async def test_the_numbers_are_those_of_the_jobs_that_ran(api: Api) -> None:
    ann = await api.user("ann", tier="free")
    for _ in range(3):
        await api.submitted(ann)
    first = await api.claimed()
    api.clock.advance(2)
    await api.succeed(first)
    throttled = await api.claimed()
    pause = PoolPause(1000, "throttled", alarm=False)
    await api.claims.put_back(
        throttled, after_ms=60_000, counts=False, window="tokens_back", cause="throttled", pause=pause
    )
    estimate = throttled.prompt_tokens + throttled.output_tokens
    await api.claims.renew([], slots=7)
    seen = await read(api)
    assert seen['penstock_jobs_submitted_total{model="m",tier="free"}'] == 3
    assert seen['penstock_jobs_finished_total{model="m",status="succeeded",tier="free"}'] == 1
    assert seen['penstock_tokens_total{model="m",type="prompt"}'] == 9
    assert seen['penstock_tokens_total{model="m",type="completion"}'] == 3
    assert seen["penstock_reservation_refunded_tokens_total"] == estimate - 12
    assert seen["penstock_job_duration_seconds_sum"] == 2
    assert seen['penstock_job_duration_seconds_bucket{le="1"}'] == 0
    assert seen['penstock_job_duration_seconds_bucket{le="2.5"}'] == 1
    assert seen["penstock_job_duration_seconds_count"] == 1
    assert seen["penstock_provider_request_duration_seconds_count"] == 2
    assert seen["penstock_queue_wait_seconds_count"] == 1
    assert seen['penstock_provider_throttled_total{pool="sim/m"}'] == 1
    assert seen['penstock_provider_limit_tokens{pool="sim/m"}'] == 200_000
    assert seen['penstock_provider_limit_tokens{pool="sim/small"}'] == 6_000
    assert seen['penstock_queue_jobs{blocked_on="backoff",pool="sim/m"}'] == 1
    assert seen['penstock_queue_jobs{blocked_on="provider_paused",pool="sim/m"}'] == 1
    assert seen['penstock_queue_tokens{pool="sim/m"}'] == 2 * estimate
    assert seen['penstock_queue_oldest_age_seconds{pool="sim/m"}'] == 2
    assert seen["penstock_workers"] == 1
    assert seen['penstock_worker_slots{state="free"}'] == 7
    assert seen["penstock_workers_recommended"] >= 1


async def test_refused_submissions_are_counted_by_tier_and_reason(api: Api) -> None:
    ann = await api.user("ann", tier="free")
    await api.submit(ann, body=chat(model="unknown"))
    for _ in range(23):
        await api.submit(ann)
    await eventually(lambda: not api.app.service.rejections.waiting)
    seen = await read(api)
    assert seen['penstock_jobs_rejected_total{reason="unknown_model",tier=""}'] == 1
    assert seen['penstock_jobs_rejected_total{reason="rate_limited",tier="free"}'] == 3
    assert seen['penstock_jobs_submitted_total{model="m",tier="free"}'] == 20


async def test_openmetrics_is_spoken_to_who_asks_for_it(api: Api) -> None:
    plain = await api.http.get("/metrics", headers=ADMIN)
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    asked = {**ADMIN, "accept": "application/openmetrics-text; version=1.0.0"}
    answer = await api.http.get("/metrics", headers=asked)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = parse_openmetrics(answer.text)  # type: ignore[no-untyped-call]  # prometheus-client leaves it untyped
    assert {family.name for family in families} >= {"penstock_workers"}


async def test_two_processes_tell_the_same(redis: "Redis") -> None:
    async with running_api(redis) as one, running_api(redis, clock=one.clock) as other:
        ann = await one.user("ann")
        await one.submitted(ann)
        await one.run_all()
        await one.claims.renew([], slots=10)
        assert await read(one) == await read(other)
        assert await scaling(one) == await scaling(other)


async def test_scaling_has_the_members_that_are_promised(api: Api) -> None:
    ann = await api.user("ann")
    await api.submitted(ann)
    answer = await scaling(api)
    assert answer.keys() == set(SCHEMAS["Scaling"]["properties"])
    assert answer["workers"] == {"current": 0, "recommended": 1, "useful_max": None}
    assert answer["bound_by"] == "demand"
    pool, small = answer["pools"]
    assert (pool["provider"], pool["model"]) == ("sim", "m")
    assert pool["tokens_per_minute"] == {"limit": 200_000, "used": 0}
    assert small["tokens_per_minute"]["limit"] == 6_000
    assert pool["queued_jobs"] == 1
    assert pool["queued_tokens"] > 0


async def test_with_nothing_to_do_no_worker_is_advised_after_a_quiet_minute(api: Api) -> None:
    assert (await scaling(api))["workers"]["recommended"] == 0
    ann = await api.user("ann")
    await api.submitted(ann)
    assert (await scaling(api))["workers"]["recommended"] == 1
    await api.run_all()
    api.clock.advance(30)
    assert (await scaling(api))["workers"]["recommended"] == 1
    api.clock.advance(61)
    answer = await scaling(api)
    assert answer["workers"]["recommended"] == 0
    assert answer["bound_by"] is None


async def test_a_job_that_is_due_within_a_minute_has_a_worker_made_ready(api: Api) -> None:
    ann = await api.user("ann")
    await api.submitted(ann, not_before=api.clock() // 1000 + 90)
    assert (await scaling(api))["workers"]["recommended"] == 0
    api.clock.advance(31)
    assert (await scaling(api))["workers"]["recommended"] == 1
