"""Token counts of prompts: deterministic, plausible for prose, and never above what a real tokenizer says.

No vocabulary is needed. A text counts its words (runs between white space), but no more than a token for
every 4 bytes of UTF-8. English prose comes out at about three quarters of tiktoken's figure. tiktoken's
splitting patterns never let a token reach over white space into the next word, so a client that holds
tiktoken's count holds enough whatever the text is: a million spaces, one letter for ever, or base64.

A message adds 3 tokens and the whole prompt 3, as in OpenAI's cookbook (which besides counts the role). A part
that is no text counts 1: it is not looked into, and the smallest images cost hardly more.
"""

from collections.abc import Iterable
from dataclasses import dataclass

_MESSAGE_TOKENS = 3
_PRIMING_TOKENS = 3
_OTHER_PART_TOKENS = 1
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class MessageSize:
    """What of one message counts: its texts (content, name, tool calls) and the number of its other parts."""

    texts: tuple[str, ...]
    other_parts: int = 0


def count_text(text: str) -> int:
    """Tokens of `text`; 0 only for the empty one."""
    if not text:
        return 0
    most = -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN)
    return max(1, min(len(text.split()), most))


def count_prompt(messages: Iterable[MessageSize], tools: str) -> int:
    """Tokens of a whole request: its messages and its tools' definitions (as JSON text, may be empty)."""
    tokens = _PRIMING_TOKENS + count_text(tools)
    for message in messages:
        tokens += _MESSAGE_TOKENS + sum(map(count_text, message.texts))
        tokens += message.other_parts * _OTHER_PART_TOKENS
    return tokens
