"""The openai SDK against the simulator: what it makes of answers, streams, refusals and faults."""

from collections.abc import AsyncIterator

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionUserMessageParam

from simulator.serve import RunningSimulator, running
from simulator.settings import SimulatorSettings


@pytest_asyncio.fixture
async def simulator() -> AsyncIterator[RunningSimulator]:
    async with running(
        SimulatorSettings(tpm=10_000, rpm=100, models=("gpt-4o-mini",), api_key="sk-test")
    ) as running_one:
        yield running_one


@pytest_asyncio.fixture
async def client(simulator: RunningSimulator) -> AsyncIterator[AsyncOpenAI]:
    url = simulator.url + "/v1"
    async with AsyncOpenAI(base_url=url, api_key="sk-test", max_retries=0, timeout=20) as openai_client:
        yield openai_client


def said(prompt: str) -> list[ChatCompletionUserMessageParam]:
    return [{"role": "user", "content": prompt}]


async def ask(client: AsyncOpenAI, prompt: str, max_tokens: int = 93) -> ChatCompletion:
    return await client.chat.completions.create(
        model="gpt-4o-mini", messages=said(prompt), max_completion_tokens=max_tokens, user="ada"
    )


async def test_an_ordinary_answer(client: AsyncOpenAI, simulator: RunningSimulator) -> None:
    answer = await ask(client, "hi")
    assert answer.choices[0].message.content is not None
    assert answer.choices[0].message.content.startswith("echo: hi")
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 7
    assert answer.usage.completion_tokens <= 93
    (entry,) = simulator.log()
    assert answer._request_id == entry.request_id
    assert (entry.user, entry.charged_tokens, entry.reported_tokens) == (
        "ada",
        100,
        answer.usage.total_tokens,
    )


async def test_a_streamed_answer_says_what_the_ordinary_one_says(client: AsyncOpenAI) -> None:
    whole = await ask(client, "tell me")
    stream = await client.chat.completions.create(
        model="gpt-4o-mini",
        messages=said("tell me"),
        max_completion_tokens=93,
        stream=True,
        stream_options={"include_usage": True},
    )
    text, usage = "", None
    async for chunk in stream:
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert usage == whole.usage


async def test_a_429_of_the_limit_is_a_rate_limit_error(client: AsyncOpenAI) -> None:
    await ask(client, "hi", 9_000)
    with pytest.raises(openai.RateLimitError) as refused:
        await ask(client, "hi", 2_000)
    assert refused.value.code == "rate_limit_exceeded"
    assert 5_500 < int(refused.value.response.headers["retry-after-ms"]) < 6_100
    with pytest.raises(openai.RateLimitError, match="Request too large"):
        await ask(client, "hi", 20_000)


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        ("[[fail:401]]", openai.AuthenticationError),
        ("[[fail:403]]", openai.PermissionDeniedError),
        ("[[fail:quota]]", openai.RateLimitError),
        ("[[fail:500]]", openai.InternalServerError),
        ("[[reset]]", openai.APIConnectionError),
        ("[[cut]]", openai.APIConnectionError),
    ],
)
async def test_faults_are_the_errors_of_the_sdk(
    client: AsyncOpenAI, prompt: str, error: type[openai.APIError]
) -> None:
    with pytest.raises(error):
        await ask(client, prompt)


async def test_the_sdk_follows_a_redirect_by_itself_and_is_caught_doing_so(
    client: AsyncOpenAI, simulator: RunningSimulator
) -> None:
    await ask(client, "[[redirect]]")
    assert simulator.stats().redirects_followed == 1


async def test_html_is_not_taken_for_an_answer(client: AsyncOpenAI) -> None:
    assert not isinstance(await ask(client, "[[garbage]]"), ChatCompletion)


async def test_a_wrong_key_and_an_unknown_model_are_refused(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        await ask(client.with_options(api_key="sk-wrong"), "hi")
    with pytest.raises(openai.NotFoundError) as refused:
        await client.chat.completions.create(model="gpt-9", messages=said("hi"))
    assert refused.value.code == "model_not_found"


async def test_a_missing_usage_is_none(client: AsyncOpenAI) -> None:
    assert (await ask(client, "[[no-usage]]")).usage is None


async def test_models_are_listed(client: AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["gpt-4o-mini"]
