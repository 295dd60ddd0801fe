"""What attackers and broken clients send: always a 4xx of the one shape, never a stall, never a trace."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.harness import Api, chat, config, problem, running_api
from tests.api.server import Served

if TYPE_CHECKING:
    from redis.asyncio import Redis

LIMIT = 1_048_576


def with_body(text: str) -> bytes:
    return b'{"body":{"model":"m","messages":[{"role":"user","content":"x"}],"seed":' + text.encode() + b"}}"


def with_prompt(text: bytes) -> bytes:
    return b'{"body":{"model":"m","messages":[{"role":"user","content":"' + text + b'"}]}}'


JSON = {"content-type": "application/json"}

BODIES: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "nan": (with_body("NaN"), 400),
    "infinity": (with_body("Infinity"), 400),
    "minus infinity": (with_body("-Infinity"), 400),
    "1e999": (with_body("1e999"), 400),
    "5,000 digits": (with_body("9" * 5_000), 400),
    "duplicate keys": (b'{"body":{},"body":{}}', 400),
    "duplicate keys inside": (with_body('{"a":1,"a":2}'), 400),
    "lone surrogate": (with_prompt(b"\\ud800"), 422),
    "lone surrogate in a name": (with_body('{"\\udfff":1}'), 422),
    "100,000 deep": (with_body("[" * 100_000 + "]" * 100_000), 422),
    "100,000 deep without an end": (with_body("[" * 100_000), 422),
    "33 deep": (with_body("[" * 31 + "]" * 31), 422),
    "nul byte": (with_prompt(b"\x00"), 400),
    "byte-order mark": (b"\xef\xbb\xbf" + with_prompt(b"x"), 400),
    "utf-16": (with_prompt(b"x").decode().encode("utf-16"), 400),
    "utf-32": (with_prompt(b"x").decode().encode("utf-32"), 400),
    "invalid utf-8": (with_prompt(b"\xc3\x28"), 400),
    "overlong utf-8": (with_prompt(b"\xc0\xaf"), 400),
    "an array": (b"[]", 422),
    "a text": (b'"x"', 422),
    "unknown field": (b'{"bdoy":{}}', 422),
    "constructor": (b'{"__proto__":{},"body":{}}', 422),
    "too large": (with_prompt(b"x" * LIMIT), 413),
    "30 MB": (b" " * 30_000_000, 413),
    "350,000 arrays": (b'{"body":{"model":"m","messages":[' + b"[]," * 349_000 + b"[]]}}", 422),
    "60,000 fields": (json.dumps({f"f{n}": n for n in range(60_000)}).encode(), 422),
    "redirected": (json.dumps({"body": chat(api_base="http://169.254.169.254/")}).encode(), 422),
}


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


@pytest.mark.parametrize(
    "prompt",
    [
        b" " * 1_000_000,
        b"a" * 1_000_000,
        b"\\n" * 500_000,
        b"\\u0000" * 150_000,
        b"[[{{" * 250_000,
        "😀".encode() * 250_000,
        b"<|endoftext|>" * 10,
        b"<|endoftext|>" * 50_000,
        b"EVAL 'redis.call(\\\"FLUSHALL\\\")' 0\\r\\n*1\\r\\n$8\\r\\nFLUSHALL\\r\\n",
    ],
)
async def test_a_strange_prompt_is_a_prompt(api: Api, prompt: bytes) -> None:
    ann = await api.user("ann")
    longest, last = 0.0, time.perf_counter()

    async def watch() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    watcher = asyncio.create_task(watch())
    answer = await api.http.post("/v1/jobs", content=with_prompt(prompt), headers=ann | JSON)
    watcher.cancel()
    if answer.status_code == 202:
        [claimed] = await api.claim()
        assert json.loads(claimed.body)["messages"] == json.loads(with_prompt(prompt))["body"]["messages"]
    else:
        problem(answer, 422, "job_too_large")
    assert longest < 0.1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "multipart/form-data; boundary=x"},
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


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([GET + b"".join(b"X-%d: 1\r\n" % n for n in range(5_000)) + b"\r\n"], 431, "headers_too_large"),
        ([GET + b"X: " + b"x" * 200_000 + b"\r\n\r\n"], 431, "headers_too_large"),
        ([GET, *[b"X: " + b"x" * 1_000 + b"\r\n"] * 70], 431, "headers_too_large"),
        ([GET + b"X: ", *[b"x" * 10_000] * 20], 431, "headers_too_large"),
        ([b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"], 431, "headers_too_large"),
        ([b"GET /healthz HTTP/1.1\r\n\r\n"], 400, "bad_request"),
        ([GET + b"Host: y\r\n\r\n"], 400, "bad_request"),
        ([b"nonsense\r\n\r\n"], 400, "bad_request"),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400, "bad_request"),
        ([b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n"], 400, "bad_request"),
        ([b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n"], 400, "bad_request"),
        ([b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"], 404, "not_found"),
        ([GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"], 400, "bad_request"),
        ([GET + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"], 400, "bad_request"),
        ([GET + b"Content-Length: -5\r\n\r\n"], 400, "bad_request"),
        ([GET + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n"], 400, "bad_request"),
        ([GET + b"X : y\r\n\r\n"], 400, "bad_request"),
        ([GET + b"X: a\x00b\r\n\r\n"], 400, "bad_request"),
    ],
)
async def test_what_is_no_proper_request_is_refused_in_one_shape(
    served: Served, parts: list[bytes], status: int, code: str
) -> None:
    (await served.raw(*parts, end=False)).problem(status, code)
    assert (await served.api.http.get("/healthz")).status_code == 200


POST = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


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
