"""What a delivery and an endpoint are; lua/outbox.lua and lua/endpoints.lua name the fields that they are kept in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from jobs.record import JobView

DeliveryStatus = Literal["pending", "delivered", "failed"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a delivery. `answer`: the start of what the receiver answered (1 KiB at most), "" for nothing.

    `ours`: the fault was on our side, and the receiver was not charged for it. Time in Unix ms, duration in ms.
    """

    at_ms: int
    duration_ms: int = 0
    status_code: int | None = None
    error: str | None = None
    answer: str = ""
    ours: bool = False

    def encode(self) -> str:
        """As the log keeps it."""
        fields = {
            "at": self.at_ms,
            "ms": self.duration_ms,
            "code": self.status_code,
            "error": self.error,
            "answer": self.answer,
            "ours": self.ours,
        }
        return json.dumps({name: value for name, value in fields.items() if value is not None})

    @classmethod
    def decode(cls, stored: bytes) -> "Attempt":
        """From the log."""
        fields = json.loads(stored)
        return cls(
            fields.get("at", 0),
            fields.get("ms", 0),
            fields.get("code"),
            fields.get("error"),
            fields.get("answer", ""),
            fields.get("ours", False),
        )


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one receiver. Times in Unix ms.

    `job` None: a test. `endpoint` None: the job's own `url`. `attempts`: all there were; `next_attempt_ms` only while
    pending. `reason`: why it failed where no attempt says so.
    """

    id: str
    user: str
    job: str | None
    event_type: str
    event_id: str
    endpoint: str | None
    url: str | None
    status: DeliveryStatus
    attempts: int
    created_ms: int
    ends_ms: int
    next_attempt_ms: int | None
    last_status_code: int | None
    reason: str | None
    sending: bool


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery to be sent now under the lease `token`. `secret`, `old_secret`: encrypted, "" for none.

    `body` is b"" before its first attempt; `job` is then what it is made of.
    """

    delivery: Delivery
    token: str
    url: str
    body: bytes
    secret: str = field(repr=False)
    old_secret: str = field(repr=False)
    job: JobView | None


@dataclass(frozen=True, slots=True)
class DeliveryClaim:
    """`wait_ms`: how long until something can change by itself; other changes push a wake token."""

    deliveries: tuple[ClaimedDelivery, ...]
    wait_ms: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A registered receiver. Times in Unix ms. `disabled`: why it is out of use, "" if it is in use.

    `secret_hint`: the last characters of its secret.
    """

    id: str
    user: str
    url: str
    event_types: tuple[str, ...]
    name: str
    created_ms: int
    updated_ms: int
    disabled: str
    secret_hint: str


def decode_delivery(delivery_id: str, head: bytes) -> Delivery:
    """From the head of its record."""
    h = json.loads(head)
    return Delivery(
        id=delivery_id,
        user=h["u"],
        job=h.get("j"),
        event_type=h["t"],
        event_id=h["ev"],
        endpoint=h.get("ep"),
        url=h.get("url"),
        status=h["st"],
        attempts=h["k"],
        created_ms=h["c"],
        ends_ms=h["x"],
        next_attempt_ms=h.get("due"),
        last_status_code=h.get("co"),
        reason=h.get("why"),
        sending="lt" in h,
    )


def decode_endpoint(endpoint_id: str, fields: Mapping[bytes, bytes]) -> Endpoint:
    """From its hash."""
    values = {name.decode(): value.decode() for name, value in fields.items()}
    return Endpoint(
        id=endpoint_id,
        user=values["user"],
        url=values["url"],
        event_types=tuple(values["types"].split()),
        name=values["name"],
        created_ms=int(values["created"]),
        updated_ms=int(values["updated"]),
        disabled=values["disabled"],
        secret_hint=values["hint"],
    )
