"""The routes of probes, autoscalers and Prometheus."""

from typing import Final

from api.openapi.operation import NEVER_KEPT, operation

HEALTHZ: Final = operation(
    "live",
    "operations",
    "Whether the process lives",
    answers={200: "Health"},
    public=True,
    headers=NEVER_KEPT,
)
READYZ: Final = operation(
    "ready",
    "operations",
    "Whether jobs can be accepted",
    answers={200: "Health"},
    public=True,
    headers=NEVER_KEPT,
    problems=(503,),
)
_OPEN: Final = (
    "Takes a key with the scope `metrics`, or none where the configuration says `open_metrics: true`."
)
SCALING: Final = operation(
    "scaling",
    "operations",
    "How many workers are worth running now, and why",
    answers={200: "Scaling"},
    headers=NEVER_KEPT,
    description=_OPEN,
)
METRICS: Final = operation(
    "metrics",
    "operations",
    "Metrics as text for Prometheus",
    answers={200: "Metrics"},
    headers=NEVER_KEPT,
    description=_OPEN,
    media_type="text/plain",
)
