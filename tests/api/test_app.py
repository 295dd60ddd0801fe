"""The application as a whole: its configuration while it runs, and what it logs."""

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from api.app import create_app
from jobs.environment import Environment, SettingsError
from tests.api.harness import ADMIN_KEY, CONFIG, SECRET, Api, chat, config, problem, running_api

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def test_a_changed_configuration_is_in_force_within_seconds(redis: "Redis", tmp_path: Path) -> None:
    path = tmp_path / "penstock.yaml"
    path.write_text(json.dumps(CONFIG))
    settings = Environment.load(secret=SECRET, admin_key=ADMIN_KEY, config_path=path)
    async with running_api(redis, config(), environment=settings) as api:
        ann = await api.user("ann", "free")
        problem(await api.submit(ann, body=chat(model="new")), 422, "unknown_model")
        tiers = {**CONFIG["tiers"], "free": {**CONFIG["tiers"]["free"], "tokens_per_day": 123_456}}
        provider = {**CONFIG["providers"]["sim"], "models": {"new": {}}}
        path.write_text(json.dumps({**CONFIG, "tiers": tiers, "providers": {"sim": provider}}))
        async with asyncio.timeout(20):
            while True:
                answer = await api.submit(ann, body=chat(model="new"))
                if answer.headers.get("x-ratelimit-limit-tokens") == "123456":
                    break
                await asyncio.sleep(0.2)
        problem(await api.submit(ann), 422, "unknown_model")


def test_without_a_secret_nothing_starts(redis: "Redis") -> None:
    with pytest.raises(SettingsError, match="PENSTOCK_SECRET"):
        create_app(config(), Environment.load(secret=None), redis)


async def test_a_mistake_of_ours_is_500_and_tells_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("a prompt and a pepper")

    ann = await api.user("ann")
    monkeypatch.setattr(api.app.service.store, "limits", broken)
    with structlog.testing.capture_logs() as logs:
        answer = await api.http.get("/v1/limits", headers=ann)
    told = problem(answer, 500, "internal")
    assert answer.headers["x-request-id"] in told["detail"]
    assert "pepper" not in answer.text
    assert "pepper" not in str(logs)
    [failed] = [entry for entry in logs if entry["event"] == "request failed"]
    assert failed["error"] == "ValueError"
    assert any("test_app.py" in place for place in failed["at"])
    [request] = [entry for entry in logs if entry["event"] == "request"]
    assert (request["log_level"], request["status"], request["route"]) == ("warning", 500, "/v1/limits")


async def test_prompts_and_keys_are_in_no_log(api: Api) -> None:
    ann = await api.user("ann")
    key = ann["authorization"].partition(" ")[2]
    with structlog.testing.capture_logs() as logs:
        job_id = await api.submitted(ann, body=chat("a very secret prompt"), custom_id="a secret row")
        await api.http.get(f"/v1/jobs/{job_id}?custom_id=a-secret-row", headers=ann)
        await api.submit(ann, body=chat("a very secret prompt", n=0))
        await api.http.post(
            "/v1/jobs", content=b'{"a secret', headers=ann | {"content-type": "application/json"}
        )
    told = str(logs)
    assert logs
    for secret in ("secret", key, job_id):
        assert secret not in told
    assert all(entry["log_level"] == "debug" for entry in logs)
