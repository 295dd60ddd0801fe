"""The simulator as a command: one line when it listens, a clean end, and errors that say what to change."""

import signal

import httpx2
import pytest

from simulator.errors import SimulatorError
from simulator.serve import run, running
from simulator.settings import SimulatorSettings
from tests.simulator.builders import CHAT, chat
from tests.simulator.process import DEADLINE_S, started


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_cleanly_when_told(told: signal.Signals) -> None:
    with started() as simulator:
        assert httpx2.get(simulator.url + "/healthz", trust_env=False).json() == {"status": "ok"}
        with (
            httpx2.Client(trust_env=False) as client,
            client.stream("POST", simulator.url + CHAT, json=chat("[[slow:60]]", stream=True)),
        ):
            simulator.process.send_signal(told)
            assert simulator.process.wait(DEADLINE_S) == 0
        assert simulator.process.stdout is not None
        assert simulator.process.stdout.read() == ""


async def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    async with running(SimulatorSettings()) as simulator:
        port = int(simulator.url.rsplit(":", 1)[1])
        with pytest.raises(
            SimulatorError, match=f"cannot listen on 127.0.0.1:{port}: .*; choose another host or port"
        ):
            async with running(SimulatorSettings(port=port)):
                pytest.fail("two simulators on one port")


def test_run_raises_the_same_error() -> None:
    with started() as simulator:
        port = int(simulator.url.rsplit(":", 1)[1])
        with pytest.raises(SimulatorError, match=f"cannot listen on 127.0.0.1:{port}"):
            run(SimulatorSettings(port=port))
