"""The check at submission: what a name leads to now, asked briefly and remembered for a minute."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from jobs.config import Webhooks
from jobs.egress import Policy, Refused, SubmissionCheck, Target
from tests.jobs.names import PUBLIC, SILENT, UNKNOWN, Later, Names
from tests.support.waiting import DEADLINE_S

URL = "https://hooks.example.com/in"
DEFAULT = Policy()
LONG_S = 30.0


@dataclass
class Clock:
    """A clock that a test turns."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Checks:
    """SubmissionChecks that are closed at the end of the test."""

    made: list[SubmissionCheck] = field(default_factory=list)

    def __call__(
        self, names: Names, *, clock: Clock | None = None, lookup_s: float = LONG_S, remembered_max: int = 100
    ) -> SubmissionCheck:
        check = SubmissionCheck(
            names, now_s=clock or Clock(), lookup_s=lookup_s, remembered_max=remembered_max
        )
        self.made.append(check)
        return check


@pytest.fixture
async def checks() -> AsyncIterator[Checks]:
    checks = Checks()
    yield checks
    for check in checks.made:
        await check.aclose()


async def test_a_name_that_leads_to_public_addresses_is_accepted(checks: Checks) -> None:
    names = Names({"hooks.example.com": [("93.184.215.14", "2606:2800:21f::1")]})

    assert isinstance(await checks(names).check(URL, DEFAULT), Target)
    assert names.asked == ["hooks.example.com"]


@pytest.mark.parametrize(
    ("addresses", "rule"),
    [
        (("127.0.0.1",), "loopback"),
        (("93.184.215.14", "10.0.0.1"), "private"),
        (("2606:2800:21f::1", "fd00:ec2::254"), "cloud_metadata"),
        (("::ffff:93.184.215.14",), "ipv4_mapped"),
    ],
)
async def test_one_forbidden_address_is_enough_to_refuse(
    checks: Checks, addresses: tuple[str, ...], rule: str
) -> None:
    refused = await checks(Names({"hooks.example.com": [addresses]})).check(URL, DEFAULT)

    assert isinstance(refused, Refused)
    assert refused.rule == rule


@pytest.mark.parametrize("answer", [UNKNOWN, SILENT])
async def test_without_an_answer_it_is_left_to_the_delivery(checks: Checks, answer: type[Exception]) -> None:
    names = Names({"hooks.example.com": [answer]})
    check = checks(names)

    assert isinstance(await check.check(URL, DEFAULT), Target)
    assert isinstance(await check.check(URL, DEFAULT), Target)
    assert len(names.asked) == 1


async def test_a_slow_answer_is_not_waited_for_but_judges_the_next(checks: Checks) -> None:
    answered = asyncio.Event()
    names = Names({"hooks.example.com": [Later(answered, ("127.0.0.1",))]})
    check = checks(names, lookup_s=0.01)
    assert isinstance(await check.check(URL, DEFAULT), Target)

    answered.set()
    async with asyncio.timeout(DEADLINE_S):
        while isinstance(await check.check(URL, DEFAULT), Target):
            pass

    assert names.asked == ["hooks.example.com"]


async def test_an_answer_is_remembered_for_a_minute_and_no_longer(checks: Checks) -> None:
    clock = Clock()
    names = Names({"hooks.example.com": [PUBLIC, ("127.0.0.1",)]})
    check = checks(names, clock=clock)

    assert isinstance(await check.check(URL, DEFAULT), Target)
    clock.now_s += 59.9
    assert isinstance(await check.check(URL, DEFAULT), Target)
    assert len(names.asked) == 1
    clock.now_s += 0.1
    assert isinstance(await check.check(URL, DEFAULT), Refused)
    assert len(names.asked) == 2


async def test_submissions_at_once_share_one_look_up(checks: Checks) -> None:
    answered = asyncio.Event()
    names = Names({"hooks.example.com": [Later(answered, PUBLIC)]})
    check = checks(names)

    async def submit() -> Target | Refused:
        return await check.check(URL, DEFAULT)

    submissions = [asyncio.create_task(submit()) for _ in range(50)]
    await asyncio.sleep(0)
    answered.set()

    assert all(isinstance(target, Target) for target in await asyncio.gather(*submissions))
    assert names.asked == ["hooks.example.com"]


async def test_a_client_that_leaves_takes_no_one_elses_look_up_with_it(checks: Checks) -> None:
    answered = asyncio.Event()
    check = checks(Names({"hooks.example.com": [Later(answered, PUBLIC)]}))
    leaving, staying = (asyncio.create_task(check.check(URL, DEFAULT)) for _ in range(2))
    await asyncio.sleep(0)

    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    answered.set()

    assert isinstance(await staying, Target)


async def test_memory_is_bounded_and_the_oldest_answer_goes_first(checks: Checks) -> None:
    names = Names({f"{i}.example.com": [PUBLIC] for i in range(4)})
    check = checks(names, remembered_max=3)

    for i in (0, 1, 2, 0, 3, 1, 2, 3, 0):
        await check.check(f"https://{i}.example.com/", DEFAULT)

    assert names.asked == [f"{i}.example.com" for i in (0, 1, 2, 3, 0)]


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "https://8.8.8.8/", "https://localhost/", "nonsense"])
async def test_nothing_is_looked_up_that_needs_no_look_up(checks: Checks, url: str) -> None:
    names = Names({})

    await checks(names).check(url, DEFAULT)

    assert names.asked == []


async def test_the_policy_of_the_moment_judges_a_remembered_answer(checks: Checks) -> None:
    names = Names({"hooks.example.com": [("10.0.0.1",)]})
    check = checks(names)

    assert isinstance(await check.check(URL, DEFAULT), Refused)
    assert isinstance(await check.check(URL, Policy.of(Webhooks(allow=("10.0.0.0/8",)))), Target)
    assert len(names.asked) == 1
