"""Read a Responses request as a `Prompt`; refuses unknown fields and state, as OpenAI does."""

from collections.abc import Iterable
from typing import Any

import msgspec

from edge.untyped_json import decode_object

from .conversation import read_items
from .directives import directives_of
from .prompt import (
    UNREADABLE,
    Prompt,
    PromptRejected,
    PromptTool,
    automatic_cache,
    rejected,
    schema_of,
)
from .turns import Message, trailing_results, weights

_FIELDS = (
    "access_programs background background_options client_metadata context_management "
    "conversation image include input instructions max_output_tokens max_tool_calls metadata "
    "model moderation "
    "parallel_tool_calls personality previous_response_id prompt prompt_cache_key "
    "prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store "
    "stream stream_options temperature text tool_choice tools top_logprobs top_p truncation user"
)
FIELDS = frozenset(_FIELDS.split())
"""What OpenAI takes at the top of a body, the fields of Codex among them."""

INCLUDE_ENCRYPTED = "reasoning.encrypted_content"
_LEAST_OUTPUT = 16


class _Reasoning(msgspec.Struct):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class _Text(msgspec.Struct):
    format: dict[str, Any] | None = None


class _Responses(msgspec.Struct):
    model: str
    input: str | list[Any]
    instructions: str | list[Any] | None = None
    stream: bool | None = None
    include: list[str] | None = None
    max_output_tokens: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: _Reasoning | None = None
    text: _Text | None = None


def read_responses(body: bytes) -> Prompt:
    """A body of POST /v1/responses, of its input_tokens or its compact. Raises PromptRejected."""
    try:
        given = decode_object(body)
        _refuse(given)
        asked = msgspec.convert(given, _Responses)
    except (*UNREADABLE, msgspec.ValidationError) as error:
        raise rejected(error) from None
    messages = read_items(asked.input)
    tools = asked.tools or []
    if isinstance(asked.input, list):
        tools = [*tools, *_more_tools(asked.input)]
    known = list(_tools(tools))
    choice, allowed = _choice(asked.tool_choice, known)
    directives = directives_of(messages)
    all_messages = _instructed(asked.instructions, messages)
    tokens, before = weights(all_messages, tools)
    reasoning = asked.reasoning
    summary = reasoning and (reasoning.summary or reasoning.generate_summary)
    return Prompt(
        dialect="responses",
        model=asked.model,
        stream=bool(asked.stream),
        text=directives.text,
        directive=directives.directive,
        since=directives.results,
        over=directives.over,
        results=trailing_results(messages),
        tools=tuple(allowed),
        choice=choice,
        parallel=asked.parallel_tool_calls is not False,
        limit=asked.max_output_tokens,
        thinks=reasoning is not None and reasoning.effort not in (None, "none", "minimal"),
        shows=reasoning is None or bool(summary),
        schema=schema_of(asked.text.format) if asked.text else None,
        tokens=tokens,
        cached=automatic_cache(tokens, before),
        asked=given,
    )


def _refuse(given: dict[str, Any]) -> None:
    """What OpenAI says about the fields themselves."""
    for name in given:
        if name not in FIELDS:
            raise PromptRejected(400, f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    for name in ("model", "input"):
        if given.get(name) is None:
            raise PromptRejected(
                400, f"Missing required parameter: '{name}'.", name, "missing_required_parameter"
            )
    if (previous := given.get("previous_response_id")) is not None:
        raise PromptRejected(
            400,
            f"Previous response with id '{previous}' not found.",
            "previous_response_id",
            "previous_response_not_found",
        )
    limit = given.get("max_output_tokens")
    if isinstance(limit, int) and limit < _LEAST_OUTPUT:
        raise PromptRejected(
            400,
            f"Invalid 'max_output_tokens': integer below minimum value. "
            f"Expected a value >= {_LEAST_OUTPUT}, but got {limit} instead.",
            "max_output_tokens",
            "integer_below_min_value",
        )


def _instructed(instructions: str | list[Any] | None, messages: list[Message]) -> list[Message]:
    if not instructions:
        return messages
    if isinstance(instructions, list):
        return [*read_items(instructions), *messages]
    return [Message("system", instructions), *messages]


def _more_tools(items: Iterable[Any]) -> Iterable[dict[str, Any]]:
    """Those that items of type `additional_tools` bring."""
    for item in items:
        if isinstance(item, dict) and item.get("type") == "additional_tools":
            yield from (tool for tool in item.get("tools") or () if isinstance(tool, dict))


def _tools(given: Iterable[dict[str, Any]], namespace: str | None = None) -> Iterable[PromptTool]:
    """Those the client runs; the others are the vendor's own."""
    for tool in given:
        kind, name = tool.get("type"), str(tool.get("name", ""))
        if kind == "namespace":
            yield from _tools(tool.get("tools") or (), name)
        elif kind in ("function", "custom"):
            yield PromptTool(name, tool.get("parameters"), kind == "custom", namespace)


def _choice(
    given: str | dict[str, Any] | None, tools: list[PromptTool]
) -> tuple[str, list[PromptTool]]:
    """The kind of choice, and the tools it leaves. Raises PromptRejected."""
    if not isinstance(given, dict):
        return {"required": "any"}.get(given or "auto", given or "auto"), tools
    if given.get("type") == "allowed_tools":
        names = {tool.get("name") for tool in given.get("tools") or () if isinstance(tool, dict)}
        mode = "any" if given.get("mode") == "required" else "auto"
        return mode, [tool for tool in tools if tool.name in names]
    name = given.get("name")
    if given.get("type") not in ("function", "custom"):
        return "auto", tools  # one of the vendor's own tools
    chosen = [
        tool for tool in tools if tool.name == name and tool.custom == (given["type"] == "custom")
    ]
    if not chosen:
        raise PromptRejected(
            400, f"Tool choice '{name}' not found in 'tools' parameter.", "tool_choice"
        )
    return "only", chosen
