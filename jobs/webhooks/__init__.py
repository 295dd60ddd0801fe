"""Webhooks as Redis keeps them: endpoints, deliveries, what is sent and how it is signed.

The API uses `Endpoints` and `Deliveries`, the worker `Outbox`; the outbox itself is written by whatever script ends a
job (jobs/lua/outbox.lua).
"""

import hashlib
from typing import Final, Literal, get_args

from jobs.egress import Target

EventType = Literal["job.succeeded", "job.failed", "job.cancelled", "job.expired"]

EVENT_TYPES: Final[tuple[EventType, ...]] = get_args(EventType)
"""What an endpoint may want to hear of."""

TEST_TYPE: Final = "webhook_endpoint.test"
"""The type of the event that a test sends unless it is told another one."""


def own_lane(user: str, target: Target) -> str:
    """The lane of a job's own URL: a user's URLs of one origin have one receiver, and share its breaker."""
    told = f"{user} {target.scheme} {target.host.text} {target.port}"
    return f"own_{hashlib.sha256(told.encode()).hexdigest()[:24]}"
