"""The call: one request to one provider, sent once, within its times, and told as a value.

It stands between the claim and the decision: dispatch hands it a body and gets a Completion or a Failure.
Nothing here retries, and the SDK is kept from it: tokens that nobody reserved would break the limits.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

import httpx2
import openai

from worker.answers import clean_message, read_answer
from worker.once import OnceClient, OnceSdk
from worker.outcome import Completion, Failure, FailureKind
from worker.transport import AnswerUnusableError, GatedTransport, Sending, current_sending

MAX_RESPONSE_BYTES: Final = 16 * 1024 * 1024
MAX_CONNECTIONS: Final = 1_000
FAIR_CONNECT_S: Final = 0.5
"""Who had as long to connect and did not is out of reach; who had less was called too late by us."""

_NO_KEY = "none"


class ProviderClient:
    """One configured provider. Connections are kept and shared by its calls; close it with `aclose`.

    `base_url` is what `/chat/completions` is appended to. Without an `api_key` no Authorization is sent.
    Neither address, key, organisation, headers nor proxy are ever taken from the environment.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        *,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        max_connections: int = MAX_CONNECTIONS,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._api_key = api_key
        self._wall_clock = wall_clock
        self._connections = asyncio.Semaphore(max_connections)
        transport = GatedTransport(
            ssl=base_url.lower().startswith("https:"),
            authorized=bool(api_key),
            max_response_bytes=max_response_bytes,
        )
        # Every setting that the SDK would look up in the environment is given; what it adds of its own
        # (OPENAI_ORG_ID, OPENAI_CUSTOM_HEADERS) is not among the headers that the transport sends.
        self._sdk = OnceSdk(
            api_key=api_key or _NO_KEY,
            admin_api_key="",
            webhook_secret="",
            base_url=base_url,
            max_retries=0,
            timeout=None,
            default_headers={
                "Accept": "application/json",
                "Content-Type": "application/json",
                "Authorization": f"Bearer {api_key or _NO_KEY}",
            },
            http_client=OnceClient(transport),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; calls still under way fail."""
        await self._sdk.close()

    async def chat(
        self,
        body: Mapping[str, object] | bytes,
        *,
        deadline: float,
        write_by: float,
        on_sent: Callable[[], None] | None = None,
    ) -> Completion | Failure:
        """Send one chat completion request and read its answer whole.

        `deadline` and `write_by` are times of the running loop: by the first everything is over, by the
        second, connecting included, the request has been written or never will be. `on_sent` is called in the
        moment before the first byte is written: whoever cancels the call knows by it which of the two it was.
        Raises nothing but CancelledError.
        """
        content = body if isinstance(body, bytes) else _encoded(body)
        if isinstance(content, Failure):
            return content
        loop = asyncio.get_running_loop()
        started = loop.time()
        write_by = min(write_by, deadline)
        if started >= write_by:
            return _too_late()
        timer = asyncio.timeout_at(write_by)
        sending = Sending(write_by, deadline, timer, on_sent)
        has_connection = False
        try:
            async with timer, self._connections:
                has_connection = True
                response = await self._post(content, sending)
            return self._read(response)
        except Exception as error:
            fair = has_connection and write_by - started >= FAIR_CONNECT_S
            return self._explain(error, sending, fair=fair, took_s=loop.time() - started)

    def _read(self, response: httpx2.Response) -> Completion | Failure:
        # A plain dict, because httpx2's headers take a tenth of the call to be asked for the limits in them.
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw
        }
        return read_answer(
            response.status_code,
            headers,
            response.content,
            now_s=self._wall_clock(),
            api_key=self._api_key,
        )

    async def _post(self, content: bytes, sending: Sending) -> httpx2.Response:
        token = current_sending.set(sending)
        try:
            # The bare post costs half of chat.completions.create, which builds models nobody looks at.
            return await self._sdk.post("/chat/completions", cast_to=httpx2.Response, content=content)
        except openai.APIStatusError as refused:
            return refused.response
        finally:
            current_sending.reset(token)

    def _explain(self, error: Exception, sending: Sending, *, fair: bool, took_s: float) -> Failure:
        expired = sending.timer.expired()
        if sending.sent:
            what = f"no complete answer within {took_s:.1f} s" if expired else _described(error)
            message = f"The request was sent, but its answer was lost: {what}."
            return Failure(FailureKind.UNKNOWN, clean_message(message, self._api_key), sent=True)
        if sending.late or (expired and not fair):
            return _too_late()
        what = f"no connection within {took_s:.1f} s" if expired else _described(error)
        message = f"The provider could not be reached: {what}."
        return Failure(FailureKind.NOT_SENT_CONNECT, clean_message(message, self._api_key), sent=False)


def _encoded(body: Mapping[str, object]) -> bytes | Failure:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        message = f"The request's body cannot be written as JSON: {type(error).__name__}."
        return Failure(FailureKind.REJECTED, message, sent=False)


def _too_late() -> Failure:
    return Failure(FailureKind.TOO_LATE, "The request could not be written in time.", sent=False)


def _described(error: Exception) -> str:
    root = error.__cause__ if isinstance(error, openai.APIConnectionError) and error.__cause__ else error
    if isinstance(root, AnswerUnusableError):
        return str(root)
    return f"{type(root).__name__}: {root}" if str(root) else type(root).__name__
