"""What the simulator's tests share: a clock moved by hand, request bodies, and waiting for a condition."""

import asyncio
import time
from collections.abc import Callable

import httpx2

from simulator.app import Simulator, create_app
from simulator.request import ChatRequest, parse_request
from simulator.settings import SimulatorSettings

START_S = 1_790_000_000.0
CHAT = "/v1/chat/completions"


class HandClock:
    """A clock that stands still unless somebody sleeps on it or moves it."""

    def __init__(self) -> None:
        self.now_s = START_S

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def chat(prompt: str = "What is a penstock?", **fields: object) -> dict[str, object]:
    """A request body with one user message."""
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": prompt}], **fields}


def request(prompt: str = "What is a penstock?", **fields: object) -> ChatRequest:
    """The same, read."""
    return parse_request(httpx2.Request("POST", "http://s", json=chat(prompt, **fields)).content)


def app_with(settings: SimulatorSettings, clock: HandClock) -> tuple[Simulator, httpx2.AsyncClient]:
    """A simulator on `clock`, and a client that calls it without a network."""
    app = create_app(settings, clock, clock.sleep)
    return app, httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://simulator")


async def until(condition: Callable[[], bool], deadline_s: float = 10) -> None:
    """Wait until `condition` holds; an `AssertionError` if it does not within `deadline_s`."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, "the condition did not come true in time"
        await asyncio.sleep(0.005)
