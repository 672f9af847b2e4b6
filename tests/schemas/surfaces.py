"""Each JSON value the gateway makes: the SDK type that reads it, what is always in it, its laws.

The types of the SDKs are lenient: optional means "may be missing" there, although the vendors
always send many of these keys. Those stand in `presence` and `openresponses`. A law relates parts
of one value.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

from anthropic import types as anthropic
from anthropic.pagination import SyncPage
from openai import types as openai
from openai.types import responses
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses.input_token_count_response import InputTokenCountResponse
from openai.types.responses.response_item import ResponseItem
from openai.types.responses.response_item_list import ResponseItemList
from typing_extensions import TypedDict

from . import laws, openresponses, presence
from .rules import COUNT, NAME, STRING, Rule, among, nullable, record, several
from .validators import Checker, schema_of

Surface = Literal[
    "chat.completion",
    "chat.completion.chunk",
    "text_completion",
    "text_completion.chunk",
    "response",
    "response.event",
    "response.compaction",
    "response.items",
    "response.input_tokens",
    "message",
    "message.event",
    "message.count",
    "openai.model",
    "openai.models",
    "anthropic.model",
    "anthropic.models",
    "embeddings",
    "openai.error",
    "anthropic.error",
]


def check(surface: Surface, value: Any) -> Any:
    """Hold a value against all that is known of its surface, and give it back.

    value: decoded JSON, or its bytes. Raises AssertionError with the JSON path and what was
    expected there.
    """
    if isinstance(value, bytes):
        value = decode(value, surface)
    for checker in _checkers(surface):
        checker.refuse(surface, value)
    known = _SURFACES[surface]
    if known.law is not None:
        known.law(value)
    return value


def decode(data: bytes, at: str) -> Any:
    """Strict JSON: UTF-8, no NaN, no key twice in an object."""
    try:
        return json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except ValueError as error:
        raise AssertionError(f"{at}: not JSON: {error}: {data[:200]!r}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key comes twice among {[key for key, _ in pairs]}")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# Types that the SDKs do not have ------------------------------------------------------------------


class _Ping(TypedDict):
    type: Literal["ping"]


class _Compaction(responses.CompactedResponse):
    # the SDK says assistant messages only, and in its prose: the user's messages
    output: list[ResponseItem]  # type: ignore[assignment]


class _Embedding(openai.Embedding):
    embedding: list[float] | str  # type: ignore[assignment]  # text with encoding_format base64


class _Embeddings(openai.CreateEmbeddingResponse):
    data: list[_Embedding]  # type: ignore[assignment]


class _OpenAIModels(TypedDict):
    object: Literal["list"]
    data: list[openai.Model]


# All together -------------------------------------------------------------------------------------


class _Known(NamedTuple):
    """kind: the SDK's type, None where it has none. rule: what it leaves out. law: of the whole."""

    kind: Any
    rule: Rule
    law: Callable[[Any], None] | None = None


_ClaudeEvent = anthropic.RawMessageStreamEvent | _Ping

_SURFACES: Mapping[Surface, _Known] = {
    "chat.completion": _Known(ChatCompletion, presence.CHAT, laws.chat),
    "chat.completion.chunk": _Known(ChatCompletionChunk, presence.CHUNK, laws.chunk),
    "text_completion": _Known(
        openai.Completion,
        presence.text_completion(NAME, presence.TEXT_USAGE, 1),
        laws.text_completion,
    ),
    # the SDK's one type for both forms has finish_reason never null
    "text_completion.chunk": _Known(
        None, presence.text_completion(nullable(NAME), None, 0), laws.chunk
    ),
    "response": _Known(responses.Response, openresponses.RESPONSE, laws.response),
    "response.event": _Known(responses.ResponseStreamEvent, openresponses.EVENT, laws.event),
    "response.compaction": _Known(_Compaction, openresponses.COMPACTION),
    "response.items": _Known(ResponseItemList, record({"data": several(openresponses.ITEM)})),
    "response.input_tokens": _Known(InputTokenCountResponse, record({"input_tokens": COUNT})),
    "message": _Known(
        anthropic.Message, presence.message(several(presence.BLOCK), NAME), laws.message
    ),
    "message.event": _Known(_ClaudeEvent, presence.CLAUDE_EVENT),
    "message.count": _Known(anthropic.MessageTokensCount, record({"input_tokens": COUNT})),
    "openai.model": _Known(openai.Model, presence.MODEL),
    "openai.models": _Known(_OpenAIModels, record({"data": several(presence.MODEL)})),
    "anthropic.model": _Known(anthropic.ModelInfo, presence.CLAUDE_MODEL),
    "anthropic.models": _Known(
        SyncPage[anthropic.ModelInfo],
        record(
            {
                "data": several(presence.CLAUDE_MODEL),
                "first_id": nullable(NAME),
                "last_id": nullable(NAME),
                "has_more": {"type": "boolean"},
            }
        ),
    ),
    "embeddings": _Known(
        _Embeddings,
        record(
            {"usage": record({"prompt_tokens": COUNT, "total_tokens": COUNT}), "model": NAME},
        ),
        laws.embeddings,
    ),
    "openai.error": _Known(None, presence.OPENAI_ERROR),
    "anthropic.error": _Known(None, presence.CLAUDE_ERROR),
}


@cache
def _checkers(surface: Surface) -> tuple[Checker, ...]:
    known = _SURFACES[surface]
    generated = () if known.kind is None else (Checker(_widened(surface, schema_of(known.kind))),)
    return (*generated, Checker(known.rule))


def _widened(surface: Surface, schema: Rule) -> Rule:
    """`schema` with what the vendor sends and its SDK's types do not list.

    These are two events, streamed calls of custom tools, and the codes of a failed response: an SDK
    takes any without a word, and clients act on some that are not in its list (overload, context
    length, quota).
    """
    missing = {
        "message.event": {"error"},
        "response.event": openresponses.KNOWN_ONLY_HERE,
    }.get(surface)
    if missing is not None:
        branches = [record({"type": {"const": name}}) for name in sorted(missing)]
        schema = {**schema, "anyOf": [*schema["anyOf"], *branches]}
    if surface == "chat.completion.chunk":
        schema["$defs"]["ChoiceDeltaToolCall"]["properties"]["type"] = among("function", "custom")
    if surface in ("response", "response.event"):
        schema["$defs"]["ResponseError"]["properties"]["code"] = STRING
    return schema
