"""Shapes of Chat Completions answers: only the members that are read.

They are lenient. Dozens of servers write this dialect, each a little differently, and a member that
is not needed must not fail an answer.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from edge.dialects.passthrough import UNREADABLE
from edge.dialects.token_counts import Count, disjoint, member, tokens
from edge.untyped_json import number
from middlewares.exchange import Usage

NULL = Raw(b"null")


class ChatUsage(Struct):
    """`usage`: cached tokens are part of `prompt_tokens`, and named in one of three ways.

    Calls of hosted tools are in members of OpenRouter, Perplexity and xAI.
    """

    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    prompt_tokens_details: Any = None
    completion_tokens_details: Any = None
    prompt_cache_hit_tokens: Count = None
    cached_tokens: Count = None
    server_tool_use: Any = None
    num_search_queries: Count = None
    num_sources_used: Count = None

    def normal(self) -> Usage:
        """The figures as disjoint counts."""
        input_details, output_details = self.prompt_tokens_details, self.completion_tokens_details
        read = member(input_details, "cached_tokens") if input_details else None
        usage = disjoint(
            self.prompt_tokens,
            self.completion_tokens,
            read=read or self.prompt_cache_hit_tokens or self.cached_tokens,
            written=member(input_details, "cache_write_tokens") if input_details else None,
            reasoning=member(output_details, "reasoning_tokens") if output_details else None,
            total=self.total_tokens,
        )
        if self.server_tool_use or self.num_search_queries or self.num_sources_used:
            usage.hosted = (
                tokens(member(self.server_tool_use, "web_search_requests"))
                or tokens(self.num_search_queries)
                or tokens(self.num_sources_used)
            )
        return usage


_decode_usage = msgspec.json.Decoder(ChatUsage, float_hook=number).decode


def usage_in(answer: Any, *, only_input: bool = False) -> Usage | None:
    """The usage in a chunk or an answer, with its tier; None without one.

    A value that is no object counts as none. only_input: there is no output (embeddings), so a
    total counts as input.
    """
    raw = answer.usage
    if raw is NULL or bytes(raw) == b"null":
        return None
    try:
        decoded = _decode_usage(raw)
    except UNREADABLE:
        return None
    if only_input:
        decoded.prompt_tokens = decoded.prompt_tokens or decoded.total_tokens
    usage = decoded.normal()
    if type(answer.service_tier) is str:
        usage.tiers = (answer.service_tier, "", "")
    return usage


class Function(Struct):
    """A called function. Some servers write the arguments as an object."""

    name: str | None = None
    arguments: str | dict[str, Raw] | None = None


class Custom(Struct):
    """A call of a tool that takes free text."""

    name: str | None = None
    input: str | None = None


class CallFragment(Struct):
    """One entry of `tool_calls`. extra_content: Gemini's signature of the call."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None
    custom: Custom | None = None
    extra_content: Raw = NULL


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
    """One choice. stop_reason (vLLM), matched_stop (SGLang): may name the matched stop string.

    error: OpenRouter's report of a failure of its own upstream.
    """

    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    stop_reason: Raw = NULL
    matched_stop: Raw = NULL
    error: Raw = NULL


class Chunk(Struct):
    """An event of a stream, or a whole answer."""

    choices: list[Choice] | None = None
    usage: Raw = NULL
    service_tier: Any = None
    error: Raw = NULL
    base_resp: Raw = NULL
    object: str | None = None


decode_chunk = msgspec.json.Decoder(Chunk, float_hook=number).decode
