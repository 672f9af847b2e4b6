"""Decode a caller's Messages request into a conversation.

Every value is validated here, before anything is sent; an invalid one is refused by its path. An
unknown content block is refused too, since it is input of the user. Unknown members go into the bag
and are noted, since the vendor's clients add some with each release.
"""

import re
from functools import partial
from hashlib import sha256
from typing import Any

from edge.dialects.conversation import (
    Conversation,
    OutputFormat,
    Reasoning,
    Text,
    Turn,
)
from edge.dialects.history_repair import without_attribution
from edge.dialects.passthrough import UNREADABLE, Fields
from edge.dialects.reasoning_effort import read_effort
from edge.dialects.validation import Members, mapping, one_of, read_top_k, string, whole
from edge.untyped_json import decode_object
from middlewares.problem import Problem, expected

from .read_blocks import BlockReader, cache_of
from .read_tools import read_choice, read_tools
from .read_turns import usual_turn

_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_TIERS = {"auto": "auto", "standard_only": "default"}
_NOT_BY_ASSISTANT = ("tool_result", "image", "document", "search_result")
_NOT_BY_USER = ("tool_use", "thinking", "redacted_thinking")
_SESSION = re.compile(r"(?:^|_)session_([0-9a-f-]{32,36})$")


def read(fields: Fields) -> Conversation:
    """The conversation in a body of Messages. Raises Problem."""
    return _read(fields, counted=False)


def read_counted(fields: Fields) -> Conversation:
    """The conversation of a token count, which needs no `max_tokens`."""
    return _read(fields, counted=True)


def _read(fields: Fields, *, counted: bool) -> Conversation:
    members = Members(fields)
    dropped: list[str] = []
    blocks = BlockReader(dropped)
    turns = _turns(members, blocks)
    tools = read_tools(members)
    choice, parallel = read_choice(members)
    user = _user(members)
    conversation = Conversation(
        turns=turns,
        system=_system(members, blocks),
        tools=tools,
        tool_choice=choice if tools else None,
        parallel=parallel if tools else None,
        max_tokens=_max_tokens(members, counted=counted),
        temperature=members.number("temperature", 0, 2),
        top_p=members.number("top_p", 0, 1),
        top_k=read_top_k(members),
        stop=_stop(members),
        tier=_tier(members, dropped),
        user=user,
        session=_session(user),
        stream=bool(members.flag("stream")),
        cache=cache_of({"cache_control": members.get("cache_control")}),
        dropped=dropped,
    )
    conversation.reasoning, conversation.output = _thinking_and_output(members, dropped)
    members.get("model")
    conversation.bag = members.rest()
    dropped += [f"`{name}`" for name in conversation.bag]
    return conversation


def _max_tokens(members: Members, *, counted: bool) -> int | None:
    """`max_tokens`, at least 1: 0 only fills a cache of the vendor's own."""
    value = members.get("max_tokens")
    if value is None:
        if counted:
            return None
        raise Problem(
            "invalid_request",
            message="max_tokens: Field required",
            param="max_tokens",
            issue="required",
        )
    return max(1, whole(value, "max_tokens", 0))


def _system(members: Members, blocks: BlockReader) -> list[Text]:
    """The instructions, without Claude Code's billing line for Anthropic."""
    system = members.get("system")
    if system is None:
        return []
    return without_attribution(blocks.texts(system, "system"))


def _turns(members: Members, blocks: BlockReader) -> list[Turn]:
    """Each message as a turn."""
    turns = members.each("messages", usual_turn, partial(_turn, blocks))
    if not turns:
        raise expected("messages", "at least one message")
    return turns


def _turn(blocks: BlockReader, entry: Any, path: str) -> Turn:
    message = mapping(entry, path)
    content, where = message.get("content"), f"{path}.content"
    match one_of(message.get("role"), f"{path}.role", ("user", "assistant", "system")):
        case "system":
            return Turn("system", [*blocks.texts(content, where)])
        case "assistant":
            return Turn("assistant", blocks.content(content, where, never=_NOT_BY_ASSISTANT))
    return Turn("user", blocks.content(content, where, never=_NOT_BY_USER))


def _stop(members: Members) -> tuple[str, ...]:
    stop = members.get("stop_sequences")
    if isinstance(stop, str):
        return (stop,) if stop else ()
    strings = enumerate(members.items("stop_sequences") or ())
    return tuple(filter(None, (string(each, f"stop_sequences[{at}]") for at, each in strings)))


def _tier(members: Members, dropped: list[str]) -> str | None:
    tier, speed = members.get("service_tier"), members.get("speed")
    if speed == "fast":
        return "priority"
    if tier is None:
        return None
    known = _TIERS.get(string(tier, "service_tier"))
    if known is None:
        dropped.append("`service_tier`")
    return known


def _user(members: Members) -> str:
    metadata = members.members("metadata") or {}
    user = metadata.get("user_id")
    return "" if user is None else string(user, "metadata.user_id")


def _session(user: str) -> str:
    """A stable name of the conversation, from the id that Claude Code composes.

    Older releases join parts by underscores, newer ones write JSON. The parts are not passed on.
    """
    found = _SESSION.search(user)
    session: Any = found[1] if found else None
    if user.startswith("{"):
        try:
            session = decode_object(user).get("session_id")
        except UNREADABLE:
            session = None
    if not isinstance(session, str) or not session:
        return ""
    return sha256(session.encode()).hexdigest()[:32]


def _thinking_and_output(
    members: Members, dropped: list[str]
) -> tuple[Reasoning | None, OutputFormat | None]:
    config = members.members("output_config") or {}
    effort = read_effort(config.get("effort"), "output_config.effort", _EFFORTS)
    dropped += [f"`output_config.{name}`" for name in config if name not in ("effort", "format")]
    older = members.get("output_format")
    if config.get("format") is not None:
        output: OutputFormat | None = _output(config["format"], "output_config.format")
    else:
        output = None if older is None else _output(older, "output_format")
    thinking = members.members("thinking")
    if not thinking:
        return (None if effort is None else Reasoning(effort=effort)), output
    return _thinking(thinking, effort), output


def _thinking(thinking: dict[str, Any], effort: str | None) -> Reasoning:
    display = thinking.get("display")
    shown = None if display is None else display != "omitted"
    match thinking.get("type"):
        case "enabled":
            budget = whole(thinking.get("budget_tokens"), "thinking.budget_tokens", 1)
            return Reasoning(effort=effort, mode="enabled", budget=budget, shown=shown)
        case "adaptive" | "auto":  # the second is other servers' word
            return Reasoning(effort=effort, mode="adaptive", shown=shown)
        case "between_tools":
            return Reasoning(effort=effort, mode="between_tools", shown=shown)
        case "disabled":
            return Reasoning(effort=effort, mode="disabled", shown=shown)
    raise expected("thinking.type", "one of `enabled`, `adaptive`, `between_tools`, `disabled`")


def _output(format_: Any, path: str) -> OutputFormat:
    format_ = mapping(format_, path)
    one_of(format_.get("type"), f"{path}.type", ("json_schema",))
    schema = mapping(format_.get("schema"), f"{path}.schema")
    return OutputFormat(kind="json_schema", schema=schema, path=f"{path}.schema")
