"""docs/providers.md: each block starts the gateway, and sends what its provider documents.

The table here is made from the providers' own references, not from the page: address, header of the
key, and the members that a provider wants, or refuses.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.upstreams import build
from edge.upstreams.tls import tls_context
from tests.asgi import request
from tests.edge.scripted import JSON, Answer, Scripted, ScriptedGateway

PAGE = (Path(__file__).parents[3] / "docs/providers.md").read_text("utf-8")
BLOCKS: Mapping[str, dict[str, Any]] = {
    found[1]: tomllib.loads(found[2])
    for found in re.finditer(
        r"^## ([^\n]+)\n(?:(?!^## ).)*?^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
    )
}
KEY = "key-of-the-operator-0123456789"
BEARER = ("authorization", f"Bearer {KEY}")
X_API_KEY = ("x-api-key", KEY)
API_KEY = ("api-key", KEY)

CALLERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "chat": (
        "/v1/chat/completions",
        {
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.5,
            "seed": 7,
            "user": "ann",
            "store": False,
            "metadata": {"team": "blue"},
            "logprobs": False,
            "logit_bias": {},
            "frequency_penalty": 0,
            "presence_penalty": 0,
            "service_tier": "auto",
            "prompt_cache_key": "k",
            "verbosity": "low",
            "provider": {"data_collection": "allow"},
        },
    ),
    "messages": (
        "/v1/messages",
        {
            "messages": [{"role": "user", "content": "Hello"}],
            "system": "Be brief.",
            "max_tokens": 500,
            "stream": True,
            "temperature": 0.5,
            "top_k": 5,
            "metadata": {"user_id": "ann"},
        },
    ),
    "responses": ("/v1/responses", {"input": "Hello", "max_output_tokens": 500, "user": "ann"}),
}

STRICT = {"store", "user", "top_k", "service_tier", "prompt_cache_key", "safety_identifier"}
"""Members that a strict server of this dialect refuses."""


class Asked(msgspec.Struct, frozen=True):
    """What one model's upstream has to be sent.

    url: of chat or messages. key: the header that carries it. model: its name there.
    bound: the member for the output's bound. has: members and headers it needs. refuses: members
    that must not come.
    """

    url: str
    key: tuple[str, str] | None
    model: str
    bound: str = "max_tokens"
    has: Mapping[str, Any] = {}
    refuses: frozenset[str] = frozenset()


EXPECTED: Mapping[str, tuple[Asked, ...]] = {
    "OpenAI": (
        Asked(
            "https://api.openai.com/v1/chat/completions",
            BEARER,
            "gpt-5.5",
            "max_completion_tokens",
            refuses=frozenset(("max_tokens", "top_k")),
        ),
    ),
    "Anthropic": (
        Asked(
            "https://api.anthropic.com/v1/messages",
            X_API_KEY,
            "claude-sonnet-5-5",
            has={"anthropic-version": "2023-06-01"},
        ),
    ),
    "Azure OpenAI, v1": (
        Asked(
            "https://RESOURCE.openai.azure.com/openai/v1/chat/completions",
            API_KEY,
            "prod",
            "max_completion_tokens",
            refuses=frozenset(("max_tokens", "top_k")),
        ),
    ),
    "Azure OpenAI, by deployment": (
        Asked(
            "https://RESOURCE.openai.azure.com/openai/deployments/prod/chat/completions"
            "?api-version=2025-04-01-preview",
            API_KEY,
            "prod",
            "max_completion_tokens",
            refuses=frozenset(("max_tokens", "top_k")),
        ),
    ),
    "Claude in Microsoft Foundry": (
        Asked(
            "https://RESOURCE.services.ai.azure.com/anthropic/v1/messages",
            API_KEY,
            "team-opus",
            has={"anthropic-version": "2023-06-01"},
        ),
    ),
    "Gemini": (
        Asked(
            "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
            BEARER,
            "gemini-3-flash-preview",
            refuses=frozenset(STRICT | {"metadata", "frequency_penalty", "presence_penalty"}),
        ),
    ),
    "OpenRouter": (
        Asked(
            "https://openrouter.ai/api/v1/chat/completions",
            BEARER,
            "openai/gpt-5.1",
            "max_completion_tokens",
            has={"provider": {"data_collection": "deny"}, "x-title": "Example"},
        ),
        Asked(
            "https://openrouter.ai/api/v1/messages",
            BEARER,
            "anthropic/claude-sonnet-4.5",
            has={"anthropic-version": "2023-06-01"},
        ),
    ),
    "Amazon Bedrock": (
        Asked(
            "https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1/chat/completions",
            BEARER,
            "openai.gpt-oss-120b-1:0",
        ),
        Asked(
            "https://bedrock-mantle.us-west-2.api.aws/anthropic/v1/messages",
            X_API_KEY,
            "anthropic.claude-opus-4-7",
            has={"anthropic-version": "2023-06-01"},
        ),
    ),
    "DeepSeek": (
        Asked("https://api.deepseek.com/chat/completions", BEARER, "deepseek-v4-pro"),
        Asked("https://api.deepseek.com/anthropic/v1/messages", X_API_KEY, "deepseek-v4-pro"),
    ),
    "Mistral": (
        Asked(
            "https://api.mistral.ai/v1/chat/completions",
            BEARER,
            "mistral-large-latest",
            refuses=frozenset(STRICT | {"stream_options", "seed", "logprobs", "logit_bias"}),
        ),
    ),
    "Groq": (
        Asked(
            "https://api.groq.com/openai/v1/chat/completions",
            BEARER,
            "openai/gpt-oss-120b",
            refuses=frozenset(("logprobs", "top_logprobs", "logit_bias")),
        ),
    ),
    "xAI": (
        Asked(
            "https://api.x.ai/v1/chat/completions",
            BEARER,
            "grok-4.3",
            refuses=frozenset(("frequency_penalty", "presence_penalty")),
        ),
    ),
    "Ollama": (Asked("http://127.0.0.1:11434/v1/chat/completions", None, "qwen3-coder"),),
    "vLLM": (
        Asked(
            "http://127.0.0.1:8000/v1/chat/completions",
            BEARER,
            "local",
            has={"chat_template_kwargs": {"enable_thinking": False}},
        ),
    ),
    "llama.cpp, LM Studio, and others on this machine": (
        Asked("http://127.0.0.1:8080/v1/chat/completions", None, "gpt-4o"),
    ),
}


_tls = cache(tls_context)  # to load the authorities takes longer than all else here


def gateway(block: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> ScriptedGateway:
    monkeypatch.setattr(build, "tls_context", _tls)
    for upstream in block["upstreams"]:
        name = upstream.get("api_key", "").removeprefix("env:")
        if name:
            monkeypatch.setenv(name, KEY)
    return ScriptedGateway(
        Scripted(Answer([b"{}"], headers=[JSON])), document=block, configured=True
    )


def single(block: dict[str, Any]) -> list[dict[str, Any]]:
    """A configuration for each target of the block, with that one alone."""
    return [
        {**block, "models": [{**model, "targets": [target]}]}
        for model in block["models"]
        for target in model["targets"]
    ]


def test_every_block_is_expected_and_every_expectation_has_its_block() -> None:
    assert list(BLOCKS) == list(EXPECTED)
    assert PAGE.count("```toml") == len(BLOCKS)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("heading", EXPECTED)
async def test_block_sends_what_its_provider_takes(
    heading: str, caller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, body = CALLERS[caller]
    for document, asked in zip(single(BLOCKS[heading]), EXPECTED[heading], strict=True):
        found = gateway(document, monkeypatch)
        (model,) = document["models"]
        await request(found.app, "POST", path, json={**body, "model": model["id"]})
        (sent,) = found.upstream.requests
        scheme, _, rest = asked.url.partition("://")
        host, _, target = rest.partition("/")
        used = next(
            one
            for one in found.settings.upstreams
            if model["targets"][0].startswith(f"{one.name}/")
        )
        assert str(used.base_url).startswith(f"{scheme}://{host}")
        assert sent.target.decode() == f"/{target}"
        headers = {name.decode(): value.decode() for name, value in sent.headers}
        carried = [pair for pair in headers.items() if KEY in pair[1]]
        assert carried == ([] if asked.key is None else [asked.key])
        assert isinstance(sent.body, bytes)
        members = json.loads(sent.body)
        assert members["model"] == asked.model
        for name, value in asked.has.items():
            assert (members.get(name) or headers.get(name)) == value
        assert not asked.refuses & members.keys()
        if caller != "chat":  # what is translated is bounded as this model has it
            assert members[asked.bound] == 500
