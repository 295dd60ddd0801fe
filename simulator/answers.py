"""What the simulated model says: deterministic text of a drawn length, and the bodies it travels in.

An answer opens with "echo: " and the first line of the prompt, so that answers can be told apart, and goes on
with filler, one token a word. Its length depends on the seed, the prompt and the answer's index only:
exponentially distributed around the mean, never above the cap, never shorter than the echo if the cap leaves
room for it.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from simulator.request import ChatRequest

_FILLER = (
    *("water", "runs", "from", "the", "reservoir", "down", "the", "long", "pipe", "and", "turns"),
    *("the", "wheel", "below;", "what", "is", "held", "back", "now", "is", "there", "for", "later,"),
    *("and", "no", "more", "passes", "the", "gate", "than", "the", "turbine", "can", "take."),
)
_MOST_PIECES = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice: its text, the tokens it counts, and why it ended (`stop` or `length`)."""

    text: str
    tokens: int
    finish_reason: str


@dataclass(frozen=True, slots=True)
class Usage:
    """The usage of one answer as it is reported: `body` is the JSON member, `total_tokens` None if it is no
    number.
    """

    body: dict[str, object]
    total_tokens: int | None


def write_answers(
    request: ChatRequest, *, seed: int, mean_tokens: int, most_tokens: int
) -> tuple[Answer, ...]:
    """The `n` answers to `request`, each at most its `max_tokens`, or `most_tokens` if it names none."""
    cap = request.max_tokens or most_tokens
    echo = f"echo: {request.first_line}"
    echo_words = echo.split()
    answers: list[Answer] = []
    for index in range(request.n):
        drawn, offset = _draw(f"{seed}/{index}/{request.prompt}", mean_tokens)
        tokens = min(cap, max(drawn, len(echo_words)))
        finish_reason = "length" if max(drawn, len(echo_words)) > cap else "stop"
        if tokens < len(echo_words):
            text = " ".join(echo_words[:tokens])
        else:
            filler = islice(cycle(_FILLER), offset, offset + tokens - len(echo_words))
            text = " ".join([echo.rstrip(), *filler])
        answers.append(Answer(text, tokens, finish_reason))
    return tuple(answers)


def usage_of(prompt_tokens: int, completion_tokens: int, override: str | None = None) -> Usage:
    """The usage to report; `override` puts a number (also `nan`, `inf`), or else any text, for the output."""
    output: int | float | str = completion_tokens
    if override is not None:
        output = _number(override)
    total = prompt_tokens + output if not isinstance(output, str) else output
    body: dict[str, object] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": output,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    return Usage(body, total if isinstance(total, int) else None)


def completion_body(
    request: ChatRequest, answers: Sequence[Answer], usage: Usage | None, request_id: str, created_s: float
) -> bytes:
    """The JSON of a `chat.completion`; `created_s` is in Unix seconds."""
    body: dict[str, object] = {
        "id": _completion_id(request_id),
        "object": "chat.completion",
        "created": int(created_s),
        "model": request.model,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "logprobs": None,
                "finish_reason": answer.finish_reason,
            }
            for index, answer in enumerate(answers)
        ],
        "service_tier": "default",
        "system_fingerprint": "fp_simulator",
    }
    if usage is not None:
        body["usage"] = usage.body
    return json.dumps(body).encode()


def stream_events(
    request: ChatRequest, answers: Sequence[Answer], usage: Usage | None, request_id: str, created_s: float
) -> list[bytes]:
    """The server-sent events of a streamed answer: one item for each piece of its making, one for its end."""
    shared: dict[str, object] = {
        "id": _completion_id(request_id),
        "object": "chat.completion.chunk",
        "created": int(created_s),
        "model": request.model,
        "system_fingerprint": "fp_simulator",
    }
    if request.include_usage:
        shared["usage"] = None
    count = piece_count(sum(answer.tokens for answer in answers))
    split = [_pieces(answer.text, count) for answer in answers]
    events: list[bytes] = []
    for step in range(count):
        event = b""
        for index, pieces in enumerate(split):
            role = {"role": "assistant"} if step == 0 else {}
            event += _event(shared, index, {**role, "content": pieces[step]}, None)
        events.append(event)
    end = b"".join(_event(shared, index, {}, answer.finish_reason) for index, answer in enumerate(answers))
    if request.include_usage and usage is not None:
        end += _sse({**shared, "choices": [], "usage": usage.body})
    events.append(end + b"data: [DONE]\n\n")
    return events


def piece_count(tokens: int) -> int:
    """In how many pieces an answer of `tokens` is made where that can be seen: in a stream, or by its
    charges.
    """
    return min(tokens, _MOST_PIECES)


def _draw(key: str, mean_tokens: int) -> tuple[int, int]:
    """A length with the given mean, at least 1, and an offset into the filler, both from a hash of `key`."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=9).digest()
    share = int.from_bytes(digest[:8]) / 2**64
    return max(1, round(-mean_tokens * math.log1p(-share))) if share < 1 else mean_tokens, digest[8] % len(
        _FILLER
    )


def _number(text: str) -> int | float | str:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _pieces(text: str, count: int) -> list[str]:
    """`text` cut into `count` parts of nearly equal length, some empty if it is short; joined they are the
    text.
    """
    return [text[len(text) * step // count : len(text) * (step + 1) // count] for step in range(count)]


def _completion_id(request_id: str) -> str:
    return f"chatcmpl-{request_id.removeprefix('req_')}"


def _event(shared: dict[str, object], index: int, delta: dict[str, str], finish_reason: str | None) -> bytes:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _sse({**shared, "choices": [choice]})


def _sse(data: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"
