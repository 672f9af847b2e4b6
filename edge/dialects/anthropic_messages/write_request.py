"""Encode a conversation as a request to a Messages upstream.

Each generation of Claude refuses settings that another requires (`edge.vendors.claude_models`), so
nothing is sent that the model is known to refuse. What is left out is noted.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec
from msgspec.structs import replace

from edge.dialects.codec import TargetModel, WrittenRequest, WrittenTurns
from edge.dialects.conversation import Conversation, Text, ToolCall, Turn
from edge.dialects.json_schema import SchemaTooLarge, for_anthropic
from edge.dialects.metadata import user_of
from edge.requests.body_limits import encoded
from edge.vendors.claude_models import Claude, claude
from middlewares.problem import expected

from .thinking import plan, sampling
from .write_blocks import BlockWriter
from .write_messages import MessageList, has_marks, limit_marks
from .write_tools import MessagesTools

_AS_JSON = "Reply with a single JSON object and nothing else."
_TIERS = {"auto": "auto", "default": "standard_only", "priority": "auto", "flex": "auto"}
_LONGEST_ID = 256

_encode = msgspec.json.Encoder().encode


def write(
    conversation: Conversation, target: TargetModel, head: WrittenTurns | None = None
) -> WrittenRequest:
    """The request for `target.model`. Raises Problem for what Messages cannot express.

    head: the turns before those of `conversation`, see `UpstreamSide`.
    """
    model = claude(target.family)
    dropped: list[str] = []
    tools = MessagesTools(conversation, model, dropped)
    format_, answer_wrapped = _structured(conversation, model, tools)
    fenced = conversation.output is not None and conversation.output.kind == "json_object"
    if fenced:
        system = [*conversation.system, Text(text=_AS_JSON)]
        conversation = replace(conversation, system=system)
    if head is not None:
        dropped += [note for note in head.dropped if note not in dropped]
    messages = MessageList(conversation, model, BlockWriter(target, model, tools, dropped), head)
    planned = plan(
        conversation,
        model,
        target.max_output or model.max_output,
        obstacle=_obstacle(tools, messages),
        dropped=dropped,
    )
    messages.finish(free=not (planned.on or tools.forces or format_))
    body: dict[str, Any] = {"model": target.model, "max_tokens": planned.limit}
    if messages.system:
        body["system"] = messages.system
    body["messages"] = messages.messages
    body |= tools.members()
    body |= sampling(conversation, model, thinks=planned.on, dropped=dropped)
    stops = [stop for stop in conversation.stop if stop.strip()]
    if stops:
        body["stop_sequences"] = stops
    if planned.thinking is not None:
        body["thinking"] = planned.thinking
    config = {"effort": planned.effort, "format": format_}
    config = {name: value for name, value in config.items() if value is not None}
    if config:
        body["output_config"] = config
    _surroundings(conversation, model, body, dropped)
    limit_marks(body)
    if head is not None:
        body["messages"] = [*map(msgspec.Raw, head.messages), *messages.messages]
    if conversation.stream:
        body["stream"] = True
    return WrittenRequest(
        body=encoded(body) if conversation.large else _encode(body),
        names=tools.sent,
        wrapped=frozenset(tools.wrapped),
        answer_tool=tools.answer_tool,
        answer_wrapped=answer_wrapped,
        fenced=fenced,
        stops=tuple(stop for stop in conversation.stop if stop and not stop.strip()),
        dropped=dropped,
    )


def write_turns(
    conversation: Conversation, target: TargetModel, turns: Sequence[Turn]
) -> WrittenTurns | None:
    """See `WriteTurns`. Which marks stay depends on later ones, and the tools of a history without
    any offered on all calls."""
    model = claude(target.family)
    dropped: list[str] = []
    tools = MessagesTools(conversation, model, [])
    if not tools.offered and any(
        isinstance(block, ToolCall) for turn in turns for block in turn.blocks
    ):
        return None
    conversation = replace(conversation, system=[], turns=list(turns))
    blocks = BlockWriter(target, model, tools, dropped)
    messages = MessageList(conversation, model, blocks, head=WrittenTurns()).messages
    if has_marks(messages):
        return None
    body = encoded(messages) if conversation.large else _encode(messages)
    return WrittenTurns(messages=(body[1:-1],), dropped=tuple(dropped))


def _structured(
    conversation: Conversation, model: Claude, tools: MessagesTools
) -> tuple[dict[str, Any] | None, bool]:
    """The output format, and whether it is wrapped; None if a tool carries the answer.

    A tool accepts any schema, so it also serves schemas that the format refuses (recursion).
    """
    output = conversation.output
    if output is None or output.schema is None:
        return None, False
    if model.structured:
        try:
            schema, wrapped = for_anthropic(output.schema)
        except SchemaTooLarge as bound:
            raise expected(output.path, str(bound)) from None
        except ValueError:
            pass
        else:
            return {"type": "json_schema", "schema": schema}, wrapped
    tools.answer_by(output)
    return None, tools.answer_wrapped


def _obstacle(tools: MessagesTools, messages: MessageList) -> str:
    if tools.forces:
        return "a tool has to be called"
    return "that of the last turn is gone" if messages.lacks_thinking else ""


def _surroundings(
    conversation: Conversation, model: Claude, body: dict[str, Any], dropped: list[str]
) -> None:
    """Set members that do not change the answer; note those that Messages lack."""
    if conversation.cache is not None and model.vendor:
        body["cache_control"] = {"type": "ephemeral"}
        if conversation.cache.ttl:
            body["cache_control"]["ttl"] = conversation.cache.ttl
    named = user_of(conversation.metadata, dropped)
    if user := conversation.user or named:
        if len(user) > _LONGEST_ID or "@" in user:
            user = sha256(user.encode()).hexdigest()
        body["metadata"] = {"user_id": user}
    if conversation.tier is not None and model.vendor:
        body["service_tier"] = _TIERS.get(conversation.tier, "auto")
    if conversation.verbosity is not None:
        dropped.append("verbosity")
    if conversation.top_logprobs is not None:
        dropped.append("log probabilities")
