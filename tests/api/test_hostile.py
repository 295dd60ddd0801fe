"""What attackers and broken clients send: always a 4xx of the one shape, never a stall, never a trace."""

import asyncio
import importlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.corpus import BODIES, LARGE, LIMIT, POST, PROMPTS, REQUESTS, with_prompt
from tests.api.harness import Api, chat, config, problem, running_api
from tests.api.server import Served

if TYPE_CHECKING:
    from redis.asyncio import Redis

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize("name", BODIES)
async def test_a_hostile_body_is_refused_in_one_shape(api: Api, name: str) -> None:
    content, status = BODIES[name]
    ann = await api.user("ann")
    answer = await api.http.post("/v1/jobs", content=content, headers=ann | JSON)
    codes = {400: "invalid_json", 413: "too_large", 422: "invalid_request"}
    told = problem(answer, status, codes[status])
    assert len(answer.content) < 20_000
    if status == 413:
        assert told["limit_bytes"] == LIMIT
    assert await api.claim() == []


async def in_pieces(content: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@pytest.mark.parametrize("name", ["30 MB", "too large", "100,000 deep", "nan"])
async def test_the_same_in_chunks(served: Served, name: str) -> None:
    content, status = BODIES[name]
    ann = await served.api.user("ann")
    answer = await served.api.http.post("/v1/jobs", content=in_pieces(content), headers=ann | JSON)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    again = await served.api.http.get("/v1/jobs", headers=ann)
    assert again.status_code == 200


@pytest.mark.parametrize("name", PROMPTS)
async def test_a_strange_prompt_is_a_prompt(api: Api, name: str) -> None:
    prompt = PROMPTS[name]
    answer = await api.http.post(
        "/v1/jobs", content=with_prompt(prompt), headers=await api.user("ann") | JSON
    )
    if answer.status_code == 202:
        [claimed] = await api.claim()
        assert json.loads(claimed.body)["messages"] == json.loads(with_prompt(prompt))["body"]["messages"]
    else:
        problem(answer, 422, "job_too_large")


@pytest.mark.parametrize("name", LARGE)
async def test_a_large_body_is_looked_at_beside_the_loop(
    api: Api, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_the_loop: list[str] = []
    steps = {
        "parse": "api.routes.jobs.parse",
        "check": "api.routes.jobs.read_submission",
        "encode": "api.routes.jobs.encode",
        "digest": "api.routes.jobs._digest",
        "count": "jobs.tokens.estimator.estimate",
    }
    done = set()

    def watched(step: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*args: Any, **kwargs: Any) -> Any:
            done.add(step)
            if threading.current_thread() is threading.main_thread():
                on_the_loop.append(step)
            return work(*args, **kwargs)

        return watching

    for step, path in steps.items():
        module, _, function = path.rpartition(".")
        monkeypatch.setattr(path, watched(step, getattr(importlib.import_module(module), function)))
    headers = await api.user("ann") | JSON | {"idempotency-key": "k"}
    answer = await api.http.post("/v1/jobs", content=LARGE[name], headers=headers)
    assert answer.status_code in (202, 422)
    assert on_the_loop == []
    assert done >= steps.keys() - ({"digest"} if answer.status_code == 422 else set())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": 'application/json; a="' + ";" * 60_000},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_another_content_type_is_refused(api: Api, headers: dict[str, str]) -> None:
    answer = await api.http.post(
        "/v1/jobs", content=with_prompt(b"x"), headers=await api.user("ann") | headers
    )
    problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "text", ["../x", "a:b", "{}", "*", "a\nb", "\u0000", "<|x|>", "users", "'; DROP", "$(x)", "😀"]
)
async def test_texts_are_data_wherever_they_go(api: Api, text: str) -> None:
    ann = await api.user("ann")
    job_id = await api.submitted(
        ann, custom_id=text, metadata={text: text}, body=chat(text, user=text, stop=[text])
    )
    job = (await api.http.get(f"/v1/jobs/{job_id}", headers=ann)).json()
    assert (job["custom_id"], job["metadata"]) == (text, {text: text})
    found = await api.http.get("/v1/jobs", params={"custom_id": text}, headers=ann)
    assert [one["id"] for one in found.json()["data"]] == [job_id]
    [claimed] = await api.claim()
    assert json.loads(claimed.body) == chat(text, user=text, stop=[text])


@pytest.mark.parametrize("name", ["config", "users", "keys", "epoch", "a..b", "all"])
async def test_users_named_like_keys_are_users(api: Api, name: str) -> None:
    headers = await api.user(name, "free")
    job_id = await api.submitted(headers)
    await api.run_all()
    assert (await api.http.get(f"/v1/jobs/{job_id}", headers=headers)).json()["status"] == "succeeded"
    assert (await api.http.get("/v1/limits", headers=headers)).json()["tokens"]["used"] == 12


@pytest.mark.parametrize("name", ["{}", "*", "config:tier:free", "m ", "../m", "m\n", "sim/m", "M"])
async def test_a_model_that_is_not_served_is_not_looked_for(api: Api, name: str) -> None:
    answer = await api.submit(await api.user("ann"), body=chat(model=name))
    problem(answer, 422, "unknown_model")


async def test_unknown_query_parameters_do_nothing(api: Api) -> None:
    answer = await api.http.get("/v1/jobs?a=b&c=%FF&d[]=1&limit=5", headers=await api.user("ann"))
    assert answer.status_code == 200


@pytest.mark.parametrize("given", ["a b", "a\tb", "x" * 129, "ä".encode().decode("latin-1"), "a;b", '"a"'])
async def test_a_request_id_that_is_not_sane_is_replaced(api: Api, given: str) -> None:
    answer = await api.http.get("/healthz", headers=[(b"x-request-id", given.encode("latin-1"))])
    assert answer.headers["x-request-id"].startswith("req_")


async def test_a_sane_request_id_comes_back(api: Api) -> None:
    given = {"x-request-id": "Trace-1.2_" + "x" * 118}
    for path in ("/healthz", "/nothing", "/v1/jobs"):
        assert (await api.http.get(path, headers=given)).headers["x-request-id"] == given["x-request-id"]


async def test_browsers_of_other_sites_get_no_leave(api: Api) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = await api.http.options("/v1/jobs", headers=asked)
    problem(answer, 405, "method_not_allowed")
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/jobs", "GET, HEAD, POST"),
        ("DELETE", "/v1/jobs", "GET, HEAD, POST"),
        ("POST", "/v1/jobs/job_01M83K5MCCW2YQ3MVT6HYZ8AP8", "DELETE, GET, HEAD"),
        ("GET", "/v1/jobs/job_01M83K5MCCW2YQ3MVT6HYZ8AP8/cancel", "POST"),
        ("POST", "/v1/limits", "GET, HEAD"),
        ("BREW", "/healthz", "GET, HEAD"),
    ],
)
async def test_another_method_is_told_those_there_are(api: Api, method: str, path: str, allowed: str) -> None:
    answer = await api.http.request(method, path)
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/jobs/", "/v1/job", "/v1/jobs/a/b", "/v2/jobs", "/%00", "/v1//jobs"]
)
async def test_another_path_is_not_found(api: Api, path: str) -> None:
    problem(await api.http.get(path), 404, "not_found")


