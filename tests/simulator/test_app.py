"""The whole simulator on a clock moved by hand: answers, charges, refusals, the log, and the routes for tests."""

from pathlib import Path

import pytest

from simulator.app import create_app
from simulator.errors import FaultsError
from simulator.log import LogEntry
from simulator.settings import Accounting, SimulatorSettings
from tests.simulator.builders import CHAT, START_S, HandClock, app_with, chat


async def test_an_answer_has_everything_a_chat_completion_has() -> None:
    _, client = app_with(SimulatorSettings(tpm=60_000, rpm=600), HandClock())
    async with client:
        answer = await client.post(CHAT, json=chat("Hello\nthere", max_tokens=30, n=2))
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert (body["object"], body["model"], body["created"]) == (
        "chat.completion",
        "gpt-4o-mini",
        int(START_S),
    )
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    for choice in body["choices"]:
        assert choice["message"]["role"] == "assistant"
        assert choice["message"]["content"].startswith("echo: Hello")
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 2 <= usage["completion_tokens"] <= 60
    assert usage["prompt_tokens_details"] == {"cached_tokens": 0}


async def test_every_answer_carries_its_id_and_the_state_of_both_buckets() -> None:
    app, client = app_with(SimulatorSettings(tpm=60_000, rpm=600), HandClock())
    async with client:
        answer = await client.post(CHAT, json=chat("hi", max_tokens=93))
        refused = await client.post(CHAT, json=chat("hi [[fail:500]]"))
    assert answer.headers["x-request-id"] == app.log()[0].request_id
    charged = app.log()[0].charged_tokens
    assert charged == 7 + 93
    assert answer.headers["x-ratelimit-limit-tokens"] == "60000"
    assert answer.headers["x-ratelimit-remaining-tokens"] == "59900"
    assert answer.headers["x-ratelimit-reset-tokens"] == "100ms"
    assert answer.headers["x-ratelimit-limit-requests"] == "600"
    assert answer.headers["x-ratelimit-remaining-requests"] == "599"
    assert answer.headers["x-ratelimit-reset-requests"] == "100ms"
    assert refused.headers["x-request-id"] == app.log()[1].request_id
    assert refused.headers["x-ratelimit-remaining-requests"] == "598"


async def test_without_limits_no_rate_limit_headers_are_sent() -> None:
    _, client = app_with(SimulatorSettings(), HandClock())
    async with client:
        answer = await client.post(CHAT, json=chat())
    assert not [name for name in answer.headers if "ratelimit" in name]


async def test_anthropic_accounting_sends_anthropics_headers() -> None:
    _, client = app_with(SimulatorSettings(tpm=60_000, accounting=Accounting.ANTHROPIC), HandClock())
    async with client:
        answer = await client.post(CHAT, json=chat())
    assert answer.headers["anthropic-ratelimit-tokens-limit"] == "60000"
    assert "x-ratelimit-limit-tokens" not in answer.headers


