"""Encode a conversation as a request to a Responses upstream.

Nothing is stored at the vendor: `store` is always false, and reasoning is returned encrypted, for
the caller to send back. Members that only OpenAI's models accept, or only reasoning models, are
sent to no others.
"""

from hashlib import sha256
from typing import Any

import msgspec

from edge.dialects import tool_names
from edge.dialects.codec import TargetModel, WrittenRequest
from edge.dialects.conversation import Conversation, OutputFormat
from edge.dialects.json_schema import input_schema, is_strict
from edge.dialects.metadata import openai_metadata
from edge.dialects.reasoning_effort import level_of
from edge.requests.body_limits import encoded
from edge.vendors.openai_models import is_openai, nearest_effort, reasons, takes_sampling

from .write_input import write_input
from .write_tools import ResponsesTools

_LEAST_OUTPUT = 16
_LONGEST_ID = 64
_ENCRYPTED = "reasoning.encrypted_content"

_encode = msgspec.json.Encoder().encode


def write(conversation: Conversation, target: TargetModel) -> WrittenRequest:
    """The request for `target.model`. Raises Problem for what the dialect cannot express."""
    family = target.family
    openai = is_openai(family)
    dropped: list[str] = []
    tools = ResponsesTools(conversation, dropped)
    body: dict[str, Any] = {
        "model": target.model,
        **write_input(conversation, target, tools, dropped),
        **tools.members(),
        "store": False,
    }
    reasoning = _reasoning(conversation, family, dropped)
    if reasoning:
        body["reasoning"] = reasoning
    if reasons(family) or reasoning:
        body["include"] = [_ENCRYPTED]
    if conversation.max_tokens is not None:
        body["max_output_tokens"] = _limit(conversation.max_tokens, target.max_output)
    _sampling(conversation, family, reasoning.get("effort"), body, dropped)
    text, answer_wrapped = _text(conversation, family)
    if text:
        body["text"] = text
    if openai and conversation.tier is not None:
        body["service_tier"] = conversation.tier
    if conversation.session:
        body["prompt_cache_key"] = _short(conversation.session)
    if conversation.user:
        body["safety_identifier"] = _short(conversation.user)
    if metadata := openai_metadata(conversation.metadata, dropped):
        body["metadata"] = metadata
    if conversation.top_logprobs is not None:
        dropped.append("log probabilities")
    if conversation.stream:
        body["stream"] = True
    return WrittenRequest(
        body=encoded(body) if conversation.large else _encode(body),
        names=tools.sent,
        wrapped=frozenset(tools.wrapped),
        answer_wrapped=answer_wrapped,
        stops=tuple(stop for stop in conversation.stop if stop),
        dropped=dropped,
    )


def _reasoning(conversation: Conversation, model: str, dropped: list[str]) -> dict[str, Any]:
    """The reasoning settings, with a visible summary; {} without any."""
    wanted = conversation.reasoning
    if wanted is None:
        return {}
    level = level_of(wanted)
    if is_openai(model) and not reasons(model):
        if level not in (None, "none"):
            dropped.append("reasoning: the model does not think")
        return {}
    out: dict[str, Any] = {}
    if level is not None:
        out["effort"] = level = nearest_effort(model, level)
    if wanted.shown is not False and level != "none":
        out["summary"] = "auto"
    return out


def _limit(wanted: int, most: int | None) -> int:
    return max(_LEAST_OUTPUT, min(wanted, most) if most else wanted)


def _sampling(
    conversation: Conversation,
    model: str,
    effort: str | None,
    body: dict[str, Any],
    dropped: list[str],
) -> None:
    for member, value in (
        ("temperature", conversation.temperature),
        ("top_p", conversation.top_p),
    ):
        if value is None:
            continue
        if takes_sampling(model, effort):
            body[member] = value
        else:
            dropped.append(f"`{member}`")
    if conversation.top_k is not None:
        dropped.append("`top_k`")


def _text(conversation: Conversation, model: str) -> tuple[dict[str, Any], bool]:
    """The member `text`, and whether the answer is wrapped in `{"value": ...}`."""
    text: dict[str, Any] = {}
    wrapped = False
    if conversation.output is not None:
        text["format"], wrapped = _format(conversation.output)
    if conversation.verbosity is not None and reasons(model):
        text["verbosity"] = conversation.verbosity
    return text, wrapped


def _format(output: OutputFormat) -> tuple[dict[str, Any], bool]:
    if output.kind == "json_object" or output.schema is None:
        return {"type": "json_object"}, False
    schema, wrapped = input_schema(output.schema)
    wanted: dict[str, Any] = {"type": "json_schema", "name": tool_names.tool_name(output.name)}
    if output.description:
        wanted["description"] = output.description
    wanted["schema"] = schema
    wanted["strict"] = output.strict is not False and is_strict(schema)
    return wanted, wrapped


def _short(id_: str) -> str:
    """`id_`, or its digest if it is longer than OpenAI accepts, or an email address."""
    if len(id_) <= _LONGEST_ID and "@" not in id_:
        return id_
    return sha256(id_.encode()).hexdigest()
