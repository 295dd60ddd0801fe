"""The OpenAPI document for the fuzzer, told what a client would know: which models, tiers, users and jobs there are.

Without it, nearly every case would end at an id that was never issued or a model that is not served.
"""

import copy
from collections.abc import Iterator
from typing import Any, Final

from tests.api.harness import NOON_MS
from tests.fuzz.rig import DELIVERIES, ENDPOINTS, HOOK_URL, JOBS, KEYS, MODELS, OTHERS, TIERS

Schema = dict[str, Any]

_DAYS: Final = ("2026-11-20", "2026-11-23")
_NOON_S: Final = NOON_MS // 1000


def told(document: Schema) -> Schema:
    """The same document with the facts of the rig's scene in it."""
    document = copy.deepcopy(document)
    schemas = document["components"]["schemas"]
    body = schemas["Submission"]["properties"]["body"]["properties"]
    body["model"]["enum"] = list(MODELS)
    for name in ("max_tokens", "max_completion_tokens"):
        body[name]["maximum"] = 1_000_000
    schemas["Submission"]["properties"]["not_before"]["maximum"] = _NOON_S
    for name, tiers in (("NewUser", TIERS), ("NewKey", (*TIERS, None)), ("UserChange", (*TIERS, None))):
        schemas[name]["properties"]["tier"] = {"enum": list(tiers)}
    new_key = schemas["NewKey"]["properties"]
    new_key["user"] = _known(OTHERS, new_key["user"])
    for name in ("NewKey", "Rotation"):
        schemas[name]["properties"]["expires_at"]["minimum"] = _NOON_S + 1
    for place in (
        schemas["Submission"]["properties"],
        schemas["NewWebhookEndpoint"]["properties"],
        schemas["WebhookEndpointChange"]["properties"],
    ):
        name = "webhook_url" if "webhook_url" in place else "url"
        place[name] = _known((HOOK_URL,), place[name])
    known = {
        "job_id": JOBS,
        "key_id": KEYS,
        "user": OTHERS,
        "provider": ("sim",),
        "endpoint_id": ENDPOINTS,
        "delivery_id": DELIVERIES,
    }
    for parameter in _parameters(document):
        match parameter["in"], parameter["name"]:
            case "path", name if name in known:
                parameter["schema"] = _known(known[name], parameter["schema"])
            case "query", "start" | "end":
                # Any start is before any end: what the document cannot say.
                parameter["schema"] = {"type": "string", "enum": [_DAYS[parameter["name"] == "end"]]}
    return document


def _known(values: tuple[str, ...], schema: Schema) -> Schema:
    """Some are there; all others are well formed as well."""
    return {"anyOf": [{"enum": list(values)}, schema]}


def _parameters(document: Schema) -> Iterator[Schema]:
    for methods in document["paths"].values():
        for operation in methods.values():
            yield from operation.get("parameters", ())
