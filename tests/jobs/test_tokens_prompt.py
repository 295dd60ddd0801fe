"""Prompts: the provider's own number for plain text, never less than that for anything else."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.tokens.prompt import prompt_tokens
from jobs.tokens.text import count_text
from jobs.tokens.vocabulary import ENCODING_NAMES

O200K = "o200k_base"


def _chat(*messages: object, **settings: object) -> dict[str, object]:
    return {"model": "gpt-4o", "messages": list(messages), **settings}


def _user(*parts: object) -> dict[str, object]:
    return {"role": "user", "content": list(parts)}


def _cookbook_tokens(messages: list[dict[str, str]], encoding: str) -> int:
    """num_tokens_from_messages of OpenAI's cookbook, for all its present models."""
    of_messages = sum(
        3 + sum(count_text(value, encoding) for value in message.values()) for message in messages
    )
    return of_messages + sum("name" in message for message in messages) + 3


def _cookbook_tool_tokens(tools: list[dict[str, dict[str, object]]], encoding: str) -> int:
    """num_tokens_for_tools of OpenAI's cookbook."""
    tokens = 12
    for tool in tools:
        function = json.loads(json.dumps(tool["function"]))
        tokens += {"o200k_base": 7, "cl100k_base": 10}[encoding]
        tokens += count_text(f"{function['name']}:{function['description'].removesuffix('.')}", encoding)
        properties = function["parameters"]["properties"]
        tokens += 3 if properties else 0
        for name, schema in properties.items():
            members = schema.get("enum", [])
            tokens += sum(3 + count_text(member, encoding) for member in members) - (3 if members else 0)
            line = f"{name}:{schema['type']}:{schema.get('description', '').removesuffix('.')}"
            tokens += 3 + count_text(line, encoding)
    return tokens


def _tool(name: str, properties: dict[str, object]) -> dict[str, dict[str, object]]:
    function: dict[str, object] = {
        "name": name,
        "description": "Get the current weather in a given location",
        "parameters": {"type": "object", "properties": properties, "required": list(properties)},
    }
    return {"function": function}


WEATHER = _tool(
    "get_current_weather",
    {
        "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
        "unit": {
            "type": "string",
            "description": "The unit of temperature to return",
            "enum": ["celsius", "fahrenheit"],
        },
    },
)


@pytest.mark.parametrize(("encoding", "billed"), [("o200k_base", 124), ("cl100k_base", 129)])
def test_plain_chat_counts_what_the_api_bills_in_the_cookbook(encoding: str, billed: int) -> None:
    system = (
        "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."
    )
    messages = [
        {"role": "system", "content": system},
        {
            "role": "system",
            "name": "example_user",
            "content": "New synergies will help drive top-line growth.",
        },
        {
            "role": "system",
            "name": "example_assistant",
            "content": "Things working well together will increase revenue.",
        },
        {
            "role": "system",
            "name": "example_user",
            "content": "Let's circle back when we have more bandwidth to touch base on opportunities "
            "for increased leverage.",
        },
        {
            "role": "system",
            "name": "example_assistant",
            "content": "Let's talk later when we're less busy about how to do better.",
        },
        {
            "role": "user",
            "content": "This late pivot means we don't have time to boil the ocean "
            "for the client deliverable.",
        },
    ]

    assert prompt_tokens(_chat(*messages), encoding) == billed


_PLAIN_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(
                ["system", "developer", "user", "assistant", "tool", "function", "narrator"]
            ),
            "content": st.text(max_size=80),
        },
        optional={"name": st.text(max_size=20)},
    ),
    max_size=6,
)


@pytest.mark.parametrize("encoding", ENCODING_NAMES)
@given(messages=_PLAIN_MESSAGES)
@settings(derandomize=True, deadline=None, max_examples=100)
def test_any_plain_chat_follows_the_cookbook(messages: list[dict[str, str]], encoding: str) -> None:
    assert prompt_tokens(_chat(*messages), encoding) == _cookbook_tokens(messages, encoding)


def test_settings_that_are_no_text_cost_nothing() -> None:
    plain = _chat({"role": "user", "content": "Say hello"})
    steered = plain | {
        "temperature": 0.2,
        "max_tokens": 64,
        "user": "u" * 500,
        "metadata": {"a": "b"},
        "n": 3,
    }

    assert prompt_tokens(plain, O200K) == 9
    assert prompt_tokens(steered, O200K) == 9


def test_text_parts_cost_little_more_than_one_text() -> None:
    whole = prompt_tokens(_chat({"role": "user", "content": "Say hello"}), O200K)
    parts = _user({"type": "text", "text": "Say"}, {"type": "text", "text": " hello"})

    assert whole <= prompt_tokens(_chat(parts), O200K) <= whole + 2


