"""`penstock listen`: a receiver of webhooks for whoever is building one: it checks them, prints them, answers them."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import typer
from pydantic import JsonValue, ValidationError

from cli.client import Client, path_part
from cli.errors import CommandError
from cli.output import console, moment, notices, number, printable
from cli.ports import base_url, claim_port
from cli.service import StopRequest
from cli.signature import SignatureError, check_secret, verify
from cli.wire import Event, NewEndpoint
from jobs.environment import Environment
from jobs.webhooks import EVENT_TYPES

MAX_BODY_BYTES = 2**20
REMEMBERED = 10_000
"""Ids of events that are known again."""
OK, BAD_REQUEST, TOO_LARGE = 200, 400, 413
STOP_S = 1


@dataclass(frozen=True, slots=True)
class Received:
    """One request: what it was, and how it was answered. `refused`: why it is not to be trusted."""

    webhook_id: str | None
    event: JsonValue
    status: int
    verified: bool = False
    again: bool = False
    refused: str | None = None

    def to_json(self, now_s: float) -> JsonValue:
        """For scripts."""
        return {
            "received_at": int(now_s),
            "webhook_id": self.webhook_id,
            "verified": self.verified,
            "again": self.again,
            "refused": self.refused,
            "answered": self.status,
            "event": self.event,
        }

    def told(self, now_s: float) -> str:
        """For people, on a line."""
        parts = [moment(int(now_s)), str(self.status)]
        if self.refused is not None:
            parts.append(f"refused: {self.refused}")
        else:
            parts += _described(self.event)
        parts.append(self.webhook_id or "without an id")
        parts += ["again"] if self.again else []
        parts += [] if self.verified or self.refused else ["not verified"]
        return "  ".join(map(printable, parts))


def _described(event: JsonValue) -> list[str]:
    try:
        known = Event.model_validate(event)
    except ValidationError:
        return ["an event of another kind"]
    job = known.data
    parts = [known.type, job.id] if job.id else [known.type]
    if job.usage:
        parts.append(f"{number(job.usage.total_tokens)} tokens")
    return parts + ([f"{job.error.message} ({job.error.code})"] if job.error else [])


@dataclass(slots=True)
class Receiver:
    """Judges requests one by one. `secret` None: nothing is verified; `status` is the answer to what is in order."""

    secret: str | None = field(repr=False)
    status: int = OK
    _seen: dict[str, None] = field(default_factory=dict)

    def receive(self, body: bytes, headers: dict[str, str], now_s: float) -> Received:
        """What is to be answered and shown."""
        webhook_id = headers.get("webhook-id")
        if len(body) > MAX_BODY_BYTES:
            return Received(webhook_id, None, TOO_LARGE, refused=f"it has more than {MAX_BODY_BYTES:,} bytes")
        try:
            if self.secret is not None:
                verify(body, headers, self.secret, now_s=now_s)
            event: JsonValue = json.loads(body)
        except SignatureError as error:
            return Received(webhook_id, None, BAD_REQUEST, refused=str(error))
        except (ValueError, RecursionError):
            return Received(webhook_id, None, BAD_REQUEST, refused="its body is not JSON")
        again = webhook_id in self._seen
        if webhook_id is not None:
            self._seen[webhook_id] = None
            if len(self._seen) > REMEMBERED:
                del self._seen[next(iter(self._seen))]
        return Received(webhook_id, event, self.status, self.secret is not None, again)


def listen(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port to listen on; 0: any free one.")
    ] = 9100,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    secret: Annotated[
        str | None,
        typer.Option(
            metavar="whsec_...", help="What signs the events.", show_default="PENSTOCK_WEBHOOK_SECRET"
        ),
    ] = None,
    status: Annotated[
        int, typer.Option(min=200, max=599, help="What to answer, to see what a failure does.")
    ] = OK,
    register: Annotated[
        bool,
        typer.Option(
            "--register", help="Register it with the service (PENSTOCK_URL, PENSTOCK_KEY) while it runs."
        ),
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(
            help="Where the service reaches it, for --register.", show_default="the address it listens on"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object a line, for scripts.")] = False,
) -> None:
    """Receive webhooks on this machine, verify them, and print them until Ctrl-C."""
    environment = Environment.load(webhook_secret=secret)
    port = claim_port(host, port)
    if register:
        with _registered(environment, url or f"{base_url(host, port)}/") as own_secret:
            asyncio.run(_serve(Receiver(own_secret, status), host, port, as_json=as_json))
        return
    known = environment.webhook_secret.get_secret_value() if environment.webhook_secret else None
    if known is None:
        notices().print("penstock: without --secret, nothing is verified")
    else:
        check_secret(known)
    asyncio.run(_serve(Receiver(known, status), host, port, as_json=as_json))


@contextlib.contextmanager
def _registered(environment: Environment, url: str) -> Iterator[str]:
    """An endpoint at the service for as long as the block lasts: the secret that signs what it gets."""
    body: JsonValue = {"url": url, "event_types": [*EVENT_TYPES], "description": "penstock listen"}
    with Client(environment) as client:
        try:
            answer = client.call("POST", "/v1/webhook_endpoints", body=body)
        except CommandError as error:
            raise CommandError(
                f"{error.message}\nthe URL was {url}; webhooks.allow in the configuration opens more"
            ) from None
        endpoint = answer.read_as(NewEndpoint)
        notices().print(f"registered as {endpoint.id} for {url}")
        try:
            yield endpoint.signing_secret
        finally:
            client.call("DELETE", f"/v1/webhook_endpoints/{path_part(endpoint.id)}")
            notices().print(f"{endpoint.id} is removed")


async def _serve(receiver: Receiver, host: str, port: int, *, as_json: bool) -> None:
    # Not loaded by the commands that do not need it.
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """They are taken over by StopRequest."""
            yield

    async def take(request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY_BYTES:
                break
        now_s = time.time()
        received = receiver.receive(body, dict(request.headers), now_s)
        if as_json:
            sys.stdout.write(json.dumps(received.to_json(now_s), ensure_ascii=False) + "\n")
            sys.stdout.flush()
        else:
            console().print(received.told(now_s))
        return PlainTextResponse(received.refused or "", received.status)

    app = Starlette(routes=[Route("/{path:path}", take, methods=["POST"])])
    server = Server(
        uvicorn.Config(
            app, host=host, port=port, lifespan="off", log_config=None, access_log=False,
            timeout_graceful_shutdown=STOP_S,
        )
    )  # fmt: skip
    stop = StopRequest()
    stop.listen()
    serving = asyncio.create_task(server.serve())
    asked = asyncio.create_task(stop.asked.wait())
    notices().print(f"listening on {base_url(host, port)}; Ctrl-C ends it")
    await asyncio.wait((serving, asked), return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    server.should_exit = True
    await serving
