"""`penstock listen`: what it believes, what it says of the rest, and how it answers."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from standardwebhooks.webhooks import Webhook

from cli.errors import CommandError
from cli.listen import MAX_BODY_BYTES, Receiver
from cli.ports import claim_port
from cli.signature import check_secret
from tests.cli.conftest import As, Run
from tests.cli.running import RunningUp, running
from tests.cli.waiting import wait_until

SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cyBvZiBhIHJlY2VpdmVy"
NOW_S = 1_790_000_000.0
JOB = {
    "id": "job_01M83PG55A7Y4Z1VKH4SP5D4H3",
    "usage": {"prompt_tokens": 11, "completion_tokens": 16, "total_tokens": 27},
    "error": None,
}
EVENT = {"id": "evt_1", "object": "event", "type": "job.succeeded", "data": JOB}
BODY = json.dumps(EVENT)


def signed(
    body: str = BODY, *, secret: str = SECRET, at_s: float = NOW_S, name: str = "evt_1"
) -> dict[str, str]:
    """The headers as another implementation of the standard makes them."""
    return {
        "webhook-id": name,
        "webhook-timestamp": str(int(at_s)),
        "webhook-signature": Webhook(secret).sign(name, datetime.fromtimestamp(at_s, UTC), body),
    }


def receiver(**settings: Any) -> Receiver:
    return Receiver(SECRET, **settings)


def test_what_the_standards_own_library_signs_is_believed() -> None:
    received = receiver().receive(BODY.encode(), signed(), NOW_S)
    assert (received.status, received.verified, received.again, received.refused) == (200, True, False, None)
    assert received.event == EVENT
    told = received.told(NOW_S).split("  ")
    assert told[1:] == ["200", "job.succeeded", JOB["id"], "27 tokens", "evt_1"]


def test_the_event_of_a_test_is_told_as_such() -> None:
    body = json.dumps({"type": "webhook_endpoint.test", "data": {"object": "webhook_endpoint.test"}})
    told = receiver().receive(body.encode(), signed(body), NOW_S).told(NOW_S)
    assert told.split("  ")[1:] == ["200", "webhook_endpoint.test", "evt_1"]


def test_one_right_signature_of_several_is_enough() -> None:
    headers = signed()
    other = signed(secret="whsec_b3RoZXI=")["webhook-signature"]
    headers["webhook-signature"] = f"v1a,abc {other} {headers['webhook-signature']}"
    assert receiver().receive(BODY.encode(), headers, NOW_S).verified


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"webhook-id": ""}, "it has no webhook-id"),
        ({"webhook-signature": "", "webhook-timestamp": ""}, "it has no webhook-timestamp and no webhook-signature"),
        ({"webhook-id": "evt_\u00e9"}, "its signature does not match"),
        ({"webhook-id": "evt_2"}, "its signature does not match"),
        ({"webhook-signature": signed(secret="whsec_b3RoZXI=")["webhook-signature"]}, "its signature does not match"),
        ({"webhook-signature": "v1,\u00e9"}, "its signature does not match"),
        ({"webhook-signature": "v2,abc"}, "its webhook-signature has no signature of version v1"),
        ({"webhook-timestamp": "soon"}, "its webhook-timestamp is no number of seconds"),
        (signed(at_s=NOW_S - 301), "its webhook-timestamp is 301 s old"),
        (signed(at_s=NOW_S + 301), "its webhook-timestamp is 301 s in the future"),
        (signed(BODY + " "), "its signature does not match"),
        (signed("nonsense"), "its signature does not match"),
    ],
)  # fmt: skip
def test_whatever_is_not_right_is_refused_with_the_reason(change: dict[str, str], reason: str) -> None:
    received = receiver().receive(BODY.encode(), signed() | change, NOW_S)
    assert (received.status, received.verified, received.event) == (400, False, None)
    assert (received.refused or "").startswith(reason)
    assert f"refused: {reason}" in received.told(NOW_S)


def test_what_is_signed_and_still_no_event_is_refused() -> None:
    judge = receiver()
    assert judge.receive(b"nonsense", signed("nonsense"), NOW_S).refused == "its body is not JSON"
    long = "x" * (MAX_BODY_BYTES + 1)
    assert judge.receive(long.encode(), signed(long), NOW_S).status == 413


def test_an_event_that_comes_again_is_known_and_may_be_failed_on_purpose() -> None:
    judge = receiver(status=500)
    first, second = (judge.receive(BODY.encode(), signed(), NOW_S) for _ in range(2))
    assert (first.status, first.again, second.status, second.again) == (500, False, 500, True)
    assert second.told(NOW_S).endswith("evt_1  again")


def test_nothing_that_it_prints_can_steer_the_terminal() -> None:
    body = json.dumps(
        {"type": "job.failed", "data": {"id": "\x1b[2J", "error": {"code": "c", "message": "\x07"}}}
    )
    told = Receiver(None).receive(body.encode(), {"webhook-id": "\x9b"}, NOW_S).told(NOW_S)
    assert told.isprintable()
    assert told.endswith("not verified")


@pytest.mark.parametrize("secret", ["whsec_", "whsec_not base64!", "whsec_abc"])
def test_a_secret_that_is_none_is_told(secret: str) -> None:
    with pytest.raises(CommandError, match="the secret is none"):
        check_secret(secret)


def test_it_answers_prints_and_ends(directory: Path) -> None:
    with running(directory, "listen", "--port", "0", "--json", PENSTOCK_WEBHOOK_SECRET=SECRET) as command:
        url = command.says(r"^listening on (http://127\.0\.0\.1:\d+); Ctrl-C ends it$")[1]
        with httpx2.Client(base_url=url, trust_env=False) as http:
            good = http.post("/hook", content=BODY, headers=signed(at_s=time.time()))
            bad = http.post("/", content=BODY, headers=signed(at_s=time.time() - 400))
            huge = http.post("/", content=b"x" * (MAX_BODY_BYTES + 70_000))
            assert [good.status_code, bad.status_code, huge.status_code] == [200, 400, 413]
            assert "s old" in bad.text
            assert http.get("/").status_code == 405
        command.interrupt()
        assert command.ends() == 0
        lines = [json.loads(line) for line in command.output.splitlines() if line.startswith("{")]
    assert [line["verified"] for line in lines] == [True, False, False]
    assert lines[0]["event"] == EVENT
    assert lines[1]["refused"].startswith("its webhook-timestamp is ")


def test_it_registers_itself_and_is_gone_with_its_end(
    mine: As, service: tuple[Path, RunningUp], tmp_path: Path
) -> None:
    directory, up = service
    port = claim_port("127.0.0.1", 0)
    key = mine("keys", "create", "--user", "listens", "--tier", "pro").out.strip()
    settings = {"PENSTOCK_URL": up.url, "PENSTOCK_KEY": key}
    arguments = ("listen", "--port", str(port), "--register", "--status", "202")
    with running(tmp_path, *arguments, **settings) as refused:
        assert refused.ends() == 1
        assert "webhooks.allow in the configuration opens more" in refused.output
    file = directory / "penstock.yaml"
    before = file.read_text()
    file.write_text(f'{before}webhooks: {{allow: ["127.0.0.1:{port}"]}}\n')
    headers = {"authorization": f"Bearer {key}"}
    try:
        with httpx2.Client(base_url=up.url, headers=headers, trust_env=False) as api:
            probe = {"url": f"http://127.0.0.1:{port}/"}
            # Taken up within two seconds; until then it is refused as before.
            wait_until(lambda: api.post("/v1/webhook_endpoints", json=probe).status_code == 201)
            for one in api.get("/v1/webhook_endpoints").json()["data"]:
                api.delete(f"/v1/webhook_endpoints/{one['id']}")
            with running(tmp_path, *arguments, **settings) as command:
                command.says("^listening on ")
                job = mine("submit", "Say hello", **settings).out.strip()
                command.says(rf"^.*  202  job\.succeeded  {job}  \d+ tokens  evt_\w+$")
                assert len(api.get("/v1/webhook_endpoints").json()["data"]) == 1
                command.interrupt()
                assert command.ends() == 0
            assert api.get("/v1/webhook_endpoints").json()["data"] == []
    finally:
        file.write_text(before)


def test_a_service_that_cannot_register_it_is_told(penstock: Run) -> None:
    done = penstock("listen", "--port", "0", "--register", PENSTOCK_URL="http://127.0.0.1:9")
    assert done.status == 1
    assert "no Penstock answers at http://127.0.0.1:9" in done.err
