"""The process on the wire: slow clients, lingering, and the end of a process in the middle of requests."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import httpx2
import pytest
from starlette.types import Message

from api import body, protocol
from api.packet import OnePacket
from tests.api.harness import ADMIN, ADMIN_KEY, SECRET, chat
from tests.api.server import HOST, Served
from tests.support.valkey import running_valkey
from tests.support.waiting import DEADLINE_S, eventually

POST = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


async def test_a_body_that_stops_is_answered_and_cut(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "SILENCE_S", 0.05)
    ann = (await served.api.user("ann"))["authorization"].encode()
    head = POST + b"Authorization: " + ann + b"\r\nContent-Length: 500\r\n\r\n"
    answer = await served.raw(head, b'{"body":', end=False)
    told = answer.problem(408, "slow_body")
    assert (told["silence_s"], told["total_s"]) == (0.05, 30.0)
    assert answer.headers["connection"] == "close"


async def test_a_header_that_stops_is_answered_and_cut(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.05)
    answer = await served.raw(b"GET /healthz HTTP/1.1\r\nHost:", end=False)
    answer.problem(408, "slow_body")


async def test_a_connection_that_says_nothing_is_cut(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.05)
    reader, writer = await asyncio.open_connection(HOST, served.server.port)
    async with asyncio.timeout(DEADLINE_S):
        assert await reader.read() == b""
    writer.close()


async def test_a_body_that_goes_on_after_its_answer_is_read_for_a_while(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = await asyncio.open_connection(HOST, served.server.port)
    # Without a key: answered before the body has come. The rest is thrown away, and the next request answered.
    writer.write(POST + b"Content-Length: 10\r\n\r\nabc")
    async with asyncio.timeout(DEADLINE_S):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        await reader.readexactly(length)
        assert b" 401 " in head.split(b"\r\n")[0]
        writer.write(b"defghij" + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in await reader.readline()
    writer.close()


async def test_a_body_that_never_ends_after_its_answer_is_cut(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "LINGER_S", 0.05)
    reader, writer = await asyncio.open_connection(HOST, served.server.port)
    writer.write(POST + b"Content-Length: 1000000\r\n\r\nabc")
    async with asyncio.timeout(DEADLINE_S):
        received = await reader.read()
    assert received.startswith(b"HTTP/1.1 401")
    writer.close()


async def test_the_server_does_not_say_what_it_is_made_of(served: Served) -> None:
    headers = (await served.api.http.get("/healthz")).headers
    assert "server" not in headers
    assert headers["date"]


async def test_answers_leave_in_one_packet(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []

    class Seen(OnePacket):
        def _write(self, start: Message, body: bytes) -> None:
            written.append(body)
            super()._write(start, body)

    monkeypatch.setattr(protocol, "OnePacket", Seen)
    answers = [await served.api.http.get(path) for path in ("/healthz", "/v1/jobs/none", "/openapi.json")]
    assert written == [answer.content for answer in answers]


async def test_a_client_that_hangs_up_waits_no_longer(served: Served) -> None:
    api = served.api
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    polling = asyncio.create_task(api.http.get(f"/v1/jobs/{job_id}?wait=60", headers=ann))
    await eventually(lambda: api.app.service.waiters.count == 1)
    polling.cancel()
    await eventually(lambda: api.app.service.waiters.count == 0)


async def test_sigterm_answers_whoever_waits(served: Served) -> None:
    api = served.api
    ann = await api.user("ann")
    job_id = await api.submitted(ann)
    polling = asyncio.create_task(api.http.get(f"/v1/jobs/{job_id}?wait=60", headers=ann))
    await eventually(lambda: api.app.service.waiters.count == 1)
    os.kill(os.getpid(), signal.SIGTERM)
    answer = await polling
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")


async def test_answers_of_a_process_that_stops_close_their_connections(served: Served) -> None:
    assert "connection" not in (await served.api.http.get("/healthz")).headers
    served.api.app.service.waiters.drain()
    assert (await served.api.http.get("/healthz")).headers["connection"] == "close"


async def test_a_body_that_the_drain_cannot_wait_for_is_answered_503(served: Served) -> None:
    ann = (await served.api.user("ann"))["authorization"].encode()
    head = POST + b"Authorization: " + ann + b"\r\nContent-Length: 500\r\n\r\n"
    served.server.config.timeout_graceful_shutdown = 0
    reading = asyncio.create_task(served.raw(head, b'{"body":', end=False))
    await eventually(lambda: len(served.server.server_state.tasks) == 1)
    served.server.stop()
    answer = await reading
    assert answer.problem(503, "unavailable")["retry_after"] >= 1
    assert answer.headers["connection"] == "close"


def start(folder: Path, redis_url: str) -> "asyncio.Task[asyncio.subprocess.Process]":
    program = (
        "from jobs.environment import Environment; from jobs.logging import configure_logging; "
        "from api.serve import run; configure_logging('json', 'info'); run(Environment.load())"
    )
    settings = {
        "REDIS_URL": redis_url,
        "PENSTOCK_SECRET": SECRET,
        "PENSTOCK_ADMIN_KEY": ADMIN_KEY,
        "PENSTOCK_PORT": "0",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    return asyncio.create_task(
        asyncio.create_subprocess_exec(
            sys.executable, "-c", program, env=settings, cwd=folder, stderr=asyncio.subprocess.PIPE
        )
    )


async def address(process: asyncio.subprocess.Process) -> str:
    """Where the process listens, from what it logs."""
    assert process.stderr is not None
    log = b""
    async for line in process.stderr:
        log += line
        if b"running on http" in line:
            return "http://" + line.decode().partition("http://")[2].split()[0]
    raise AssertionError(log.decode())


async def test_a_process_serves_and_ends_with_0(tmp_path: Path) -> None:
    with running_valkey(tmp_path / "valkey", aof=True) as valkey:
        process = await start(tmp_path, valkey.url)
        try:
            async with asyncio.timeout(60):
                url = await address(process)
                async with httpx2.AsyncClient(base_url=url, headers=ADMIN, trust_env=False) as http:
                    assert (await http.get("/readyz")).json() == {"status": "ready"}
                    answer = await http.post("/v1/jobs", json={"body": chat(model="gpt-4o-mini")})
                    assert answer.status_code == 202
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
