"""GET /v1/usage: what was used, of whom one may ask."""

from typing import Any

import pytest

from tests.api.harness import ADMIN, Api, chat, problem

SUMS = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "cached_tokens": 0}


async def usage(api: Api, headers: dict[str, str], query: str = "") -> dict[str, Any]:
    answer = await api.http.get(f"/v1/usage{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["object"] == "list"
    return body


def keyed(rows: list[dict[str, Any]], *names: str) -> dict[tuple[Any, ...], int]:
    return {tuple(row[name] for name in names): row["jobs"] for row in rows}


async def test_what_was_charged_is_summed_by_day_and_model(api: Api) -> None:
    ann = await api.user("ann")
    for body in (chat(), chat(), chat(model="small")):
        await api.submitted(ann, body=body)
    await api.run_all()
    api.clock.advance(86_400)
    await api.submitted(ann)
    await api.run_all()
    told = await usage(api, ann)
    assert keyed(told["data"], "day", "model") == {
        ("2026-11-23", "m"): 2,
        ("2026-11-23", "small"): 1,
        ("2026-11-24", "m"): 1,
    }
    [small] = [row for row in told["data"] if row["model"] == "small"]
    assert small.items() >= SUMS.items()
    assert small["cost_usd"] == pytest.approx(1.5e-6)
    assert told["total"].items() >= {"jobs": 4, "total_tokens": 48}.items()
    assert keyed((await usage(api, ann, "?group_by=day"))["data"], "day") == {
        ("2026-11-23",): 3,
        ("2026-11-24",): 1,
    }
    assert keyed((await usage(api, ann, "?group_by=model"))["data"], "model") == {("m",): 3, ("small",): 1}
    assert keyed((await usage(api, ann, "?start=2026-11-24&end=2026-11-24"))["data"], "day") == {
        ("2026-11-24",): 1
    }
    assert (await usage(api, ann, "?end=2026-11-22"))["data"] == []


async def test_one_sees_ones_own_and_an_admin_everybodys(api: Api) -> None:
    ann, bob = await api.user("ann"), await api.user("bob")
    await api.submitted(ann)
    await api.submitted(bob)
    await api.submitted(bob)
    await api.run_all()
    assert (await usage(api, ann))["total"]["jobs"] == 1
    assert (await usage(api, ann, "?user=ann"))["total"]["jobs"] == 1
    for query in ("?user=bob", "?group_by=user", "?group_by=day,user"):
        problem(await api.http.get(f"/v1/usage{query}", headers=ann), 403, "forbidden")
    assert (await usage(api, ADMIN))["total"]["jobs"] == 3
    assert (await usage(api, ADMIN, "?user=bob"))["total"]["jobs"] == 2
    assert keyed((await usage(api, ADMIN, "?group_by=user"))["data"], "user") == {("ann",): 1, ("bob",): 2}
    assert (await usage(api, ADMIN, "?user=nobody%3A*"))["data"] == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("start=yesterday", "?start"),
        ("start=2026-11-31", "?start"),
        ("start=20261123", "?start"),
        ("end=2026-11-1", "?end"),
        ("start=2026-11-24&end=2026-11-23", "?start"),
        ("start=2026-01-01&end=2026-11-23", "?start"),
        ("start=0001-01-01", "?start"),
        ("end=0000-01-01", "?end"),
        ("group_by=hour", "?group_by"),
    ],
)
async def test_a_wrong_question_is_told(api: Api, query: str, pointer: str) -> None:
    answer = await api.http.get(f"/v1/usage?{query}", headers=await api.user("ann"))
    assert problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == pointer


async def test_the_first_days_of_the_calendar_are_days(api: Api) -> None:
    assert (await usage(api, await api.user("ann"), "?end=0001-01-01"))["data"] == []
