"""How many submissions one API process takes, beside the floor and LiteLLM's proxy.

    python -m bench.front [--quick]

Each server is one process with a Valkey of its own that writes its append-only file; the load is of one kind, and they
take turns.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.arguments import Arguments, parsed
from bench.environments import PeerMissing, environment
from bench.figures import Spread, interleaved
from bench.load import Load, generator, once, post
from bench.processes import cpu_s, free_port, module, running
from bench.report import Report
from bench.server import valkey
from bench.service import api, key_of
from bench.settings import CHAT_BODY

CONNECTIONS = (32, 128)
LITELLM_S = 15.0
"""It needs seconds to answer 128 connections once."""


@dataclass(frozen=True, slots=True)
class Front:
    """A server to be measured."""

    url: str
    body: bytes
    headers: dict[str, str]
    pid: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of load on a server, and what it took of the processor."""

    load: Load
    cpu_us: float


def measure(front: Front, connections: int) -> Measured:
    """Raises RuntimeError if a request fails."""
    once(front.url, front.body, front.headers)
    before_s = cpu_s(front.pid)
    load = post(front.url, front.body, front.headers, connections=connections, seconds=front.seconds)
    return Measured(load, (cpu_s(front.pid) - before_s) / load.requests * 1e6)


@contextmanager
def penstock(seconds: float) -> Iterator[Front]:
    """Penstock's API, asked by a user with every kind of limit."""
    with valkey(aof=True) as url, api(url, "http://127.0.0.1:9/v1") as (address, pid):
        key = key_of(url)
        headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        yield Front(f"{address}/v1/jobs", _submission(), headers, pid, seconds)


@contextmanager
def floor(seconds: float) -> Iterator[Front]:
    """bench/floor.py."""
    port = free_port()
    with (
        valkey(aof=True) as url,
        running(module("bench.floor", "--port", str(port), "--redis", url), port=port) as pid,
    ):
        address = f"http://127.0.0.1:{port}/v1/jobs"
        yield Front(address, _submission(), {"content-type": "application/json"}, pid, seconds)


@contextmanager
def litellm(seconds: float) -> Iterator[Front]:
    """LiteLLM's proxy before a provider that answers at once. Raises PeerMissing."""
    python = environment("litellm")
    port, provider = free_port(), free_port()
    with ExitStack() as stack:
        url = stack.enter_context(valkey(aof=True))
        stack.enter_context(running(module("bench.provider", "--port", str(provider)), port=provider))
        folder = Path(stack.enter_context(TemporaryDirectory()))
        (folder / "config.yaml").write_text(_litellm_config(provider, url))
        (folder / "litellm_auth.py").write_text(
            Path(__file__).with_name("peers").joinpath("litellm_auth.py").read_text()
        )
        pid = stack.enter_context(
            running(
                [python.with_name("litellm"), "--config", folder / "config.yaml", "--host", "127.0.0.1",
                 "--port", str(port), "--num_workers", "1"],
                environment={"PYTHONPATH": str(folder), "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
                port=port, log=Path(os.environ.get("PENSTOCK_BENCH_LOG", os.devnull)),
            )
        )  # fmt: skip
        headers = {"content-type": "application/json", "authorization": "Bearer sk-ann"}
        yield Front(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            json.dumps(CHAT_BODY).encode(),
            headers,
            pid,
            seconds,
        )


def _submission() -> bytes:
    return json.dumps({"body": CHAT_BODY, "metadata": {"batch": "front"}}).encode()


def _litellm_config(provider: int, redis_url: str) -> str:
    """As its pages say for limits over several processes: the limiter counts in Redis, answers are not cached."""
    redis_host, _, redis_port = redis_url.removeprefix("redis://").partition("/")[0].partition(":")
    model = {"model": "openai/m", "api_base": f"http://127.0.0.1:{provider}/v1", "api_key": "none"}
    cache = {
        "type": "redis", "host": redis_host, "port": int(redis_port), "supported_call_types": [],
    }  # fmt: skip
    return json.dumps(
        {
            "model_list": [{"model_name": CHAT_BODY["model"], "litellm_params": model}],
            "litellm_settings": {"cache": True, "cache_params": cache, "num_retries": 0},
            "general_settings": {
                "custom_auth": "litellm_auth.user_api_key_auth",
                "master_key": f"sk-{'bench' * 10}",
            },
        }
    )


def measuring(front: Front, connections: int) -> Callable[[], Awaitable[Measured]]:
    """The measurement as `interleaved` calls it."""
    return lambda: asyncio.to_thread(measure, front, connections)


def run(arguments: Arguments) -> Report:
    """The whole question."""
    report = Report("front", "How many submissions does one API process take?")
    seconds = 2.0 if arguments.quick else 5.0
    with ExitStack() as stack:
        fronts = {
            "penstock": stack.enter_context(penstock(seconds)),
            "floor": stack.enter_context(floor(seconds)),
        }
        try:
            proxy = stack.enter_context(litellm(max(seconds, LITELLM_S)))
            # One that does not get to its first answer under load would end the whole run later.
            measure(proxy, CONNECTIONS[-1])
            fronts["LiteLLM"] = proxy
        except (PeerMissing, RuntimeError, OSError) as missing:
            report.note(f"LiteLLM was not measured: {missing}")
        found: dict[int, dict[str, list[Measured]]] = {}
        for connections in CONNECTIONS:
            variants = {name: measuring(front, connections) for name, front in fronts.items()}
            found[connections] = asyncio.run(interleaved(variants, repetitions=arguments.repetitions))
    _tell(report, found)
    return report


def _tell(report: Report, found: dict[int, dict[str, list[Measured]]]) -> None:
    for connections, by_name in found.items():
        rates = {name: Spread.of([one.load.per_s for one in runs]) for name, runs in by_name.items()}
        p99 = {name: Spread.of([one.load.p99_ms for one in runs]) for name, runs in by_name.items()}
        report.table(
            f"{connections} connections",
            ["", "requests/s", "of the floor's", "p50 ms", "p99 ms", "CPU µs a request"],
            [
                [
                    name, rates[name], rates[name].over(rates["floor"]),
                    Spread.of([one.load.p50_ms for one in runs]), p99[name],
                    Spread.of([one.cpu_us for one in runs]),
                ]
                for name, runs in by_name.items()
            ],
        )  # fmt: skip
        report.bars(f"{connections}", f"Submissions a second, {connections} connections", rates)
        report.judge(f"requests_of_floor_{connections}", rates["penstock"].over(rates["floor"]))
        report.judge(f"p99_of_floor_{connections}", p99["penstock"].over(p99["floor"]))
        if connections == CONNECTIONS[0] and "LiteLLM" in rates:
            report.judge("requests_of_litellm", rates["penstock"].over(rates["LiteLLM"]))
    report.note(
        f"Load by {generator()}; a body of {len(_submission())} bytes. The floor is FastAPI with pydantic in and out "
        "and one script by redis-py that keeps the body, without users, limits or queue; LiteLLM's requests are whole "
        "calls of a provider that answers at once, with one user's limits counted in Redis."
    )


if __name__ == "__main__":
    chosen = parsed(__doc__)
    run(chosen).write(chosen.results)
