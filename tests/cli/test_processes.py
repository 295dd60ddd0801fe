"""`penstock api`, `worker` and `simulator` by themselves."""

import socket
from pathlib import Path

import httpx2
import pytest

from tests.cli.conftest import Run
from tests.cli.running import running

MESSAGE = {"model": "m1", "messages": [{"role": "user", "content": "Hello"}]}


def test_the_simulator_does_as_its_options_say(directory: Path) -> None:
    (directory / "faults.yaml").write_text("rate: {'fail:503': 1.0}\n")
    options = (
        "--port",
        "0",
        "--tpm",
        "1000",
        "--rpm",
        "3",
        "--model",
        "m1",
        "--model",
        "m2",
        "--api-key",
        "k",
    )
    with running(directory, "simulator", *options, "--faults", "faults.yaml") as simulator:
        url = simulator.says(r"^simulator listening on (\S+)$")[1]
        with httpx2.Client(base_url=url, trust_env=False) as http:
            assert http.get("/v1/models").status_code == 401
            http.headers["authorization"] = "Bearer k"
            assert [model["id"] for model in http.get("/v1/models").json()["data"]] == ["m1", "m2"]
            too_large = http.post("/v1/chat/completions", json={**MESSAGE, "max_tokens": 1001})
            assert too_large.status_code == 429
            statuses = [
                http.post("/v1/chat/completions", json={**MESSAGE, "max_tokens": 1}).status_code
                for _ in range(3)
            ]
            assert statuses == [503, 503, 429]
        simulator.interrupt()
        assert simulator.ends() == 0


@pytest.mark.parametrize("command", ["api", "simulator"])
def test_a_taken_port_is_told(penstock: Run, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = penstock(
            command,
            "--port",
            port,
            REDIS_URL="redis://127.0.0.1:9/0",
            PENSTOCK_SECRET="a secret of the tests",
        )
    assert done.status == 1
    assert done.err.startswith("penstock: ")
    assert port in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("content", [None, "rate: {nonsense: 1.0}\n"])
def test_a_wrong_file_of_faults_is_told(penstock: Run, directory: Path, content: str | None) -> None:
    if content is not None:
        (directory / "faults.yaml").write_text(content)
    done = penstock("simulator", "--port", "0", "--faults", "faults.yaml")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("penstock: ")
    assert "faults.yaml" in done.err
    assert done.err.count("\n") == 1
