"""The openai SDK where requests differ in nothing but their bodies, and each goes out once.

For each request it puts address and headers together anew, and httpx2's client looks for redirects, cookies, hooks and
ways to log in. That took longer than all that the transport does.
"""

from typing import TYPE_CHECKING, Any, cast

import httpx2
import openai

from worker.transport import SENT_HEADERS, GatedTransport

if TYPE_CHECKING:
    from openai._models import FinalRequestOptions


class OnceClient(httpx2.AsyncClient):
    """Sends requests as they are. Raises what the transport raises."""

    def __init__(self, transport: GatedTransport) -> None:
        super().__init__(transport=transport, trust_env=False, follow_redirects=False)
        self._gated = transport

    async def send(self, request: httpx2.Request, **_unused: Any) -> httpx2.Response:
        """The answer, read whole."""
        return await self._gated.handle_async_request(request)


class OnceSdk(openai.AsyncOpenAI):
    """The SDK for one address and one key: its first request is the pattern of all others.

    The method below is not public. Were it not called, requests would be the same, and dearer.
    """

    _pattern: tuple[str, httpx2.URL, httpx2.Headers] | None = None

    def _build_request(self, options: "FinalRequestOptions", *, retries_taken: int = 0) -> httpx2.Request:
        if self._pattern is None:
            built = super()._build_request(options, retries_taken=retries_taken)
            sent = [(name, value) for name, value in built.headers.items() if name in SENT_HEADERS]
            self._pattern = built.method, built.url, httpx2.Headers(sent)
        method, url, headers = self._pattern
        return httpx2.Request(method, url, headers=headers, content=cast(bytes, options.content))
