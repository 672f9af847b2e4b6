"""A real model server as upstream: the gateway gives what the server gives when asked itself.

llama.cpp speaks every dialect, each in its own way: its streams of Responses name no output index,
its Messages count what its cache held apart. Whatever dialect client and upstream speak, tokens and
counts have to be those that a client of the same dialect gets from the server directly. Asked at
temperature 0, with the question in the server's cache, the server says the same each time.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import anthropic
import openai
import pytest

from edge.upstreams.local_model.model import NAME, LocalModel, local_model
from tests.e2e.program import Gateway

from .conftest import DIALECTS

QUESTION = "Hello"
SYSTEM = "You answer in one short sentence."
ENOUGH, TOO_FEW = 60, 5


class Seen(NamedTuple):
    """What a client saw of an answer; `inputs` holds all input tokens, cached ones included."""

    text: str
    truncated: bool
    inputs: int
    cached: int
    outputs: int


class At(NamedTuple):
    """Where a model is: base URL without a version."""

    url: str
    key: str
    model: str


def chat(at: At, tokens: int, stream: bool) -> Seen:
    client = openai.OpenAI(base_url=f"{at.url}/v1", api_key=at.key, max_retries=0)
    body: dict[str, Any] = {
        "model": at.model,
        "max_tokens": tokens,
        "temperature": 0,
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": QUESTION},
        ],
    }
    with client:
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            chunks = list(client.chat.completions.create(**body))
            choices = [choice for chunk in chunks for choice in chunk.choices]
            text = "".join(choice.delta.content or "" for choice in choices)
            (reason,) = [choice.finish_reason for choice in choices if choice.finish_reason]
            (usage,) = [chunk.usage for chunk in chunks if chunk.usage]
        else:
            answer = client.chat.completions.create(**body)
            (choice,), usage = answer.choices, answer.usage
            text, reason = choice.message.content, choice.finish_reason
    return Seen(
        text,
        {"stop": False, "length": True}[reason],
        usage.prompt_tokens,
        usage.prompt_tokens_details.cached_tokens,
        usage.completion_tokens,
    )


def messages(at: At, tokens: int, stream: bool) -> Seen:
    client = anthropic.Anthropic(base_url=at.url, api_key=at.key, max_retries=0)
    body: dict[str, Any] = {
        "model": at.model,
        "max_tokens": tokens,
        "system": SYSTEM,
        "messages": [{"role": "user", "content": QUESTION}],
        "extra_body": {"temperature": 0},  # which the newest version of the API has no more
        "extra_headers": {"anthropic-version": "2023-06-01"},
    }
    with client:
        if stream:
            with client.messages.stream(**body) as events:
                answer = events.get_final_message()
        else:
            answer = client.messages.create(**body)
    (block,), usage = answer.content, answer.usage
    assert block.type == "text"
    cached = usage.cache_read_input_tokens or 0
    return Seen(
        block.text,
        {"end_turn": False, "max_tokens": True}[str(answer.stop_reason)],
        usage.input_tokens + cached,
        cached,
        usage.output_tokens,
    )


def responses(at: At, tokens: int, stream: bool) -> Seen:
    client = openai.OpenAI(base_url=f"{at.url}/v1", api_key=at.key, max_retries=0)
    body: dict[str, Any] = {
        "model": at.model,
        "max_output_tokens": tokens,
        "temperature": 0,
        "store": False,
        "instructions": SYSTEM,
        "input": QUESTION,
    }
    deltas = []
    with client:
        if stream:
            for event in client.responses.create(**body, stream=True):
                if event.type == "response.output_text.delta":
                    deltas.append(event.delta)
            answer = event.response  # the last event has it
        else:
            answer = client.responses.create(**body)
    assert not stream or "".join(deltas) == answer.output_text
    usage = answer.usage
    return Seen(
        answer.output_text,
        {"completed": False, "incomplete": True}[answer.status],
        usage.input_tokens,
        usage.input_tokens_details.cached_tokens,
        usage.output_tokens,
    )


def completions(at: At, tokens: int, stream: bool) -> Seen:
    client = openai.OpenAI(base_url=f"{at.url}/v1", api_key=at.key, max_retries=0)
    body: dict[str, Any] = {
        "model": at.model,
        "max_tokens": tokens,
        "temperature": 0,
        "prompt": QUESTION,
    }
    with client:
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
            chunks = list(client.completions.create(**body))
            choices = [choice for chunk in chunks for choice in chunk.choices]
            text = "".join(choice.text for choice in choices)
            (reason,) = [choice.finish_reason for choice in choices if choice.finish_reason]
            (usage,) = [chunk.usage for chunk in chunks if chunk.usage]
        else:
            answer = client.completions.create(**body)
            (choice,), usage = answer.choices, answer.usage
            text, reason = choice.text, choice.finish_reason
    return Seen(
        text,
        {"stop": False, "length": True}[reason],
        usage.prompt_tokens,
        usage.prompt_tokens_details.cached_tokens,
        usage.completion_tokens,
    )


def chat_without_system(at: At, tokens: int, stream: bool) -> Seen:
    """What a completion becomes here: one user message."""
    client = openai.OpenAI(base_url=f"{at.url}/v1", api_key=at.key, max_retries=0)
    with client:
        answer = client.chat.completions.create(
            model=at.model,
            max_tokens=tokens,
            temperature=0,
            messages=[{"role": "user", "content": QUESTION}],
        )
    (choice,), usage = answer.choices, answer.usage
    assert usage is not None and usage.prompt_tokens_details is not None
    return Seen(
        choice.message.content or "",
        choice.finish_reason == "length",
        usage.prompt_tokens,
        usage.prompt_tokens_details.cached_tokens or 0,
        usage.completion_tokens,
    )


CLIENTS: dict[str, Callable[[At, int, bool], Seen]] = {
    "openai": chat,
    "anthropic": messages,
    "responses": responses,
}


@pytest.fixture(scope="module")
def model_server() -> Iterator[LocalModel]:
    with local_model() as model:
        chat(At(model.url, model.key, NAME), ENOUGH, stream=False)
        yield model


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, model_server: LocalModel
) -> Iterator[Gateway]:
    """A gateway that has the server as an upstream of each dialect."""
    document = {
        "upstreams": [
            {
                "name": dialect,
                "dialect": dialect,
                "base_url": f"{model_server.url}/v1",
                "api_key": "env:LOCAL_KEY",
            }
            for dialect in DIALECTS
        ],
        "models": [
            {"id": f"on-{dialect}", "targets": [f"{dialect}/{NAME}"]} for dialect in DIALECTS
        ],
    }
    folder = tmp_path_factory.mktemp("behind")
    program = Gateway(folder, document, env={"LOCAL_KEY": model_server.key})
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("upstream", DIALECTS)
@pytest.mark.parametrize("client", CLIENTS)
def test_tokens_and_counts_are_the_servers_own(
    client: str, upstream: str, stream: bool, model_server: LocalModel, gateway: Gateway
) -> None:
    ask = CLIENTS[client]
    itself = ask(At(model_server.url, model_server.key, NAME), ENOUGH, stream)
    assert itself.text
    assert 1 < itself.outputs < ENOUGH
    assert 0 < itself.cached < itself.inputs
    assert ask(At(gateway.url, gateway.key, f"on-{upstream}"), ENOUGH, stream) == itself


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("upstream", DIALECTS)
def test_a_completion_is_the_answer_to_one_message(
    upstream: str, stream: bool, model_server: LocalModel, gateway: Gateway
) -> None:
    at = At(model_server.url, model_server.key, NAME)
    chat_without_system(at, ENOUGH, stream)  # the question is in the cache from now on
    itself = chat_without_system(at, ENOUGH, stream)
    assert itself.text
    assert completions(At(gateway.url, gateway.key, f"on-{upstream}"), ENOUGH, stream) == itself


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("upstream", ["openai", "anthropic"])
@pytest.mark.parametrize("client", CLIENTS)
def test_an_answer_cut_at_the_limit_says_so(
    client: str, upstream: str, stream: bool, model_server: LocalModel, gateway: Gateway
) -> None:
    """Not with Responses upstream: there this server calls a cut answer complete."""
    seen = CLIENTS[client](At(gateway.url, gateway.key, f"on-{upstream}"), TOO_FEW, stream)
    assert seen.truncated
    assert seen.outputs == TOO_FEW
    whole = CLIENTS[client](At(model_server.url, model_server.key, NAME), ENOUGH, stream)
    assert whole.text.startswith(seen.text)
