"""How much of a provider's tokens per minute do four real workers use, and does any minute pass the limit?

Real processes in real time: four workers, a Valkey, and a simulator for each way of counting, all of them saturated at
once. What counts is the simulators' own logs: when each charged how much, and what it refused. The same in simulated
time, for longer: `bench.utilisation`.
"""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml

from bench.arguments import parsed
from bench.charges import minutes
from bench.report import Report
from bench.server import valkey
from bench.utilisation import (
    CALL_S,
    CAP,
    CASES,
    LIMIT,
    MEAN_ANSWER,
    PROMPT,
    WARM_UP_MIN,
    WORKERS,
    Case,
    Result,
    U,
    judge,
)
from jobs.config import Config
from jobs.connection import connect
from jobs.record import NewJob
from jobs.store import JobStore
from jobs.users import Users

ROOT = Path(__file__).parents[1]
RUN_S, QUICK_RUN_S = 480, 300
WARM_UP_S = 60 * WARM_UP_MIN
"""Windows are looked at from so long after the first charge: learned estimates know little at first."""
SLOTS = 200
SUBMITTING = 50


def config(urls: dict[str, str]) -> dict[str, Any]:
    """One provider for each case, with a model of its name; as it stands in the workers' file."""
    providers = {
        case.goal: {
            "base_url": f"{urls[case.goal]}/v1", "accounting": case.accounting, "window": case.window,
            "estimates": case.estimates, "tokens_per_minute": LIMIT, "timeout_s": 60.0,
            "models": {case.goal: {"max_output_tokens": CAP}},
        }
        for case in CASES
    }  # fmt: skip
    return {"tiers": {"open": {}}, "providers": providers}


@contextmanager
def process(folder: Path, name: str, *arguments: str, **environment: str) -> Iterator[Path]:
    """A command of penstock for as long as the block lasts; what it prints goes to the file that is given."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield log
        finally:
            ended = running.poll() is not None
            running.kill()
            running.wait()
        if ended:
            raise RuntimeError(f"{name} ended by itself: {log.read_text()[-500:]}")


def simulator_url(log: Path) -> str:
    """What a simulator says it listens at, once it does."""
    deadline = time.monotonic() + 60
    while "listening on " not in (text := log.read_text()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"no simulator: {text}")
        time.sleep(0.05)
    return text.partition("listening on ")[2].split()[0]


def simulator(folder: Path, case: Case, seed: int) -> Any:
    return process(
        folder, case.goal, "simulator", "--port", "0", "--tpm", str(LIMIT), "--accounting", case.accounting,
        "--latency", str(CALL_S), "--latency-jitter", str(CALL_S / 2), "--answer-tokens", str(MEAN_ANSWER),
        "--max-output-tokens", str(CAP), "--seed", str(seed),
    )  # fmt: skip


async def submit(store: JobStore, run_s: int) -> None:
    """More jobs for every case than can be done in the time."""
    prompt = " ".join(["water"] * (PROMPT - 10))
    wanted: list[NewJob] = []
    for case in CASES:
        each = PROMPT + CAP if case.accounting == "openai" else PROMPT + MEAN_ANSWER
        for number in range(round(LIMIT / each * (2 + run_s / 60))):
            body = {
                "model": case.goal, "max_tokens": CAP,
                "messages": [{"role": "user", "content": f"{number} {prompt}"}],
            }  # fmt: skip
            wanted.append(
                NewJob(f"job_{len(wanted):026d}", "ann", case.goal, json.dumps(body).encode(), PROMPT, CAP)
            )
    jobs = iter(wanted)

    async def some() -> None:
        for job in jobs:
            await store.submit(job)

    await asyncio.gather(*(some() for _ in range(SUBMITTING)))


async def measure(run_s: int) -> dict[str, Result]:
    """Saturate all providers for so long; what their logs say."""
    with ExitStack() as stack:
        url = stack.enter_context(valkey())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        logs = {
            case.goal: stack.enter_context(simulator(folder, case, seed)) for seed, case in enumerate(CASES)
        }
        urls = {name: simulator_url(log) for name, log in logs.items()}
        told = config(urls)
        file = folder / "penstock.yaml"
        file.write_text(yaml.safe_dump(told))
        redis = connect(url, client_name="bench", max_connections=SUBMITTING)
        store = JobStore(redis)
        await store.start()
        await store.publish(Config.model_validate(told))
        await Users(redis).create("ann", "open", {})
        await submit(store, run_s)
        await redis.aclose()
        for number in range(WORKERS):
            stack.enter_context(
                process(
                    folder, f"worker-{number}", "worker", "--max-jobs", str(SLOTS), REDIS_URL=url,
                    PENSTOCK_CONFIG=str(file), PENSTOCK_SECRET=secrets.token_hex(32),
                )
            )  # fmt: skip
        began_s = time.time()
        await asyncio.sleep(run_s)
        async with httpx2.AsyncClient(timeout=60) as client:
            return {case.goal: await result(client, urls[case.goal], began_s) for case in CASES}


async def result(client: httpx2.AsyncClient, url: str, began_s: float) -> Result:
    """What a simulator's log says until now."""
    stats = (await client.get(f"{url}/_stats")).json()
    entries = (await client.get(f"{url}/_log")).json()["entries"]
    charges = [(at_s, tokens) for entry in entries for at_s, tokens in entry["charges"]]
    first_s, last_s = min(charges)[0], time.time()
    return Result(
        jobs=sum(entry["status"] == 200 for entry in entries),
        refused=stats["status_429"],
        windows=minutes(charges, LIMIT, began_s + WARM_UP_S, last_s),
        given=sum(tokens for _, tokens in charges) / (LIMIT * (1 + (last_s - first_s) / 60)),
    )


async def main() -> None:
    arguments = parsed(__doc__)
    run_s = QUICK_RUN_S if arguments.quick else RUN_S
    results = await measure(run_s)
    report = Report("saturation", (__doc__ or "").partition("\n")[0])
    judge(report, results)
    report.note(
        f"{run_s} s of real time, the first {WARM_UP_S} left out of the windows; {WORKERS} workers of {SLOTS} slots "
        f"and four simulators at once, a limit of {LIMIT:,} tokens a minute each, answers of "
        f"{PROMPT + MEAN_ANSWER:,} tokens on average, exponentially distributed, caps of {PROMPT + CAP:,}, calls of "
        f"{CALL_S:g} s give or take a half. U = {U:.3f}."
    )
    report.write(arguments.results)


if __name__ == "__main__":
    asyncio.run(main())