@pytest.mark.parametrize("name", REQUESTS)
async def test_what_is_no_proper_request_is_refused_in_one_shape(served: Served, name: str) -> None:
    parts, status, code = REQUESTS[name]
    (await served.raw(*parts, end=False)).problem(status, code)
    assert (await served.api.http.get("/healthz")).status_code == 200


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent(served: Served) -> None:
    ann = (await served.api.user("ann"))["authorization"].encode()
    head = POST + b"Authorization: " + ann + b"\r\nContent-Length: 30000000\r\nExpect: 100-continue\r\n\r\n"
    (await served.raw(head, end=False)).problem(413, "too_large")


async def test_an_endless_body_is_refused_when_it_is_too_large(served: Served) -> None:
    ann = (await served.api.user("ann"))["authorization"].encode()
    head = POST + b"Authorization: " + ann + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    (await served.raw(head, *[chunk] * 20, end=False)).problem(413, "too_large")


async def test_a_body_that_is_cut_off_leaves_nothing(served: Served) -> None:
    ann = (await served.api.user("ann"))["authorization"].encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    writer.write(POST + b"Authorization: " + ann + b"\r\nContent-Length: 500\r\n\r\n" + b'{"body":')
    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    assert (await served.api.http.get("/healthz")).status_code == 200
    assert await served.api.claim() == []


async def test_two_requests_at_once_on_one_connection_are_two_answers(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    writer.write(
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(20):
        received = await reader.read()
    writer.close()
    assert [received.count(b"HTTP/1.1 200"), received.count(b"HTTP/1.1 404")] == [1, 1]


async def test_a_hostile_user_is_told_nothing_of_the_machine(redis: "Redis") -> None:
    async with running_api(redis, config()) as api:
        ann = await api.user("ann")
        answers: list[Any] = [
            await api.http.post("/v1/jobs", content=content, headers=ann | JSON)
            for content, _ in BODIES.values()
        ]
    for answer in answers:
        for secret in ("Traceback", "site-packages", ".py", "pydantic", "redis", "127.0.0.1", "pepper"):
            assert secret not in answer.text