async def test_a_429_is_written_as_the_provider_writes_it_and_lifts_when_it_says() -> None:
    clock = HandClock()
    app, client = app_with(SimulatorSettings(tpm=6_000), clock)
    async with client:
        first = await client.post(CHAT, json=chat("hi", max_tokens=5_000))
        refused = await client.post(CHAT, json=chat("hi", max_tokens=1_093))
        clock.now_s += int(refused.headers["retry-after-ms"]) / 1000
        again = await client.post(CHAT, json=chat("hi", max_tokens=1_093))
    assert (first.status_code, refused.status_code, again.status_code) == (200, 429, 200)
    assert refused.json()["error"] == {
        "message": "Rate limit reached for gpt-4o-mini in organization org-simulator on tokens per min (TPM): "
        "Limit 6000, Used 5007, Requested 1100. Please try again in 1.070s.",
        "type": "tokens",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    assert refused.headers["retry-after"] == "2"
    assert refused.headers["retry-after-ms"] == "1070"
    assert refused.headers["x-ratelimit-remaining-tokens"] == "993"
    assert [entry.charged_tokens for entry in app.log()] == [5_007, 0, 1_100]
    stats = app.stats()
    assert (stats.requests, stats.status_429, stats.refused_tokens) == (3, 1, 1)
    assert stats.greatest_tokens_in_60s == 6_107


async def test_a_request_larger_than_the_limit_is_refused_as_too_large() -> None:
    app, client = app_with(SimulatorSettings(tpm=500), HandClock())
    async with client:
        refused = await client.post(CHAT, json=chat("hi", max_tokens=500))
    assert refused.status_code == 429
    assert refused.json()["error"]["message"].startswith("Request too large for gpt-4o-mini")
    assert "retry-after" not in refused.headers
    assert app.stats().refused_too_large == 1


async def test_requests_per_minute_are_refused_with_their_own_message() -> None:
    app, client = app_with(SimulatorSettings(rpm=2), HandClock())
    async with client:
        statuses = [(await client.post(CHAT, json=chat())).status_code for _ in range(3)]
        refused = await client.post(CHAT, json=chat())
    assert statuses == [200, 200, 429]
    assert refused.json()["error"]["type"] == "requests"
    assert refused.headers["retry-after"] == "30"
    assert app.stats().greatest_requests_in_60s == 4


async def _logged(accounting: Accounting, prompt: str = "hi", **fields: object) -> LogEntry:
    """The log entry of one call that takes 10 s."""
    app, client = app_with(SimulatorSettings(latency_s=10, accounting=accounting), HandClock())
    async with client:
        await client.post(CHAT, json=chat(prompt, max_tokens=400, **fields))
    (entry,) = app.log()
    return entry


async def test_openai_charges_at_the_arrival() -> None:
    entry = await _logged(Accounting.OPENAI)
    assert entry.charges == [(START_S, 407)]
    assert entry.finished_at == START_S + 10


async def test_actual_charges_at_the_end() -> None:
    entry = await _logged(Accounting.ACTUAL)
    assert entry.completion_tokens is not None
    assert entry.charges == [(START_S + 10, 7 + entry.completion_tokens)]


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropic_charges_output_while_it_is_made(stream: bool) -> None:
    entry = await _logged(Accounting.ANTHROPIC, stream=stream)
    assert entry.completion_tokens is not None
    assert entry.charges[0] == (START_S, 7)
    made = entry.charges[1:]
    assert len(made) == min(20, entry.completion_tokens)
    assert sum(tokens for _, tokens in made) == entry.completion_tokens
    assert made[-1][0] == pytest.approx(START_S + 10)
    half = sum(tokens for at_s, tokens in made if at_s <= START_S + 5.001)
    assert half == pytest.approx(entry.completion_tokens / 2, abs=1)


async def test_latency_stays_within_its_jitter_and_uses_all_of_it() -> None:
    clock = HandClock()
    app, client = app_with(SimulatorSettings(latency_s=0.8, latency_jitter_s=0.3), clock)
    async with client:
        for _ in range(50):
            await client.post(CHAT, json=chat())
    took = [entry.finished_at - entry.arrived_at for entry in app.log() if entry.finished_at is not None]
    assert len(took) == 50
    assert 0.499 < min(took) < 0.6
    assert 1.0 < max(took) < 1.101


async def test_the_log_tells_all_about_a_request() -> None:
    clock = HandClock()
    app, client = app_with(SimulatorSettings(latency_s=2), clock)
    async with client:
        answer = await client.post(CHAT, json=chat("Hello\nthere", max_tokens=30, n=2, user="ada"))
        shown = (await client.get("/_log")).json()
    (entry,) = shown["entries"]
    usage = answer.json()["usage"]
    assert entry == {
        "id": 1,
        "request_id": answer.headers["x-request-id"],
        "arrived_at": START_S,
        "model": "gpt-4o-mini",
        "prompt": "Hello",
        "user": "ada",
        "stream": False,
        "prompt_tokens": 8,
        "max_tokens": 30,
        "n": 2,
        "completion_tokens": usage["completion_tokens"],
        "reported_tokens": usage["total_tokens"],
        "charged_tokens": 68,
        "charges": [[START_S, 68]],
        "status": 200,
        "fault": None,
        "client_gone": False,
        "finished_at": START_S + 2,
    }
    assert (shown["last_id"], shown["dropped"]) == (1, 0)
    assert app.stats().by_status == {"200": 1}


async def test_the_log_is_read_on_from_an_id_and_cleared() -> None:
    _, client = app_with(SimulatorSettings(tpm=1000), HandClock())
    async with client:
        for _ in range(3):
            await client.post(CHAT, json=chat("hi", max_tokens=93))
        later = (await client.get("/_log?after=2")).json()["entries"]
        wrong = await client.get("/_log?after=soon")
        await client.delete("/_log")
        emptied = (await client.get("/_log")).json()
        stats = (await client.get("/_stats")).json()
    assert [entry["id"] for entry in later] == [3]
    assert wrong.status_code == 400
    assert emptied == {"entries": [], "last_id": 3, "dropped": 0}
    assert (stats["requests"], stats["tokens_charged"], stats["by_status"]) == (0, 0, {})
    assert stats["bucket_tokens"] == 700


async def test_stats_show_totals_of_every_model() -> None:
    _, client = app_with(SimulatorSettings(tpm=10_000, rpm=600), HandClock())
    async with client:
        await client.post(CHAT, json=chat("hi", max_tokens=93))
        await client.post(CHAT, json=chat("hi", max_tokens=193, model="gpt-4o"))
        await client.post(CHAT, json=chat("hi", max_tokens=0, model="gpt-4o"))
        stats = (await client.get("/_stats")).json()
    assert stats["requests"] == 3
    assert stats["tokens_charged"] == stats["greatest_tokens_in_60s"] == 300
    assert (stats["bucket_tokens"], stats["bucket_requests"]) == (9_700, 597)
    assert stats["by_status"] == {"200": 2, "400": 1}
    assert stats["by_model"]["gpt-4o"] == {
        "requests": 1,
        "tokens_charged": 200,
        "greatest_requests_in_60s": 1,
        "greatest_tokens_in_60s": 200,
    }
    assert stats["in_flight"] == 0


async def test_a_configured_key_is_required_and_a_wrong_one_counts_nowhere() -> None:
    app, client = app_with(SimulatorSettings(api_key="sk-right", rpm=60), HandClock())
    async with client:
        none = await client.post(CHAT, json=chat())
        wrong = await client.post(CHAT, json=chat(), headers={"authorization": "Bearer sk-wrong"})
        right = await client.post(CHAT, json=chat(), headers={"authorization": "Bearer sk-right"})
        models = await client.get("/v1/models")
    assert [none.status_code, wrong.status_code, right.status_code, models.status_code] == [
        401,
        401,
        200,
        401,
    ]
    assert wrong.json()["error"]["code"] == "invalid_api_key"
    assert app.stats().requests == 1
    assert [entry.status for entry in app.log()] == [401, 401, 200]


async def test_with_a_list_of_models_others_do_not_exist() -> None:
    app, client = app_with(SimulatorSettings(models=("gpt-4o-mini", "llama")), HandClock())
    async with client:
        listed = (await client.get("/v1/models")).json()
        refused = await client.post(CHAT, json=chat(model="gpt-9"))
    assert [model["id"] for model in listed["data"]] == ["gpt-4o-mini", "llama"]
    assert refused.status_code == 404
    assert refused.json()["error"]["code"] == "model_not_found"
    assert app.log()[0].charged_tokens == 0


async def test_without_a_list_the_models_asked_for_are_listed() -> None:
    _, client = app_with(SimulatorSettings(), HandClock())
    async with client:
        await client.post(CHAT, json=chat(model="llama"))
        listed = (await client.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == ["llama"]


@pytest.mark.parametrize(
    ("marker", "status", "code", "charged"),
    [
        ("fail:400", 400, None, 0),
        ("fail:401", 401, "invalid_api_key", 0),
        ("fail:403", 403, None, 0),
        ("fail:429", 429, "rate_limit_exceeded", 0),
        ("fail:quota", 429, "insufficient_quota", 0),
        ("retry-after:5", 429, "rate_limit_exceeded", 0),
        ("fail:500", 500, None, 110),
        ("fail:529", 529, None, 110),
    ],
)
async def test_a_refusal_charges_nothing_and_a_server_error_what_had_arrived(
    marker: str, status: int, code: str | None, charged: int
) -> None:
    app, client = app_with(SimulatorSettings(tpm=1000), HandClock())
    async with client:
        answer = await client.post(CHAT, json=chat(f"please do [[{marker}]]", max_tokens=101))
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    (entry,) = app.log()
    assert (entry.status, entry.fault, entry.charged_tokens) == (status, marker, charged)


@pytest.mark.parametrize("value", ["0", "-7", "86400", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "1e999"])
async def test_a_retry_after_is_sent_exactly_as_told(value: str) -> None:
    _, client = app_with(SimulatorSettings(), HandClock())
    async with client:
        answer = await client.post(CHAT, json=chat(f"[[retry-after:{value}]]"))
        bare = await client.post(CHAT, json=chat("[[retry-after:]]"))
    assert answer.headers["retry-after"] == value
    assert "retry-after-ms" not in answer.headers
    assert (bare.status_code, "retry-after" in bare.headers) == (429, False)


async def test_a_marker_with_an_impossible_value_is_told_to_the_client() -> None:
    _, client = app_with(SimulatorSettings(), HandClock())
    async with client:
        answer = await client.post(CHAT, json=chat("[[slow:soon]]"))
    assert answer.status_code == 400
    assert "slow: must be a number of seconds" in answer.json()["error"]["message"]


async def test_an_attempt_that_the_limit_refused_does_not_use_up_a_counted_fault() -> None:
    clock = HandClock()
    _, client = app_with(SimulatorSettings(tpm=600), clock)
    statuses = []
    async with client:
        for wait_s in (0, 0, 60, 60):
            clock.now_s += wait_s
            statuses.append(
                (await client.post(CHAT, json=chat("[[fail:500x2]]", max_tokens=500))).status_code
            )
    assert statuses == [500, 429, 500, 200]


async def test_slow_replaces_the_latency() -> None:
    clock = HandClock()
    _, client = app_with(SimulatorSettings(latency_s=1), clock)
    async with client:
        await client.post(CHAT, json=chat("[[slow:3.5]]"))
    assert clock.now_s == START_S + 3.5


async def test_drip_sends_a_byte_a_second() -> None:
    clock = HandClock()
    _, client = app_with(SimulatorSettings(), clock)
    async with client:
        answer = await client.post(CHAT, json=chat("[[drip]]"))
    assert answer.json()["object"] == "chat.completion"
    assert clock.now_s == START_S + len(answer.content)


@pytest.mark.parametrize(
    ("marker", "written", "reported"),
    [
        ("no-usage", None, None),
        ("usage:-5", -5, 5),
        ("usage:999999", 999999, 1000009),
        ("usage:lots", "lots", None),
    ],
)
async def test_usage_can_be_missing_or_wrong_while_the_charge_stays_right(
    marker: str, written: object, reported: int | None
) -> None:
    app, client = app_with(SimulatorSettings(accounting=Accounting.ACTUAL), HandClock())
    async with client:
        answer = await client.post(CHAT, json=chat(f"please do not [[{marker}]] now", max_tokens=50))
    usage = answer.json().get("usage")
    assert (usage and usage["completion_tokens"]) == written
    (entry,) = app.log()
    assert entry.completion_tokens is not None
    assert entry.prompt_tokens is not None
    assert entry.charged_tokens == entry.prompt_tokens + entry.completion_tokens
    assert entry.reported_tokens == (None if reported is None else reported + entry.prompt_tokens - 10)


async def test_faults_can_be_replaced_while_it_runs() -> None:
    clock = HandClock()
    _, client = app_with(SimulatorSettings(), clock)
    async with client:
        set_to = await client.post(
            "/_faults",
            json={"rate": {"500": 1}, "schedule": [{"from_s": 10, "to_s": 20, "fault": "fail:503"}]},
        )
        early = await client.post(CHAT, json=chat())
        clock.now_s += 10
        late = await client.post(CHAT, json=chat())
        wrong = await client.post("/_faults", content="rate: {explode: 1}")
        still = await client.post(CHAT, json=chat())
        await client.post("/_faults", json={})
        after = await client.post(CHAT, json=chat())
    assert set_to.json() == {"rates": 1, "scheduled": 1}
    assert [each.status_code for each in (early, late, still, after)] == [500, 503, 503, 200]
    assert wrong.status_code == 400
    assert wrong.json()["error"]["message"] == (
        "the body: rate.explode: 'explode' is no fault; there are cut, drip, fail, garbage, gzip-bomb, hang, huge, "
        "no-usage, redirect, reset, retry-after, slow, usage"
    )


def test_a_wrong_file_of_faults_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("rate: {500: 2}")
    with pytest.raises(FaultsError, match=r"faults.yaml: rate.500: the share"):
        create_app(SimulatorSettings(faults=path))


async def test_a_file_of_faults_is_in_force_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("schedule:\n  - {from_s: 0, to_s: 1, fault: 'fail:503'}\n")
    _, client = app_with(SimulatorSettings(faults=path), HandClock())
    async with client:
        assert (await client.post(CHAT, json=chat())).status_code == 503


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nothing", 404), ("GET", CHAT, 405), ("GET", "/healthz", 200)]
)
async def test_other_routes(method: str, path: str, status: int) -> None:
    _, client = app_with(SimulatorSettings(), HandClock())
    async with client:
        answer = await client.request(method, path)
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["error"]["code"] == "unknown_url"
