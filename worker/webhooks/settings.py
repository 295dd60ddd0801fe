"""What of the configuration the sender goes by."""

import os
from collections.abc import Mapping

from jobs.config import Config
from worker.webhooks.forward_proxy import ForwardProxy


def forward_proxy(config: Config, environ: Mapping[str, str] = os.environ) -> ForwardProxy | None:
    """The proxy that all deliveries go through, None for none.

    Raises ValueError where one is configured and cannot be used: deliveries must never go past it.
    """
    name = config.webhooks.forward_proxy_env
    if name is None:
        return None
    url = environ.get(name, "").strip()
    if not url:
        raise ValueError(f"webhooks.forward_proxy_env names {name}, which is not set")
    try:
        return ForwardProxy.from_url(url)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
