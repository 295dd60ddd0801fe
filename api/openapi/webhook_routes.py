"""The routes of webhooks."""

from typing import Final

from api.openapi.operation import BODY_PROBLEMS, LIMIT, NEVER_KEPT, operation, path_parameter, query
from api.openapi.schema import JOB_ID
from api.openapi.webhook_schemas import DELIVERY_ID, ENDPOINT_ID

_ENDPOINT: Final = (path_parameter("endpoint_id", ENDPOINT_ID),)
_DELIVERY: Final = (path_parameter("delivery_id", DELIVERY_ID),)

CREATE_ENDPOINT: Final = operation(
    "create_webhook_endpoint",
    "webhooks",
    "Register an endpoint; its secret is shown this once",
    answers={201: "WebhookEndpointWithSecret"},
    problems=(*BODY_PROBLEMS, 409),
    body="NewWebhookEndpoint",
    headers=("location", *NEVER_KEPT),
)
LIST_ENDPOINTS: Final = operation(
    "list_webhook_endpoints",
    "webhooks",
    "List your endpoints, newest first",
    answers={200: "WebhookEndpointList"},
    problems=(422,),
    parameters=(LIMIT, query("after", ENDPOINT_ID, "The last id of the page before.")),
    headers=NEVER_KEPT,
)
READ_ENDPOINT: Final = operation(
    "read_webhook_endpoint",
    "webhooks",
    "Read an endpoint",
    answers={200: "WebhookEndpoint"},
    problems=(404,),
    parameters=_ENDPOINT,
    headers=NEVER_KEPT,
)
CHANGE_ENDPOINT: Final = operation(
    "change_webhook_endpoint",
    "webhooks",
    "Change an endpoint, disable or enable it",
    answers={200: "WebhookEndpoint"},
    problems=(*BODY_PROBLEMS, 404),
    parameters=_ENDPOINT,
    body="WebhookEndpointChange",
    body_required=False,
    headers=NEVER_KEPT,
)
DELETE_ENDPOINT: Final = operation(
    "delete_webhook_endpoint",
    "webhooks",
    "Delete an endpoint; what waits for it fails",
    answers={200: "DeletedWebhookEndpoint"},
    problems=(404,),
    parameters=_ENDPOINT,
    headers=NEVER_KEPT,
)
ROTATE_SECRET: Final = operation(
    "rotate_webhook_secret",
    "webhooks",
    "Make an endpoint's secret anew",
    answers={200: "WebhookEndpointWithSecret"},
    problems=(*BODY_PROBLEMS, 404),
    parameters=_ENDPOINT,
    body="WebhookSecretRotation",
    body_required=False,
    headers=NEVER_KEPT,
)
ROTATE_DEFAULT: Final = operation(
    "rotate_default_webhook_secret",
    "webhooks",
    "Make the secret anew that signs what goes to jobs' own URLs",
    answers={200: "WebhookSecret"},
    problems=BODY_PROBLEMS,
    body="WebhookSecretRotation",
    body_required=False,
    headers=NEVER_KEPT,
)
TEST_ENDPOINT: Final = operation(
    "test_webhook_endpoint",
    "webhooks",
    "Send a test event, once, and tell what came of it",
    answers={200: "WebhookEndpointTestResult"},
    problems=(*BODY_PROBLEMS, 404, 409),
    parameters=_ENDPOINT,
    body="WebhookEndpointTest",
    body_required=False,
    headers=NEVER_KEPT,
)
RECOVER: Final = operation(
    "recover_webhook_endpoint",
    "webhooks",
    "Send again what has failed since a time",
    answers={202: "WebhookRecovery"},
    problems=(*BODY_PROBLEMS, 404),
    parameters=_ENDPOINT,
    body="WebhookRecoveryRequest",
    headers=NEVER_KEPT,
)
EVENT_TYPES: Final = operation(
    "list_webhook_event_types",
    "webhooks",
    "What an endpoint may want to hear of",
    answers={200: "WebhookEventTypeList"},
    headers=NEVER_KEPT,
)
LIST_DELIVERIES: Final = operation(
    "list_deliveries",
    "webhooks",
    "List your deliveries, those of the newest jobs first",
    answers={200: "DeliveryList"},
    problems=(422,),
    parameters=(
        LIMIT,
        query("after", DELIVERY_ID, "The last id of the page before."),
        query("job_id", JOB_ID, "Only those of this job."),
        query("status", {"enum": ["pending", "delivered", "failed"]}, "Only those of this status."),
    ),
    headers=NEVER_KEPT,
)
READ_DELIVERY: Final = operation(
    "read_delivery",
    "webhooks",
    "Read a delivery with its attempts",
    answers={200: "DeliveryWithLog"},
    problems=(404,),
    parameters=_DELIVERY,
    headers=NEVER_KEPT,
)
REDELIVER: Final = operation(
    "redeliver",
    "webhooks",
    "Send a delivery again",
    answers={202: "Delivery"},
    problems=(404, 409),
    parameters=_DELIVERY,
    headers=NEVER_KEPT,
)
