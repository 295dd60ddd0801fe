"""Names that change their mind: what a delivery connects to is what it has checked, at that moment."""

import asyncio
import socket
from dataclasses import replace

import pytest

from jobs.egress import Policy, SubmissionCheck, Target
from tests.jobs.names import PUBLIC, SILENT, UNKNOWN, Later, Names
from tests.worker.receiver import HOST, OK, Receiver, Sender


async def test_a_name_that_was_public_at_submission_is_judged_again() -> None:
    async with Receiver(OK) as receiver:
        names = Names({HOST: [PUBLIC, ("127.0.0.1",)]})
        # An exception for the port, so that nothing but the address stands in the way.
        policy = "93.184.215.14:" + str(receiver.port)
        async with Sender(policy, resolver=names) as sender:
            check = SubmissionCheck(names)
            assert isinstance(await check.check(receiver.url, sender.client.policy), Target)

            failed = await sender.failed(receiver.url)

        assert failed.forbidden
        assert failed.reason.startswith("loopback: ")
        assert receiver.connections == 0


async def test_a_name_is_looked_up_once_and_never_by_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve_again(host: str, *args: object, **kwargs: object) -> None:
        raise AssertionError(f"{host} was looked up behind the guard's back")

    def resolve_blocking(host: str, *args: object, **kwargs: object) -> None:
        raise AssertionError(f"{host} was looked up behind the guard's back")

    async with Receiver(OK) as receiver:
        answers = {HOST: [("127.0.0.1",), ("127.0.0.2",)]}
        async with Sender(f"127.0.0.1:{receiver.port}", addresses=answers) as sender:
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve_again)
            monkeypatch.setattr(socket, "getaddrinfo", resolve_blocking)
            await sender.delivered(receiver.url)

            assert sender.names.asked == [HOST]


@pytest.mark.parametrize(
    "addresses",
    [("127.0.0.1", "10.0.0.1"), ("10.0.0.1", "127.0.0.1"), ("127.0.0.1", "::1"), ("::1", "127.0.0.1")],
)
async def test_one_forbidden_address_among_allowed_ones_stops_the_delivery(
    addresses: tuple[str, ...],
) -> None:
    async with (
        Receiver(OK) as receiver,
        Sender(f"127.0.0.1:{receiver.port}", addresses={HOST: [addresses]}) as sender,
    ):
        failed = await sender.failed(receiver.url)

        assert failed.forbidden
        assert receiver.connections == 0


async def test_a_name_may_move_between_deliveries_but_not_to_where_it_must_not() -> None:
    answers = {HOST: [("127.0.0.1",), ("127.0.0.2",)]}
    close = OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    async with (
        Receiver(close) as receiver,
        Sender(f"127.0.0.1:{receiver.port}", addresses=answers) as sender,
    ):
        await sender.delivered(receiver.url)

        assert (await sender.failed(receiver.url)).forbidden
        assert receiver.connections == 1


async def test_a_kept_connection_serves_its_own_scheme_host_and_port_only() -> None:
    other = "other.example.com"
    answers = {HOST: [("127.0.0.1",)], other: [("10.0.0.1",)]}
    async with Receiver(OK) as receiver:
        url = receiver.url
        async with Sender(f"127.0.0.1:{receiver.port}", addresses=answers) as sender:
            await sender.delivered(url)
            await sender.delivered(url)

            assert sender.names.asked == [HOST]
            assert (await sender.failed(url.replace(HOST, other))).forbidden
            assert sender.names.asked == [HOST, other]
            assert receiver.connections == 1


async def test_a_kept_connection_is_not_used_under_another_policy() -> None:
    async with Receiver(OK) as receiver, Sender(f"127.0.0.1:{receiver.port}") as sender:
        await sender.delivered(receiver.url)
        sender.client.policy = replace(sender.client.policy, allow_http=False)
        await sender.delivered(receiver.url)

        assert receiver.connections == 2

        sender.client.policy = Policy()
        assert (await sender.failed(receiver.url)).forbidden


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    answers = {HOST: [("127.0.0.2", "127.0.0.3", "127.0.0.1")]}
    async with Receiver(OK) as receiver, Sender(f"{HOST}:{receiver.port}", addresses=answers) as sender:
        assert (await sender.delivered(receiver.url)).status == 200
        assert receiver.requests[0].headers["host"] == f"{HOST}:{receiver.port}"


async def test_both_families_are_tried_in_turn_and_not_every_address() -> None:
    # The good one is the fifth in the answer, but the second in turn; after four of one family, nothing is tried.
    nowhere = tuple(f"::ffff:127.0.1.{i}" for i in range(4))
    answers = {HOST: [(*nowhere, "127.0.0.1")], "many.example.com": [(*nowhere, "::ffff:127.0.0.1")]}
    async with Receiver(OK) as receiver:
        allow = (f"{HOST}:{receiver.port}", f"many.example.com:{receiver.port}")
        async with Sender(*allow, addresses=answers) as sender:
            assert (await sender.delivered(receiver.url)).status == 200
            assert not (await sender.failed(receiver.url.replace(HOST, "many.example.com"))).forbidden
            assert receiver.connections == 1


@pytest.mark.parametrize(
    ("answer", "our_fault", "reason"),
    [
        (UNKNOWN, False, "the host has no address"),
        (SILENT, True, "the name servers gave no answer"),
        (Later(asyncio.Event(), PUBLIC), True, "the name servers gave no answer"),
    ],
)
async def test_a_name_without_an_answer_is_told_from_a_silent_name_server(
    answer: type[Exception] | Later, our_fault: bool, reason: str
) -> None:
    async with Sender(addresses={HOST: [answer]}, lookup_s=0.05) as sender:
        failed = await sender.failed(f"https://{HOST}/")

    assert failed.reason == reason
    assert failed.our_fault is our_fault
    assert not failed.forbidden


@pytest.mark.parametrize("allow", ["127.0.0.1:{port}", "localhost:{port}", "127.0.0.1/32:{port}"])
async def test_an_operators_exception_lets_a_delivery_through(allow: str) -> None:
    async with Receiver(OK) as receiver:
        entry = allow.format(port=receiver.port)
        async with Sender(entry, addresses={"localhost": [("127.0.0.1",)]}) as sender:
            assert (await sender.delivered(f"http://localhost:{receiver.port}/")).status == 200


async def test_a_range_lets_no_delivery_through_to_loopback() -> None:
    async with Receiver(OK) as receiver, Sender(f"127.0.0.0/8:{receiver.port}") as sender:
        failed = await sender.failed(f"http://127.0.0.1:{receiver.port}/")

        assert failed.forbidden
        assert receiver.connections == 0
