"""The job object, byte by byte where it matters."""

import json
from dataclasses import replace

import pytest

from api.views import etag, job_bytes, list_bytes
from jobs.record import JobError, State, Usage
from tests.api.harness import NOON_MS
from tests.api.test_headers import JOB

NOON_S = NOON_MS // 1000


def test_a_queued_job_has_every_member() -> None:
    job = replace(
        JOB,
        custom_id="row-17",
        metadata={"team": "search"},
        blocked_on="provider_tokens",
        position=12,
        estimated_start_ms=NOON_MS + 31_900,
    )
    assert json.loads(job_bytes(job)) == {
        "id": JOB.id,
        "object": "job",
        "status": "queued",
        "endpoint": "/v1/chat/completions",
        "model": "m",
        "priority": "standard",
        "custom_id": "row-17",
        "metadata": {"team": "search"},
        "created_at": NOON_S,
        "started_at": None,
        "finished_at": None,
        "expires_at": NOON_S + 86_400,
        "attempts": 0,
        "blocked_on": "provider_tokens",
        "position": 12,
        "estimated_start_at": NOON_S + 31,
        "estimated_tokens": 59,
        "usage": None,
        "cost_usd": None,
        "result": None,
        "error": None,
        "webhook": {"status": "none", "attempts": 0, "last_status_code": None, "next_attempt_at": None},
    }


@pytest.mark.parametrize("result", [b'{"a":1.0}', b'{ "b" : [\n 1e2 , "\\u00e4" ] }', b"null"])
def test_a_result_goes_out_as_it_came(result: bytes) -> None:
    job = replace(JOB, state=State.SUCCEEDED, result=result, usage=Usage(9, 3, 12), cost_usd=0.001)
    body = job_bytes(job)
    assert b'"result":' + result + b"," in body
    assert json.loads(body)["usage"] == {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "total_tokens": 12,
        "cached_tokens": 0,
        "source": "provider",
    }


def test_an_error_is_told() -> None:
    error = JobError("provider_rejected", "No \U0001f600", attempt=2, provider_status=400)
    told = json.loads(job_bytes(replace(JOB, state=State.FAILED, error=error)))["error"]
    assert told == {"code": "provider_rejected", "message": "No 😀", "attempt": 2, "provider_status": 400}


def test_a_list_names_its_ends() -> None:
    other = replace(JOB, id="job_01M83K5MCCW2YQ3MVT6HYZ8AP9")
    page = json.loads(list_bytes([other, JOB], True))
    assert [job["id"] for job in page.pop("data")] == [other.id, JOB.id]
    assert page == {"object": "list", "has_more": True, "first_id": other.id, "last_id": JOB.id}
    assert json.loads(list_bytes([], False)) == {
        "object": "list",
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }


def test_an_etag_changes_with_the_place_in_the_queue_and_with_the_version() -> None:
    queued = [replace(JOB, position=position) for position in (1, 2)]
    running = [replace(JOB, state=State.RUNNING, version=version) for version in (2, 3)]
    tags = {etag(job, job_bytes(job)) for job in queued + running}
    assert len(tags) == 4
    assert etag(queued[0], job_bytes(queued[0])) in tags
