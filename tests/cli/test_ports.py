"""Ports are looked at before anything is started."""

import socket
from collections.abc import Iterator

import pytest

from cli.errors import CommandError
from cli.ports import base_url, claim_port


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_port_is_told_with_the_option_that_helps(taken: int) -> None:
    with pytest.raises(CommandError, match=rf"port {taken} on 127\.0\.0\.1 is taken .* with --port$"):
        claim_port("127.0.0.1", taken)


def test_a_port_that_was_just_left_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            # The side that closes first is the one whose port lingers.
            accepted.close()
            assert client.recv(1) == b""
    assert claim_port("127.0.0.1", port) == port


def test_port_0_is_any_free_one_that_no_outgoing_connection_is_given() -> None:
    assert {claim_port("127.0.0.1", 0) // 10_000 for _ in range(20)} == {2}


def test_a_drawn_port_that_is_taken_is_passed_over(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    monkeypatch.setattr("cli.ports._DRAWN", [taken, free])
    monkeypatch.setattr("cli.ports._DRAWS", 2)
    assert {claim_port("127.0.0.1", 0) for _ in range(10)} == {free}


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_told(host: str) -> None:
    with pytest.raises(CommandError, match=f"cannot listen on {host} port 0: .*--host"):
        claim_port(host, 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:8080"),
        ("::1", "http://[::1]:8080"),
        ("penstock.internal", "http://penstock.internal:8080"),
    ],
)
def test_where_a_listener_is_reached(host: str, url: str) -> None:
    assert base_url(host, 8080) == url
