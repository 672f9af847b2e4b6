"""Shapes of the answers of servers that speak chat completions: only the members acted on.

They are read leniently. Dozens of servers write this dialect, each a little differently, and
nothing that is not needed may break an answer.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from edge.dialects.passthrough import Count, disjoint
from middlewares.exchange import Usage

NULL = Raw(b"null")


class _PromptDetails(Struct):
    cached_tokens: Count = None
    cache_write_tokens: Count = None


class _CompletionDetails(Struct):
    reasoning_tokens: Count = None


class ChatUsage(Struct):
    """`usage`: cached tokens are inside `prompt_tokens`, and named in one of three ways."""

    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: Count = None
    cached_tokens: Count = None

    def normal(self) -> Usage:
        """The same figures, disjoint."""
        details, spent = self.prompt_tokens_details, self.completion_tokens_details
        read = details.cached_tokens if details else None
        return disjoint(
            self.prompt_tokens,
            self.completion_tokens,
            read=read or self.prompt_cache_hit_tokens or self.cached_tokens,
            written=details.cache_write_tokens if details else None,
            reasoning=spent.reasoning_tokens if spent else None,
            total=self.total_tokens,
        )


class Function(Struct):
    """What is called. Some servers write the arguments as an object."""

    name: str | None = None
    arguments: str | dict[str, Raw] | None = None


class Custom(Struct):
    """A call of a tool that takes free text."""

    name: str | None = None
    input: str | None = None


class CallFragment(Struct):
    """One entry of `tool_calls`."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None
    custom: Custom | None = None


class UrlCitation(Struct):
    """Where a text comes from."""

    url: str = ""
    title: str | None = None
    start_index: int | None = None
    end_index: int | None = None
    content: str | None = None


class Annotation(Struct):
    """One entry of `annotations`."""

    url_citation: UrlCitation | None = None


class Part(Struct):
    """Content as a list (Mistral): text, and thinking that is a list of texts itself."""

    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    thinking: "str | list[Part] | None" = None


class Delta(Struct):
    """`delta` of a chunk, and `message` of a whole answer."""

    content: str | list[Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | dict[str, Any] | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    refusal: str | None = None
    tool_calls: list[CallFragment] | None = None
    function_call: Function | None = None
    annotations: list[Annotation] | None = None


class Choice(Struct):
    """`stop_reason` (vLLM) and `matched_stop` (SGLang) may name the stop string that was met."""

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    stop_reason: Raw = NULL
    matched_stop: Raw = NULL


class Chunk(Struct):
    """An event of a stream, or a whole answer."""

    choices: list[Choice] | None = None
    usage: ChatUsage | None = None
    error: Raw = NULL
    object: str | None = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
