"""Estimates without stalling an event loop: small prompts on it, large ones beside it.

The API asks here once per submission. tiktoken lets go of the interpreter lock while it counts.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from jobs.config import Pool
from jobs.tokens.estimate import Estimate, estimate
from jobs.tokens.text import count_text
from jobs.tokens.vocabulary import is_loaded

INLINE_BYTES = 8_192
"""Up to this size counting (at most about a millisecond) is cheaper than handing it to a thread and back."""


class TokenEstimator:
    """Counts tokens for one event loop, with threads of its own for what is large; close it at the end."""

    def __init__(self, *, max_workers: int = 2) -> None:
        self._threads = ThreadPoolExecutor(max_workers, thread_name_prefix="tokens")

    async def estimate(
        self,
        body: Mapping[str, object],
        pools: Sequence[Pool],
        *,
        body_bytes: int,
        stop_above_tokens: int | None = None,
    ) -> Estimate:
        """What estimate.estimate answers; body_bytes is the size of the body as it was received."""
        if body_bytes <= INLINE_BYTES and all(is_loaded(pool.model_settings.encoding) for pool in pools):
            return estimate(body, pools, stop_above_tokens=stop_above_tokens)
        count = partial(estimate, body, pools, stop_above_tokens=stop_above_tokens)
        return await asyncio.get_running_loop().run_in_executor(self._threads, count)

    async def count_text(self, text: str, encoding: str) -> int:
        """What text.count_text answers: for the usage of an answer that came without one."""
        if len(text) <= INLINE_BYTES and is_loaded(encoding):
            return count_text(text, encoding)
        return await asyncio.get_running_loop().run_in_executor(self._threads, count_text, text, encoding)

    def close(self) -> None:
        """Drop what is waiting and let the threads go; what is being counted is counted to its end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
