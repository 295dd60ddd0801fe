"""The OpenAPI document: all of the surface, in step with docs/openapi.json, and its examples are those of the API."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx2
import jsonschema_rs
import pytest

from api.direct import DirectRoute
from api.openapi.document import SCHEMAS
from api.openapi.examples import EXAMPLES
from tests.api.harness import ADMIN, CONFIG, Api, config, running_api
from tests.api.openapi_file import KEPT
from tests.jobs.names import PUBLIC, Names

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def description(api: Api) -> dict[str, Any]:
    described: dict[str, Any] = (await api.http.get("/openapi.json")).json()
    return described


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def refs(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref":
                yield value
            else:
                yield from refs(value)
    elif isinstance(part, list):
        for value in part:
            yield from refs(value)


async def test_the_document_that_is_kept_is_the_one_that_is_served(api: Api) -> None:
    assert json.loads(KEPT.read_text()) == await description(api), "run: make openapi"


async def test_every_route_is_described(api: Api) -> None:
    described = {(path, method) for path, method, _ in operations(await description(api))}
    routes = [route for route in api.app.router.routes if isinstance(route, DirectRoute)]
    assert described == {(route.path, method) for route in routes for method in route.methods or ()}
    assert ("/v1/jobs", "POST") in described


async def test_the_document_hangs_together(api: Api) -> None:
    described = await description(api)
    used = set(refs(described))
    for one in used:
        place = described
        for step in one.removeprefix("#/").split("/"):
            place = place[step]
    for kind, parts in described["components"].items():
        if kind != "securitySchemes":
            unused = {name for name in parts if f"#/components/{kind}/{name}" not in used}
            assert not unused, kind
    names = [operation["operationId"] for _, _, operation in operations(described)]
    assert len(names) == len(set(names))
    tags = {tag["name"] for tag in described["tags"]}
    for path, _, operation in operations(described):
        assert operation["summary"]
        assert tags.issuperset(operation["tags"])
        in_path = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        assert in_path == {part[1:-1] for part in path.split("/") if part.startswith("{")}


async def test_every_answer_and_every_error_is_declared(api: Api) -> None:
    for path, _, operation in operations(await description(api)):
        answers = operation["responses"]
        assert {"400", "408", "431", "500"} <= answers.keys()
        assert any(status.startswith("2") for status in answers)
        if operation["security"]:
            assert {"401", "403", "503"} <= answers.keys()
        if "requestBody" in operation:
            assert {"413", "415", "422"} <= answers.keys()
        if "{job_id}" in path:
            assert "404" in answers


def validator(name: str) -> jsonschema_rs.Validator:
    """Of one of the document's schemas."""
    root = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": SCHEMAS}}
    return jsonschema_rs.Draft202012Validator(root)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_what_its_schema_says(name: str) -> None:
    validator(name).validate(EXAMPLES[name])


def shape(value: object) -> object:
    """The names in a body, and what kind of value each has; a provider's result and metadata are the caller's."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items() if name not in ("result", "metadata")}
    if isinstance(value, list):
        return [shape(one) for one in value[:1]]
    return "number" if isinstance(value, int | float) else type(value).__name__


async def test_the_examples_of_requests_are_taken_and_those_of_answers_are_given(redis: "Redis") -> None:
    openai = {
        "base_url": "http://127.0.0.1:9/v1",
        "tokens_per_minute": 200_000,
        "requests_per_minute": 500,
        "models": {"gpt-4o-mini": {"context_tokens": 128_000, "max_output_tokens": 1024}},
    }
    tiers = {"free": CONFIG["tiers"]["free"]}
    async with running_api(
        redis,
        config(providers={"openai": openai}, tiers=tiers),
        resolver=Names({"hooks.example.com": [PUBLIC]}),
    ) as api:
        http = api.http
        told: dict[str, httpx2.Response] = {}

        told["User"] = await http.post("/v1/admin/users", json=EXAMPLES["NewUser"], headers=ADMIN)
        told["Key"] = await http.post("/v1/admin/keys", json=EXAMPLES["NewKey"], headers=ADMIN)
        key = told["Key"].json()
        ann = {"authorization": f"Bearer {key['key']}"}
        told["KeyList"] = await http.get("/v1/admin/keys", headers=ADMIN)
        told["Provider"] = await http.post("/v1/admin/providers/openai/resume", headers=ADMIN)
        told["ProviderList"] = await http.get("/v1/admin/providers", headers=ADMIN)
        submitted = await http.post("/v1/jobs", json=EXAMPLES["Submission"], headers=ann)
        await api.run_all()
        told["Job"] = await http.get(submitted.headers["location"], headers=ann)
        told["JobList"] = await http.get("/v1/jobs", headers=ann)
        told["Limits"] = await http.get("/v1/limits", headers=ann)
        told["Usage"] = await http.get("/v1/usage", headers=ann)
        told["UserWithLimits"] = await http.get("/v1/admin/users/ann", headers=ADMIN)
        told["UserList"] = await http.get("/v1/admin/users", headers=ADMIN)
        told["Health"] = await http.get("/healthz")
        hooks = "/v1/webhook_endpoints"
        made = await http.post(hooks, json=EXAMPLES["NewWebhookEndpoint"], headers=ann)
        endpoint = f"{hooks}/{made.json()['id']}"
        told["WebhookEndpoint"] = await http.get(endpoint, headers=ann)
        told["WebhookEndpointList"] = await http.get(hooks, headers=ann)
        asked = [
            made,
            await http.post(f"{endpoint}/rotate_secret", json=EXAMPLES["WebhookSecretRotation"], headers=ann),
            await http.post(f"{endpoint}/recover", json=EXAMPLES["WebhookRecoveryRequest"], headers=ann),
            await http.post(endpoint, json=EXAMPLES["WebhookEndpointChange"], headers=ann),
        ]
        unserved = {"body": {**EXAMPLES["Submission"]["body"], "model": "gpt-5"}}
        told["Problem"] = await http.post("/v1/jobs", json=unserved, headers=ann)
        change = await http.patch("/v1/admin/users/ann", json=EXAMPLES["UserChange"], headers=ADMIN)
        rotated = await http.post(
            f"/v1/admin/keys/{key['id']}/rotate", json=EXAMPLES["Rotation"], headers=ADMIN
        )

    assert [submitted.status_code, change.status_code, rotated.status_code] == [202, 200, 201]
    assert [one.status_code for one in asked] == [201, 200, 202, 200]
    for name, answer in told.items():
        validator(name).validate(answer.json())
        assert shape(answer.json()) == shape(EXAMPLES[name]), name
        assert (answer.status_code == 422) == (name == "Problem")
