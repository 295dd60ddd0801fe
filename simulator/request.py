"""Reading a chat request: the body as bytes in, the few facts the simulator needs out, or OpenAI's 400."""

import json
from dataclasses import dataclass

import jiter

from simulator.counting import MessageSize, count_prompt
from simulator.errors import ApiError

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_MOST_ANSWERS = 128
_FIRST_LINE_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A valid request. `prompt` is the text of its last user message; `max_tokens` caps each of its `n`
    answers.
    """

    model: str
    prompt: str
    user: str | None
    prompt_tokens: int
    max_tokens: int | None
    n: int
    stream: bool
    include_usage: bool

    @property
    def first_line(self) -> str:
        """The first line of the prompt with anything on it, cut at 200 characters."""
        start = self.prompt.lstrip()[: 4 * _FIRST_LINE_CHARACTERS]
        return start.splitlines()[0].rstrip()[:_FIRST_LINE_CHARACTERS] if start else ""


def parse_request(raw: bytes) -> ChatRequest:
    """Read a request body; an `ApiError` with status 400 names the first parameter that is wrong."""
    try:
        body: object = jiter.from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"We could not parse the JSON body of your request: {error}.") from None
    if not isinstance(body, dict):
        raise _invalid("The JSON body of your request must be an object.", None)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise _invalid("You must provide a model parameter.", "model")
    stream = _flag(body, "stream")
    prompt, sizes = _messages(body.get("messages"))
    tools = body.get("tools")
    return ChatRequest(
        model=model,
        prompt=prompt,
        user=_user(body.get("user")),
        prompt_tokens=count_prompt(sizes, _as_json(tools) if tools else ""),
        max_tokens=_cap(body),
        n=_positive(body, "n", most=_MOST_ANSWERS) or 1,
        stream=stream,
        include_usage=_include_usage(body.get("stream_options"), stream),
    )


def _messages(messages: object) -> tuple[str, list[MessageSize]]:
    """The text of the last user message, and the size of each."""
    if not isinstance(messages, list) or not messages:
        raise _invalid("Invalid 'messages': expected an array with at least one message.", "messages")
    prompt = ""
    sizes: list[MessageSize] = []
    for index, message in enumerate(messages):
        param = f"messages[{index}]"
        if not isinstance(message, dict):
            raise _invalid(f"Invalid '{param}': expected an object.", param)
        role = message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise _invalid(
                f"Invalid '{param}.role': expected one of {', '.join(sorted(_ROLES))}.", f"{param}.role"
            )
        text, other_parts = _content(message, param)
        texts = [text]
        if isinstance(name := message.get("name"), str):
            texts.append(name)
        if calls := message.get("tool_calls"):
            texts.append(_as_json(calls))
        sizes.append(MessageSize(tuple(texts), other_parts))
        if role == "user":
            prompt = text
    return prompt, sizes


def _content(message: dict[str, object], param: str) -> tuple[str, int]:
    """One message's text, and the number of its parts that are none."""
    content = message.get("content")
    if isinstance(content, str):
        return content, 0
    if content is None and message.get("role") == "assistant":
        return "", 0
    if not isinstance(content, list) or not content:
        raise _invalid(
            f"Invalid '{param}.content': expected a string or an array of parts.", f"{param}.content"
        )
    texts: list[str] = []
    other_parts = 0
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str):
            raise _invalid(f"Invalid '{param}.content': every part needs a type.", f"{param}.content")
        if kind == "text":
            text = part.get("text")
            if not isinstance(text, str):
                raise _invalid(f"Invalid '{param}.content': a text part needs its text.", f"{param}.content")
            texts.append(text)
        else:
            other_parts += 1
    return "\n".join(texts), other_parts


def _cap(body: dict[str, object]) -> int | None:
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise _invalid(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
        )
    return _positive(body, "max_completion_tokens") or _positive(body, "max_tokens")


def _positive(body: dict[str, object], name: str, most: int | None = None) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise _invalid(f"Invalid type for '{name}': expected an integer.", name, "invalid_type")
    if value < 1:
        raise _invalid(
            f"Invalid '{name}': expected a value >= 1, but got {value}.", name, "integer_below_min_value"
        )
    if most is not None and value > most:
        raise _invalid(
            f"Invalid '{name}': expected a value <= {most}, but got {value}.", name, "integer_above_max_value"
        )
    return value


def _flag(body: dict[str, object], name: str) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise _invalid(f"Invalid type for '{name}': expected a boolean.", name, "invalid_type")
    return value


def _user(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise _invalid("Invalid type for 'user': expected a string.", "user", "invalid_type")


def _include_usage(options: object, stream: bool) -> bool:
    if options is None:
        return False
    if not stream:
        raise _invalid(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options"
        )
    if not isinstance(options, dict):
        raise _invalid(
            "Invalid type for 'stream_options': expected an object.", "stream_options", "invalid_type"
        )
    return _flag(options, "include_usage")


def _as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _invalid(message: str, param: str | None, code: str | None = None) -> ApiError:
    return ApiError(400, message, param=param, code=code)