@pytest.mark.parametrize("encoding", ENCODING_NAMES)
@pytest.mark.parametrize(
    "tools",
    [
        [WEATHER],
        [_tool("now", {})],
        [_tool(f"tool_{i}", {"city": {"type": "string"}}) for i in range(30)],
        [_tool("many", {f"field_{i}": {"type": "integer"} for i in range(60)})],
        [
            _tool(
                "choose",
                {"code": {"type": "string", "enum": [f"{a}{b}" for a in "abcdef" for b in "xyzuvw"]}},
            )
        ],
        [_tool("choose", {"code": {"type": "string", "enum": [f"kind-{i}" for i in range(300)]}})],
    ],
    ids=["weather", "no fields", "thirty", "many fields", "letters", "long enum"],
)
def test_tools_count_at_least_as_the_cookbook_has_them(
    tools: list[dict[str, dict[str, object]]], encoding: str
) -> None:
    plain = prompt_tokens(_chat(), encoding)

    for field in ("tools", "functions"):
        counted = prompt_tokens(_chat(**{field: tools}), encoding) - plain
        assert _cookbook_tool_tokens(tools, encoding) <= counted


def test_tool_example_of_the_cookbook_is_not_underestimated() -> None:
    chat = _chat(
        {
            "role": "system",
            "content": "You are a helpful assistant that can answer to questions about the weather.",
        },
        {"role": "user", "content": "What's the weather like in San Francisco?"},
        tools=[{"type": "function", **WEATHER}],
    )

    assert 101 <= prompt_tokens(chat, O200K) <= 202


def test_tool_calls_count_their_names_and_arguments() -> None:
    arguments = json.dumps({"location": "Lima", "days": list(range(50))})
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_current_weather", "arguments": arguments},
    }
    asked = {"role": "assistant", "content": None, "tool_calls": [call, call]}
    answered = {"role": "tool", "tool_call_id": "call_1", "content": "14 °C"}
    texts = 2 * (count_text("get_current_weather", O200K) + count_text(arguments, O200K))

    assert texts + 25 <= prompt_tokens(_chat(asked, answered), O200K) <= texts + 50


def test_schema_of_the_answer_counts_as_its_text() -> None:
    schema = {"type": "object", "properties": {f"line_{i}": {"type": "string"} for i in range(20)}}
    chat = _chat(response_format={"type": "json_schema", "json_schema": {"name": "bill", "schema": schema}})

    assert prompt_tokens(chat, O200K) > prompt_tokens(_chat(), O200K) + count_text(json.dumps(schema), O200K)


def test_images_are_priced_by_the_model_that_sees_them() -> None:
    far = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png", "detail": "low"}}
    png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\4\0\0\0\4\0"
    near = {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{base64.b64encode(png).decode()}"},
    }
    chat = _chat(_user(far, near))

    assert 85 + 765 <= prompt_tokens(chat, O200K) <= 85 + 765 + 12
    assert prompt_tokens(chat | {"model": "gpt-4o-mini"}, O200K) >= 2_833 + 2_833 + 4 * 5_667


def test_audio_counts_by_its_length() -> None:
    minute_of_wav = base64.b64encode(bytes(60 * 48_000)).decode()
    minute_of_mp3 = base64.b64encode(bytes(60 * 8_000)).decode()
    for data, kind in ((minute_of_wav, "wav"), (minute_of_mp3, "mp3"), (minute_of_mp3, "ogg")):
        chat = _chat(_user({"type": "input_audio", "input_audio": {"data": data, "format": kind}}))
        assert 600 <= prompt_tokens(chat, O200K) <= 2_000


def test_files_count_by_their_size_and_unseen_ones_by_a_round_number() -> None:
    content = base64.b64encode(bytes(40_000)).decode()
    sent = {
        "type": "file",
        "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{content}"},
    }
    uploaded = {"type": "file", "file": {"file_id": "file-123"}}

    assert 10_000 <= prompt_tokens(_chat(_user(sent)), O200K) <= 10_030
    assert 10_000 <= prompt_tokens(_chat(_user(uploaded)), O200K) <= 10_030


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_ODD_PARTS = st.lists(
    _JSON
    | st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "image_url", "input_audio", "file", "refusal", "video_url"])},
        optional={
            "text": _JSON,
            "image_url": st.fixed_dictionaries({"url": _JSON}) | _JSON,
            "input_audio": _JSON,
            "file": _JSON,
        },
    ),
    max_size=4,
)


@given(
    content=_JSON | _ODD_PARTS,
    role=_JSON,
    calls=_JSON | st.lists(st.fixed_dictionaries({"function": _JSON}), max_size=2),
    tools=_JSON,
    extra=_JSON,
    messages=_JSON,
)
@settings(derandomize=True, deadline=None, max_examples=200)
def test_no_shape_of_json_breaks_the_count(
    content: object, role: object, calls: object, tools: object, extra: object, messages: object
) -> None:
    message = {"role": role, "content": content, "name": role, "tool_calls": calls, "x": extra}

    assert prompt_tokens(_chat(message, content, tools=tools, response_format=extra, new=extra), O200K) >= 9
    assert prompt_tokens({"messages": messages}, O200K) >= 3
    assert prompt_tokens({}, O200K) == 3


def test_unknown_parts_and_fields_count_as_their_json() -> None:
    part = {"type": "hologram", "hologram": {"frames": ["one", "two", "three"]}}
    known = prompt_tokens(_chat(_user()), O200K)

    assert prompt_tokens(_chat(_user(part)), O200K) == known + 1 + count_text(json.dumps(part), O200K)
    assert prompt_tokens(_chat(_user(), hints=part), O200K) == known + count_text(json.dumps(part), O200K)
