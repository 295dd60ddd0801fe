"""The simulator over real connections, in the test's event loop and as a process of its own (on uvloop)."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import httpx2
import pytest
import pytest_asyncio

from simulator.serve import running
from simulator.settings import Accounting, SimulatorSettings
from tests.simulator.builders import CHAT, chat, until
from tests.simulator.process import SimulatorProcess, started

IMPATIENT = httpx2.Timeout(5, read=0.2)
ACTUAL = SimulatorSettings(accounting=Accounting.ACTUAL)


@dataclass(frozen=True)
class Served:
    """A simulator and a client of it."""

    url: str
    client: httpx2.AsyncClient

    async def entry(self, prompt: str) -> dict[str, object]:
        """The only log entry of `prompt`, once it is finished."""
        end_s = time.monotonic() + 10
        while time.monotonic() < end_s:
            entries: list[dict[str, object]] = (await self.client.get("/_log")).json()["entries"]
            finished = [entry for entry in entries if entry["prompt"] == prompt and entry["finished_at"]]
            if finished:
                (entry,) = finished
                return entry
            await asyncio.sleep(0.01)
        raise AssertionError(f"the call with the prompt {prompt!r} did not end in time")


@pytest.fixture(scope="module")
def process() -> Iterator[SimulatorProcess]:
    with started("accounting=Accounting.ACTUAL") as simulator:
        yield simulator


@pytest_asyncio.fixture(params=["in this loop", "as a process"])
async def served(request: pytest.FixtureRequest, process: SimulatorProcess) -> AsyncIterator[Served]:
    async with running(ACTUAL) as simulator:
        url = simulator.url if request.param == "in this loop" else process.url
        async with httpx2.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:
            await client.delete("/_log")
            yield Served(url, client)


async def test_ordinary_answers_over_one_connection(served: Served) -> None:
    for index in range(5):
        answer = await served.client.post(CHAT, json=chat(f"question {index}"))
        assert answer.json()["choices"][0]["message"]["content"].startswith(f"echo: question {index}")
    assert (await served.client.get("/_stats")).json()["requests"] == 5


async def test_a_large_request_is_read_whole(served: Served) -> None:
    answer = await served.client.post(CHAT, json=chat("word " * 200_000))
    assert answer.json()["usage"]["prompt_tokens"] == 200_006


async def test_hang_answers_nothing_until_the_client_goes_away_and_is_billed_then(served: Served) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        await served.client.post(CHAT, json=chat("[[hang]]"), timeout=IMPATIENT)
    entry = await served.entry("[[hang]]")
    assert (entry["status"], entry["client_gone"], entry["fault"]) == (None, True, "hang")
    assert entry["charges"] == [[pytest.approx(entry["finished_at"], abs=1), entry["charged_tokens"]]]
    assert entry["charged_tokens"] == 7 + _number(entry["completion_tokens"])


async def test_a_client_that_leaves_during_the_latency_is_noticed_at_once(served: Served) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        await served.client.post(CHAT, json=chat("[[slow:60]]"), timeout=IMPATIENT)
    entry = await served.entry("[[slow:60]]")
    assert (entry["status"], entry["client_gone"]) == (None, True)
    assert entry["charged_tokens"]


async def test_reset_drops_the_connection_after_reading_the_request(served: Served) -> None:
    with pytest.raises(httpx2.ReadError):
        await served.client.post(CHAT, json=chat("[[reset]]"))
    entry = await served.entry("[[reset]]")
    assert (entry["status"], entry["client_gone"], entry["fault"]) == (None, False, "reset")


async def test_cut_closes_in_the_middle_of_the_body(served: Served) -> None:
    with pytest.raises(httpx2.RemoteProtocolError, match="without sending complete message body"):
        await served.client.post(CHAT, json=chat("[[cut]]"))
    entry = await served.entry("[[cut]]")
    assert (entry["status"], entry["client_gone"], entry["fault"]) == (200, False, "cut")


async def test_garbage_is_a_200_with_html(served: Served) -> None:
    answer = await served.client.post(CHAT, json=chat("[[garbage]]"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.text.startswith("<html>")


async def test_huge_never_ends_and_leaves_room_for_others(served: Served) -> None:
    received = 0
    async with served.client.stream("POST", CHAT, json=chat("[[huge]]")) as answer:
        async for part in answer.aiter_raw():
            received += len(part)
            if received > 20_000_000:
                break
        other = await served.client.post(CHAT, json=chat("hi"))
    assert other.status_code == 200
    entry = await served.entry("[[huge]]")
    assert (entry["status"], entry["client_gone"]) == (200, True)


async def test_a_gzip_bomb_is_small_on_the_wire_and_grows_beyond_bounds(served: Served) -> None:
    async with served.client.stream("POST", CHAT, json=chat("[[gzip-bomb]]")) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert int(answer.headers["content-length"]) < 2_000_000
        unpacked = 0
        async for part in answer.aiter_bytes():
            unpacked += len(part)
            if unpacked > 50_000_000:
                break
    assert unpacked > 50_000_000


async def test_drip_sends_its_bytes_one_at_a_time(served: Served) -> None:
    async with served.client.stream("POST", CHAT, json=chat("[[drip]]")) as answer:
        assert int(answer.headers["content-length"]) > 100
        assert await anext(answer.aiter_raw()) == b"{"
    assert (await served.entry("[[drip]]"))["client_gone"] is True


async def test_a_redirect_that_is_followed_is_counted(served: Served) -> None:
    answer = await served.client.post(CHAT, json=chat("[[redirect]]"))
    assert answer.status_code == 307
    assert (await served.client.get("/_stats")).json()["redirects_followed"] == 0
    await served.client.post(CHAT, json=chat("[[redirect]]"), follow_redirects=True)
    assert (await served.client.get("/_stats")).json()["redirects_followed"] == 1


async def test_a_usage_of_nan_reaches_the_client_as_nan(served: Served) -> None:
    answer = await served.client.post(CHAT, json=chat("[[usage:nan]]"))
    assert b'"total_tokens": NaN' in answer.content


async def test_a_cut_stream_ends_before_it_is_done(served: Served) -> None:
    parts: list[bytes] = []

    async def read() -> None:
        async with served.client.stream("POST", CHAT, json=chat("[[cut]]", stream=True)) as answer:
            async for part in answer.aiter_raw():
                parts.append(part)

    with pytest.raises(httpx2.RemoteProtocolError):
        await read()
    received = b"".join(parts)
    assert received.startswith(b"data: ")
    assert b"[DONE]" not in received


async def test_a_client_that_leaves_a_stream_is_billed(served: Served) -> None:
    async with served.client.stream("POST", CHAT, json=chat("[[slow:60]] on", stream=True)) as answer:
        assert answer.status_code == 200
    entry = await served.entry("[[slow:60]] on")
    assert (entry["status"], entry["client_gone"]) == (200, True)
    assert entry["charged_tokens"]


async def test_a_body_that_stops_half_way_is_no_request(served: Served) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST {CHAT} HTTP/1.1\r\nhost: s\r\ncontent-length: 100\r\n\r\n{{".encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await served.client.post(CHAT, json=chat("hi"))
    assert len((await served.client.get("/_log")).json()["entries"]) == 1


async def test_two_simulators_run_in_one_loop_and_their_logs_are_apart() -> None:
    async with running(SimulatorSettings()) as first, running(SimulatorSettings()) as second:
        async with httpx2.AsyncClient(trust_env=False) as client:
            await client.post(first.url + CHAT, json=chat("one"))
            await client.post(second.url + CHAT, json=chat("two"))
        assert [entry.prompt for entry in first.log()] == ["one"]
        assert [entry.prompt for entry in second.log()] == ["two"]
        assert second.stats().requests == 1
        second.clear()
        assert second.stats().requests == 0
        assert second.log() == []


async def test_faults_can_be_set_from_the_same_loop() -> None:
    async with running(SimulatorSettings()) as simulator, httpx2.AsyncClient(trust_env=False) as client:
        simulator.set_faults("rate: {503: 1}")
        assert (await client.post(simulator.url + CHAT, json=chat())).status_code == 503


async def test_stopping_cuts_calls_in_flight() -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        async with running(SimulatorSettings()) as simulator:
            call = asyncio.create_task(client.post(simulator.url + CHAT, json=chat("[[hang]]"), timeout=30))
            await until(lambda: len(simulator.log()) == 1)
        with pytest.raises(httpx2.TransportError):
            await call
        (entry,) = simulator.log()
        assert entry.finished_at is not None


async def test_hundreds_of_calls_at_once_are_served_and_every_charge_is_counted() -> None:
    settings = SimulatorSettings(tpm=1_000_000, latency_s=0.05)
    async with running(settings) as simulator:

        async def call(client: httpx2.AsyncClient, index: int) -> str:
            answer = await client.post(simulator.url + CHAT, json=chat(f"job {index}", max_tokens=92))
            content: str = answer.json()["choices"][0]["message"]["content"]
            return content

        limits = httpx2.Limits(max_connections=100)
        async with httpx2.AsyncClient(trust_env=False, limits=limits, timeout=30) as client:
            answers = await asyncio.gather(*(call(client, index) for index in range(300)))
        assert all(text.startswith(f"echo: job {index}") for index, text in enumerate(answers))
        stats = simulator.stats()
        assert (stats.requests, stats.in_flight) == (300, 0)
        assert stats.tokens_charged == stats.greatest_tokens_in_60s == 300 * 100
        assert sum(entry.charged_tokens for entry in simulator.log()) == 300 * 100


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value
