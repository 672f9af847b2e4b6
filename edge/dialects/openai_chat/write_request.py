"""Encode a conversation as a request to a Chat Completions upstream.

OpenAI's own models and the many other servers of this dialect accept different members; the model's
name decides (`edge.vendors.openai_models`). OpenAI gets the members that it documents. Others get
only members that the simplest of them know: some refuse unknown members, more refuse an unknown
reasoning level. What is left out is noted.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec

from edge.dialects import tool_names
from edge.dialects.codec import TargetModel, WrittenRequest, WrittenTurns
from edge.dialects.conversation import Conversation, OutputFormat, Turn
from edge.dialects.json_schema import input_schema, is_strict
from edge.dialects.metadata import openai_metadata
from edge.dialects.reasoning_effort import level_of
from edge.requests.body_limits import encoded
from edge.vendors.openai_models import is_openai, nearest_effort, reasons, takes_sampling

from .model_families import refuses_unknown
from .write_messages import write_messages
from .write_messages import write_turns as written_turns
from .write_tools import ChatTools

_MOST_STOPS = 4
_LONGEST_ID = 64

_encode = msgspec.json.Encoder().encode


def write(
    conversation: Conversation, target: TargetModel, head: WrittenTurns | None = None
) -> WrittenRequest:
    """The request for `target.model`. Raises Problem for what Chat cannot express.

    head: the turns before those of `conversation`, see `UpstreamSide`.
    """
    family = target.family
    openai = is_openai(family)
    dropped: list[str] = []
    tools = ChatTools(conversation, family, dropped)
    body: dict[str, Any] = {
        "model": target.model,
        "messages": write_messages(conversation, target, tools, dropped, head),
        **tools.members(),
    }
    stops = _stops(conversation, family, body)
    effort = _effort(conversation, family, dropped)
    if effort is not None:
        body["reasoning_effort"] = effort
    _limit(conversation, target, body)
    _sampling(conversation, family, effort, body, dropped)
    answer_wrapped = False
    if conversation.output is not None:
        body["response_format"], answer_wrapped = _format(conversation.output)
    if conversation.verbosity is not None:
        if reasons(family):
            body["verbosity"] = conversation.verbosity
        else:
            dropped.append("verbosity")
    if conversation.tier is not None:
        if openai:
            body["service_tier"] = conversation.tier
        else:
            dropped.append("service tier")
    if conversation.session and openai:
        body["prompt_cache_key"] = _short(conversation.session)
    if conversation.user and not refuses_unknown(family):
        body["safety_identifier" if openai else "user"] = _short(conversation.user)
    metadata = openai_metadata(conversation.metadata, dropped)
    if metadata and refuses_unknown(family):
        dropped.append("`metadata`")
    elif metadata:
        body["metadata"] = metadata
    if conversation.top_logprobs is not None:
        dropped.append("log probabilities")
    if conversation.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    return WrittenRequest(
        body=encoded(body) if conversation.large else _encode(body),
        names=tools.sent,
        wrapped=frozenset(tools.wrapped),
        answer_wrapped=answer_wrapped,
        stops=stops,
        dropped=dropped,
    )


def write_turns(
    conversation: Conversation, target: TargetModel, turns: Sequence[Turn]
) -> WrittenTurns | None:
    """See `WriteTurns`. A turn is written by itself."""
    dropped: list[str] = []
    tools = ChatTools(conversation, target.family, [])
    messages = written_turns(turns, target, tools, dropped)
    body = encoded(messages) if conversation.large else _encode(messages)
    return WrittenTurns(messages=(body[1:-1],), dropped=tuple(dropped))


def _stops(conversation: Conversation, model: str, body: dict[str, Any]) -> tuple[str, ...]:
    """Stop strings to enforce here: reasoning models refuse them, others accept four."""
    stops = tuple(stop for stop in conversation.stop if stop)
    if not stops or reasons(model):
        return stops
    body["stop"] = list(stops[:_MOST_STOPS])
    return stops if len(stops) > _MOST_STOPS else ()


def _effort(conversation: Conversation, model: str, dropped: list[str]) -> str | None:
    level = level_of(conversation.reasoning) if conversation.reasoning is not None else None
    if level is None:
        return None
    if is_openai(model) and not reasons(model):
        if level != "none":
            dropped.append("reasoning: the model does not think")
        return None
    level = nearest_effort(model, level)
    if level == "none" and not is_openai(model):
        dropped.append("reasoning `none`: not every server knows it")
        return None
    return level


def _limit(conversation: Conversation, target: TargetModel, body: dict[str, Any]) -> None:
    """Set the output limit: in OpenAI's member, or in the one that all others know."""
    limit = conversation.max_tokens
    if limit is None:
        return
    limit = max(limit, 1)
    if target.max_output:
        limit = min(limit, target.max_output)
    body["max_completion_tokens" if is_openai(target.family) else "max_tokens"] = limit


def _sampling(
    conversation: Conversation,
    model: str,
    effort: str | None,
    body: dict[str, Any],
    dropped: list[str],
) -> None:
    wanted: dict[str, Any] = {
        "temperature": conversation.temperature,
        "top_p": conversation.top_p,
        "top_k": conversation.top_k,
    }
    for member, value in wanted.items():
        if value is None:
            continue
        unknown = member == "top_k" and (is_openai(model) or refuses_unknown(model))
        if unknown or not takes_sampling(model, effort):
            dropped.append(f"`{member}`")
        else:
            body[member] = value


def _format(output: OutputFormat) -> tuple[dict[str, Any], bool]:
    """The output format, and whether it is wrapped in `{"value": ...}`."""
    if output.kind == "json_object" or output.schema is None:
        return {"type": "json_object"}, False
    schema, wrapped = input_schema(output.schema)
    wanted: dict[str, Any] = {"name": tool_names.tool_name(output.name)}
    if output.description:
        wanted["description"] = output.description
    wanted["schema"] = schema
    wanted["strict"] = output.strict is not False and is_strict(schema)
    return {"type": "json_schema", "json_schema": wanted}, wrapped


def _short(id_: str) -> str:
    """`id_`, or its digest if it is longer than OpenAI accepts, or an email address."""
    if len(id_) <= _LONGEST_ID and "@" not in id_:
        return id_
    return sha256(id_.encode()).hexdigest()
