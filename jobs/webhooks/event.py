"""What a webhook says: the event as JSON, built once and then sent as it is on every attempt."""

from datetime import UTC, datetime
from typing import Final

from jobs.job_object import dump, job_without_webhook
from jobs.record import JobView

BODY_MAX_BYTES: Final = 262_144
"""An event that would have more carries the address of the result in the place of the result."""


def job_event(event_id: str, kind: str, job: JobView) -> bytes:
    """The event of a job's end."""
    at_ms = job.finished_ms or job.created_ms
    body = event(event_id, kind, at_ms, job_without_webhook(job))
    if len(body) <= BODY_MAX_BYTES:
        return body
    return event(event_id, kind, at_ms, job_without_webhook(job, result_url=f"/v1/jobs/{job.id}"))


def event(event_id: str, kind: str, at_ms: int, data: bytes) -> bytes:
    """An event with this `data`, which is JSON already."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    before = dump(
        {
            "id": event_id,
            "object": "event",
            "type": kind,
            "created_at": at_ms // 1000,
            "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
    )
    return b"".join((before[:-1], b',"data":', data, b"}"))
