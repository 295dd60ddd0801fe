"""What all measured workloads have in common."""

from typing import Any, Final

CHAT_BODY: Final[dict[str, Any]] = {
    "model": "m",
    "messages": [
        {
            "role": "system",
            "content": "You are a careful reader. Answer with a single sentence, in the language of the question.",
        },
        {
            "role": "user",
            "content": "Here is what the customer wrote: my order arrived on Tuesday, the box was open and one of the "
            "two lamps is missing. I would like to have the second lamp sent to the same address, or half of my money "
            "back. What does the customer want?",
        },
    ],
    "max_tokens": 100,
}
"""About 450 bytes and 90 tokens: a short question."""


def numbered(number: int) -> dict[str, Any]:
    """The body, marked so that the provider can tell it from others (bench/provider.py)."""
    system, user = CHAT_BODY["messages"]
    return {**CHAT_BODY, "messages": [system, {**user, "content": f"#{number}# {user['content']}"}]}
