"""Decode a caller's Responses request into a conversation.

Every value is validated here, before anything is sent; an invalid one is refused by its path.
Members that refer to stored objects (`previous_response_id`, `conversation`, `prompt`,
`background`) have been handled before (`edge.api.responses`).
"""

from edge.dialects.conversation import (
    Conversation,
    OutputFormat,
    Reasoning,
    Text,
    Tool,
)
from edge.dialects.output_format import read_format
from edge.dialects.passthrough import Fields
from edge.dialects.reasoning_effort import read_effort
from edge.dialects.validation import Members, mapping, one_of, string

from .read_input import InputReader
from .read_tools import WEB_SEARCH, read_choice, read_tool_list

_TIERS = {
    "auto": "auto",
    "default": "default",
    "flex": "flex",
    "priority": "priority",
    "fast": "priority",
    "scale": "priority",
}
_SUMMARIES = ("auto", "concise", "detailed", "none")
_SEEN = (
    *("model", "store", "stream_options", "client_metadata"),
    *("background", "conversation", "previous_response_id", "prompt"),
)
"""Members read elsewhere, or without a meaning if the vendor stores nothing."""


def read(fields: Fields) -> Conversation:
    """The conversation in a request for a response. Raises Problem."""
    members = Members(fields)
    dropped: list[str] = []
    tools = read_tool_list(members.items("tools") or [], "tools", dropped)
    given = InputReader()
    instructions = members.text("instructions")
    if instructions:
        given.system.append(Text(text=instructions))
    given.read(members)
    tools += [tool for tool in given.tools if tool.full_name not in {t.full_name for t in tools}]
    choice = read_choice(members, tools)
    parallel = members.flag("parallel_tool_calls")
    output, verbosity = _text(members)
    conversation = Conversation(
        turns=given.turns,
        system=given.system,
        tools=tools,
        tool_choice=choice if tools else None,
        parallel=parallel if tools else None,
        max_tokens=members.count("max_output_tokens", 1),
        temperature=members.number("temperature", 0, 2),
        top_p=members.number("top_p", 0, 1),
        reasoning=_reasoning(members),
        output=output,
        verbosity=verbosity,
        user=members.text("safety_identifier") or members.text("user"),
        session=members.text("prompt_cache_key"),
        metadata=members.members("metadata"),
        top_logprobs=members.count("top_logprobs", 0) or None,
        stream=bool(members.flag("stream")),
        dropped=[*dropped, *given.dropped],
    )
    tier = members.get("service_tier")
    if tier is not None:
        conversation.tier = _TIERS.get(string(tier, "service_tier"))
        if conversation.tier is None:
            conversation.dropped.append("`service_tier`")
    members.word("truncation", ("auto", "disabled"))
    calls = members.count("max_tool_calls", 0)
    if calls is not None and not _bound_searches(tools, calls):
        conversation.dropped.append("`max_tool_calls`")
    for at, entry in enumerate(members.items("include") or ()):
        string(entry, f"include[{at}]")
    for name in ("safety_identifier", "user", *_SEEN):
        members.get(name)
    conversation.bag = members.rest()
    conversation.dropped += [f"`{name}`" for name in conversation.bag]
    return conversation


def _bound_searches(tools: list[Tool], calls: int) -> bool:
    """Limit web search, the one hosted tool that is translated; return whether it was."""
    searches = [tool for tool in tools if tool.kind == "hosted" and tool.name == WEB_SEARCH]
    for tool in searches:
        tool.raw = {**(tool.raw or {}), "max_uses": calls}
    return bool(searches and calls)


def _reasoning(members: Members) -> Reasoning | None:
    """Reasoning settings. Thinking is shown if a summary was requested."""
    wanted = members.members("reasoning")
    if wanted is None:
        return None
    effort = read_effort(wanted.get("effort"), "reasoning.effort")
    summary, where = wanted.get("summary"), "reasoning.summary"
    if summary is None:
        summary, where = wanted.get("generate_summary"), "reasoning.generate_summary"
    if summary is not None:
        summary = one_of(summary, where, _SUMMARIES)
    if effort is None and summary is None:
        return None
    return Reasoning(effort=effort, shown=summary not in (None, "none"))


def _text(members: Members) -> tuple[OutputFormat | None, str | None]:
    """The output format, and the verbosity."""
    text = members.members("text")
    if text is None:
        return None, None
    verbosity = text.get("verbosity")
    if verbosity is not None:
        verbosity = one_of(verbosity, "text.verbosity", ("low", "medium", "high"))
    form = text.get("format")
    if not form:
        return None, verbosity
    return read_format(mapping(form, "text.format"), "text.format"), verbosity
