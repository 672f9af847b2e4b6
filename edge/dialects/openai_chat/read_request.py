"""Decode a caller's Chat Completions request into a conversation.

Every value is validated here, before anything is sent; an invalid one is refused by its path.
Members that no other dialect has go into the bag and are noted; those that would change the answer
(several choices, audio) are refused.
"""

from typing import Any

from edge.dialects.conversation import Conversation, OutputFormat, Reasoning
from edge.dialects.output_format import read_format
from edge.dialects.passthrough import Fields
from edge.dialects.reasoning_effort import read_effort
from edge.dialects.validation import Members, array, mapping, read_top_k, string, unsupported, whole
from middlewares.problem import expected

from .read_messages import read_messages
from .read_parts import cache_of
from .read_tools import read_choice, read_tools

_TIERS = {
    "auto": "auto",
    "default": "default",
    "flex": "flex",
    "priority": "priority",
    "fast": "priority",
    "scale": "priority",
}
_SEEN = ("model", "tool_choice", "function_call", "parallel_tool_calls")
"""Members read elsewhere, or without a meaning if there are no tools."""


def read(fields: Fields) -> Conversation:
    """The conversation in a body of chat completions. Raises Problem."""
    members = Members(fields)
    dropped: list[str] = []
    system, turns = read_messages(members)
    tools, legacy = read_tools(members, dropped)
    _refuse_sound(members)
    alternatives = members.count("top_logprobs", 0)
    conversation = Conversation(
        turns=turns,
        system=system,
        tools=tools,
        tool_choice=read_choice(members, legacy=legacy) if tools else None,
        parallel=members.flag("parallel_tool_calls") if tools else None,
        reasoning=_reasoning(members),
        output=_output(members),
        verbosity=members.word("verbosity", ("low", "medium", "high")),
        top_logprobs=(alternatives or 0) if members.flag("logprobs") else None,
        legacy_functions=legacy,
        dropped=dropped,
    )
    read_settings(members, conversation)
    return conversation


def read_settings(members: Members, into: Conversation) -> None:
    """Decode the settings that Chat and the older Completions share, and all other members."""
    for name in _SEEN:
        members.get(name)
    if (members.count("n", 1) or 1) > 1:
        raise unsupported("n", "must be 1: this model gives one choice")
    longest, older = members.get("max_completion_tokens"), members.get("max_tokens")
    if longest is not None:
        into.max_tokens = whole(longest, "max_completion_tokens", 1)
    elif older is not None:
        into.max_tokens = whole(older, "max_tokens", 1)
    into.temperature = members.number("temperature", 0, 2)
    into.top_p = members.number("top_p", 0, 1)
    into.top_k = read_top_k(members)
    into.stop = _stop(members)
    into.stream = bool(members.flag("stream"))
    options = members.members("stream_options") or {}
    if not isinstance(options.get("include_usage"), bool | None):
        raise expected("stream_options.include_usage", "true or false")
    tier = members.get("service_tier")
    if tier is not None:
        into.tier = _TIERS.get(string(tier, "service_tier"))
        if into.tier is None:
            into.dropped.append("`service_tier`")
    user, older = members.text("safety_identifier"), members.text("user")
    into.user = user or older
    into.session = members.text("prompt_cache_key")
    into.metadata = members.members("metadata")
    into.cache = cache_of({"cache_control": members.get("cache_control")})
    into.bag = members.rest()
    into.dropped += [f"`{name}`" for name in into.bag]


def _refuse_sound(members: Members) -> None:
    for at, modality in enumerate(members.items("modalities") or ()):
        if modality != "text":
            raise unsupported(f"modalities[{at}]", "must be `text`: this model gives text only")
    if members.get("audio") is not None:
        raise unsupported("audio", "is not available: this model gives text only")


def _stop(members: Members) -> tuple[str, ...]:
    stop = members.get("stop")
    if stop is None:
        return ()
    if isinstance(stop, str):
        return (stop,) if stop else ()
    strings = [string(each, f"stop[{at}]") for at, each in enumerate(array(stop, "stop"))]
    return tuple(filter(None, strings))


def _reasoning(members: Members) -> Reasoning | None:
    """OpenAI's `reasoning_effort`; and `reasoning` and `thinking`, as other gateways' clients send.

    Thinking is always shown to a Chat caller: the dialect has a member for it.
    """
    effort = read_effort(members.get("reasoning_effort"), "reasoning_effort")
    if effort is not None:
        return Reasoning(effort=effort, shown=True)
    wanted = members.members("reasoning")
    if wanted:
        effort = read_effort(wanted.get("effort"), "reasoning.effort")
        budget = wanted.get("max_tokens")
        if budget is not None:
            budget = whole(budget, "reasoning.max_tokens", 1)
        if effort is None and budget is None and wanted.get("enabled") is False:
            effort = "none"
        return Reasoning(
            effort=effort,
            mode="enabled" if budget is not None or wanted.get("enabled") is True else "",
            budget=budget,
            shown=wanted.get("exclude") is not True,
        )
    thinking = members.members("thinking")
    return _thinking(thinking) if thinking else None


def _thinking(thinking: dict[str, Any]) -> Reasoning:
    match thinking.get("type"):
        case "enabled":
            budget = thinking.get("budget_tokens")
            if budget is not None:
                budget = whole(budget, "thinking.budget_tokens", 1)
            return Reasoning(mode="enabled", budget=budget, shown=True)
        case "adaptive" | "auto":  # the second is other servers' word
            return Reasoning(mode="adaptive", shown=True)
        case "disabled":
            return Reasoning(mode="disabled")
    raise expected("thinking.type", "one of `enabled`, `adaptive`, `disabled`")


def _output(members: Members) -> OutputFormat | None:
    path = "response_format"
    format_ = members.members(path)
    if not format_:
        return None
    wanted = format_.get("json_schema")
    if wanted is None or format_.get("type") != "json_schema":
        return read_format(format_, path)
    path = f"{path}.json_schema"
    wanted = mapping(wanted, path)
    schema = wanted.get("schema")
    return read_format(
        {**wanted, "type": "json_schema", "schema": {} if schema is None else schema}, path
    )
