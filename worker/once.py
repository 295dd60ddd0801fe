"""The HTTP client under the openai SDK: a request goes to the transport as it is, once.

httpx2's own is ready for redirects, cookies, hooks, several transports and ways to log in; to find that there are none
of them takes as long as the transport's work. The SDK calls no more than these two methods.
"""

from typing import Any

import httpx2

from worker.transport import GatedTransport


class OnceClient(httpx2.AsyncClient):
    """Sends what the SDK builds. Raises what the transport raises."""

    def __init__(self, transport: GatedTransport) -> None:
        super().__init__(transport=transport, trust_env=False, follow_redirects=False)
        self._gated = transport
        self._url = httpx2.URL()
        self._url_text = ""

    def build_request(
        self, method: str, url: httpx2.URL | str, *, content: Any = None, headers: Any = None, **_unused: Any
    ) -> httpx2.Request:
        """A request with those of the headers that are sent; `headers` are pairs of texts, names in lower case."""
        text = str(url)
        if text != self._url_text:
            # Mostly it is the same one, and a URL is parsed in several passes.
            self._url, self._url_text = httpx2.URL(text), text
        sent = [(name, value) for name, value in headers if name in self._gated.sent_headers]
        return httpx2.Request(method, self._url, headers=sent, content=content)

    async def send(self, request: httpx2.Request, **_unused: Any) -> httpx2.Response:
        """The answer, read whole."""
        return await self._gated.handle_async_request(request)
