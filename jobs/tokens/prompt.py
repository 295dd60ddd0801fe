"""What of a chat request the provider counts as its prompt: texts to tokenize, and what is counted otherwise.

Read once from the body, without a vocabulary; each model of a route then counts it in its own encoding.
Sources: "How to count tokens with tiktoken" in OpenAI's cookbook (exact for messages of plain text) and
OpenAI's guides to images, audio and files. Whatever is not known there is counted as its JSON text, which
errs upwards.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from jobs.tokens.images import Image, image_tokens, size_of_data_url
from jobs.tokens.text import count_text

_PRIMING_TOKENS = 3
_MESSAGE_TOKENS = 3
_NAME_TOKENS = 1
_PART_TOKENS = 1
_TOOL_CALL_TOKENS = 8
_TOOL_TOKENS = 10
_TOOLS_TOKENS = 12
_SCHEMA_TOKENS = 12

_ROLES_OF_ONE_TOKEN = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

_AUDIO_TOKENS_PER_S = 10
_AUDIO_BYTES_PER_S = {"wav": 16_000, "mp3": 4_000}
"""Of the poorest quality that is usual: 8 kHz in 16 bits, 32 kbit/s."""

_FILE_BYTES_PER_TOKEN = 4
_UPLOADED_FILE_TOKENS = 10_000
"""For a file that only the provider has."""

_NO_PROMPT = frozenset(
    {
        "model", "messages", "max_tokens", "max_completion_tokens", "n", "temperature", "top_p", "seed",
        "stop", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "stream",
        "stream_options", "user", "metadata", "store", "service_tier", "safety_identifier", "modalities",
        "audio", "parallel_tool_calls", "reasoning_effort", "verbosity", "prompt_cache_key",
        "prompt_cache_retention",
    }
)  # fmt: skip
"""Fields of the request that never reach the model as text."""


@dataclass(frozen=True, slots=True)
class PromptParts:
    """A prompt as far as it can be counted without knowing the model."""

    texts: tuple[str, ...]
    images: tuple[Image, ...]
    fixed_tokens: int

    def tokens(self, encoding: str, model: str, *, stop_above_tokens: int | None = None) -> int:
        """The prompt's tokens in that encoding, for the provider's model of that name.

        With stop_above_tokens, counting ends soon after that many: the result is then above it, and not
        the whole.
        """
        tokens = self.fixed_tokens + sum(image_tokens(image, model) for image in self.images)
        for text in self.texts:
            if stop_above_tokens is None:
                tokens += count_text(text, encoding)
            elif tokens > stop_above_tokens:
                break
            else:
                tokens += count_text(text, encoding, stop_above_tokens=stop_above_tokens - tokens)
        return tokens


def prompt_parts(body: Mapping[str, object]) -> PromptParts:
    """Read the prompt out of a chat request's body: parsed JSON of bounded depth, of whatever shape."""
    reader = _Reader()
    reader.read(body)
    return PromptParts(tuple(reader.texts), tuple(reader.images), reader.fixed_tokens)


def prompt_tokens(body: Mapping[str, object], encoding: str) -> int:
    """The tokens of a chat request's prompt, counted for the model that the body names.

    Exactly the provider's number for messages of plain text, an upper estimate for the rest.
    """
    return prompt_parts(body).tokens(encoding, str(body.get("model")))


class _Reader:
    """Collects the parts of one prompt."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.images: list[Image] = []
        self.fixed_tokens = _PRIMING_TOKENS

    def read(self, body: Mapping[str, object]) -> None:
        messages = body.get("messages")
        if isinstance(messages, list):
            for message in messages:
                self._message(message)
        else:
            self._any(messages)
        for field, value in body.items():
            if field not in _NO_PROMPT:
                self._setting(field, value)

    def _any(self, value: object) -> None:
        """A text as it is, anything else as its JSON."""
        if isinstance(value, str):
            self.texts.append(value)
        elif value is not None:
            self.texts.append(_json_text(value))

    def _setting(self, field: str, value: object) -> None:
        if field in ("tools", "functions") and value and isinstance(value, list):
            # OpenAI rewrites definitions into a notation that is shorter than JSON, except for long enums:
            # there each member takes about a token more.
            text = _json_text(value)
            self.texts.append(text)
            self.fixed_tokens += _TOOLS_TOKENS + _TOOL_TOKENS * len(value) + text.count('", "')
            return
        if field == "response_format" and value is not None:
            self.fixed_tokens += _SCHEMA_TOKENS
        self._any(value)

    def _message(self, message: object) -> None:
        self.fixed_tokens += _MESSAGE_TOKENS
        if not isinstance(message, dict):
            self._any(message)
            return
        for field, value in message.items():
            if field == "role" and isinstance(value, str) and value in _ROLES_OF_ONE_TOKEN:
                self.fixed_tokens += 1
            elif field == "content" and isinstance(value, list):
                for part in value:
                    self._part(part)
            elif field == "tool_calls" and isinstance(value, list):
                for call in value:
                    self._tool_call(call)
            else:
                self._any(value)
                if field == "name":
                    self.fixed_tokens += _NAME_TOKENS

    def _tool_call(self, call: object) -> None:
        self.fixed_tokens += _TOOL_CALL_TOKENS
        match call:
            case {"function": {"name": str(name), "arguments": str(arguments)}}:
                self.texts += (name, arguments)
            case _:
                self._any(call)

    def _part(self, part: object) -> None:
        """One part of a message's content; a medium that the provider takes by address has no size here."""
        self.fixed_tokens += _PART_TOKENS
        match part:
            case {"type": "text", "text": str(text)}:
                self.texts.append(text)
            case {"type": "image_url", "image_url": {"url": str(url), **options}}:
                self.images.append(Image(options.get("detail") == "low", size_of_data_url(url)))
            case {"type": "input_audio", "input_audio": {"data": str(data), "format": str(kind)}}:
                bytes_per_s = _AUDIO_BYTES_PER_S.get(kind, min(_AUDIO_BYTES_PER_S.values()))
                self.fixed_tokens += ceil(_base64_bytes(data) / bytes_per_s * _AUDIO_TOKENS_PER_S)
            case {"type": "file", "file": {"file_data": str(data)}}:
                self.fixed_tokens += ceil(_base64_bytes(data) / _FILE_BYTES_PER_TOKEN)
            case {"type": "file", "file": {"file_id": str()}}:
                self.fixed_tokens += _UPLOADED_FILE_TOKENS
            case _:
                self._any(part)


def _json_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _base64_bytes(encoded: str) -> int:
    return len(encoded) * 3 // 4
