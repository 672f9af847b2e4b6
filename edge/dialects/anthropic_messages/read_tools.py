"""Decode the tools and the tool choice of a caller's Messages request."""

from typing import Any

from edge.dialects.conversation import Tool, ToolChoice
from edge.dialects.validation import Members, mapping, one_of, string

from .client_tools import expanded
from .read_blocks import cache_of

WEB_SEARCH = "web_search"
_SEARCH_OPTIONS = ("max_uses", "allowed_domains", "blocked_domains")
_MODES = {"required": "any"}
_PLACE = ("city", "region", "country", "timezone")


def read_tools(members: Members) -> list[Tool]:
    """The tools. Tools that the vendor runs are "hosted". Raises Problem with the tool's path."""
    return [
        _tool(mapping(entry, f"tools[{at}]"), f"tools[{at}]")
        for at, entry in enumerate(members.items("tools") or ())
    ]


def _tool(tool: dict[str, Any], path: str) -> Tool:
    kind = tool.get("type")
    cache = cache_of(tool)
    if kind in (None, "custom"):
        schema = tool.get("input_schema")
        strict = tool.get("strict")
        return Tool(
            name=string(tool.get("name"), f"{path}.name", filled=True),
            description=string(tool.get("description") or "", f"{path}.description"),
            schema=None if schema is None else mapping(schema, f"{path}.input_schema"),
            strict=strict if isinstance(strict, bool) else None,
            cache=cache,
        )
    kind = string(kind, f"{path}.type", filled=True)
    known = expanded(tool)
    if known is not None:
        known.cache = cache
        return known
    if kind.startswith(WEB_SEARCH):
        return Tool(name=WEB_SEARCH, kind="hosted", raw=_search(tool, path), cache=cache)
    return Tool(
        name=string(tool.get("name") or kind, f"{path}.name"), kind="hosted", raw=tool, cache=cache
    )


def _search(tool: dict[str, Any], path: str) -> dict[str, Any]:
    raw = {member: tool[member] for member in _SEARCH_OPTIONS if tool.get(member) is not None}
    where = tool.get("user_location")
    if where is not None:
        where = mapping(where, f"{path}.user_location")
        place = {member: where[member] for member in _PLACE if where.get(member) is not None}
        raw["user_location"] = {"type": "approximate", **place}
    return raw


def read_choice(members: Members) -> tuple[ToolChoice | None, bool | None]:
    """The tool choice, and whether calls may be parallel. Raises Problem."""
    choice = members.get("tool_choice")
    if choice is None:
        return None, None
    if isinstance(choice, str):  # as OpenAI's dialects write it
        choice = {"type": _MODES.get(choice, choice)}
    choice = mapping(choice, "tool_choice")
    kind = one_of(choice.get("type"), "tool_choice.type", ("auto", "any", "none", "tool"))
    parallel = False if choice.get("disable_parallel_tool_use") is True else None
    if kind == "tool":
        name = string(choice.get("name"), "tool_choice.name", filled=True)
        return ToolChoice(mode="one", name=name), parallel
    if kind == "none":
        return ToolChoice(mode="none"), parallel
    return ToolChoice(mode="any" if kind == "any" else "auto"), parallel
