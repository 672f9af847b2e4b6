"""Decode the tools and the tool choice of a Chat request.

OpenAI's shapes, the flat ones of Responses and Anthropic's are all accepted: clients of several
dialects mix them up (Cursor does).
"""

from typing import Any

from edge.dialects.conversation import Tool, ToolChoice
from edge.dialects.validation import Members, mapping, string
from middlewares.problem import expected

from .read_parts import cache_of

WEB_SEARCH = "web_search"
_FORMS = {"auto": "auto", "none": "none", "required": "any", "any": "any"}
_CHOICES = "`auto`, `none`, `required`, or an object that names a tool"


def read_tools(members: Members, dropped: list[str]) -> tuple[list[Tool], bool]:
    """The tools, and whether they came as the older `functions`.

    Hosted tools that no other vendor has are left out and noted.
    Raises Problem with the tool's path.
    """
    tools: list[Tool] = []
    given = members.items("tools") or []
    for at, entry in enumerate(given):
        path = f"tools[{at}]"
        tool = _tool(mapping(entry, path), path)
        if tool is None:
            dropped.append(f"{path}: hosted tool `{entry.get('type')}`")
        else:
            tools.append(tool)
    functions = members.items("functions")
    legacy = bool(functions) and not given
    if legacy:
        for at, entry in enumerate(functions or ()):
            path = f"functions[{at}]"
            tools.append(_function(mapping(entry, path), path))
    options = members.members("web_search_options")
    if options is not None:
        tools.append(_web_search(options, "web_search_options"))
    return tools, legacy


def _tool(tool: dict[str, Any], path: str) -> Tool | None:
    kind = tool.get("type")
    if kind is not None:
        kind = string(kind, f"{path}.type")
    if "function" in tool or (kind == "function" and "name" not in tool):
        read = _function(mapping(tool.get("function"), f"{path}.function"), f"{path}.function")
        read.cache = read.cache or cache_of(tool)
        return read
    if kind == "custom" and "input_schema" not in tool:
        return _custom(mapping(tool.get("custom", tool), f"{path}.custom"), f"{path}.custom")
    if kind in (None, "function", "custom"):
        return _function(tool, path)
    if kind is not None and kind.startswith(WEB_SEARCH):
        return _web_search(tool, path)
    return None


def _function(function: dict[str, Any], path: str) -> Tool:
    member = "input_schema" if "input_schema" in function else "parameters"
    schema = function.get(member)
    strict = function.get("strict")
    return Tool(
        name=string(function.get("name"), f"{path}.name", filled=True),
        description=string(function.get("description") or "", f"{path}.description"),
        schema=None if schema is None else mapping(schema, f"{path}.{member}"),
        strict=strict if isinstance(strict, bool) else None,
        cache=cache_of(function),
    )


def _custom(custom: dict[str, Any], path: str) -> Tool:
    format_ = custom.get("format")
    if format_ is not None:
        format_ = mapping(format_, f"{path}.format")
        grammar = format_.get("grammar")
        if isinstance(grammar, dict):  # the flat form of Responses
            format_ = {"type": "grammar", **grammar}
    return Tool(
        name=string(custom.get("name"), f"{path}.name", filled=True),
        kind="custom",
        description=string(custom.get("description") or "", f"{path}.description"),
        format=format_,
        cache=cache_of(custom),
    )


def _web_search(options: dict[str, Any], path: str) -> Tool:
    raw: dict[str, Any] = {}
    filters = options.get("filters")
    domains = filters if isinstance(filters, dict) else options
    for holder, member in (
        (options, "max_uses"),
        (domains, "allowed_domains"),
        (domains, "blocked_domains"),
        (options, "search_context_size"),
    ):
        if holder.get(member) is not None:
            raw[member] = holder[member]
    where = options.get("user_location")
    if where is not None:
        where = mapping(where, f"{path}.user_location")
        where = where.get("approximate", where)
        where = mapping(where, f"{path}.user_location.approximate")
        place = {
            member: where[member]
            for member in ("city", "region", "country", "timezone")
            if where.get(member) is not None
        }
        raw["user_location"] = {"type": "approximate", **place}
    return Tool(name=WEB_SEARCH, kind="hosted", raw=raw, cache=cache_of(options))


def read_choice(members: Members, *, legacy: bool) -> ToolChoice | None:
    """The tool choice. Raises Problem."""
    path = "function_call" if legacy else "tool_choice"
    choice = members.get(path)
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice not in _FORMS:
            raise expected(path, _CHOICES)
        return _mode(_FORMS[choice])
    choice = mapping(choice, path)
    if legacy:
        return _named(choice, path)
    kind = choice.get("type")
    if kind in ("function", "custom"):
        inner = choice.get(kind)
        return _named(choice if inner is None else mapping(inner, f"{path}.{kind}"), path)
    if kind == "tool":
        return _named(choice, path)
    if kind == "allowed_tools":
        return _allowed(choice, path)
    if isinstance(kind, str) and kind in _FORMS:
        return _mode(_FORMS[kind])
    if isinstance(kind, str) and kind.startswith(WEB_SEARCH):
        return ToolChoice(mode="one", name=WEB_SEARCH)
    raise expected(path, _CHOICES)


def _mode(mode: str) -> ToolChoice:
    if mode == "none":
        return ToolChoice(mode="none")
    return ToolChoice(mode="any") if mode == "any" else ToolChoice()


def _named(holder: dict[str, Any], path: str) -> ToolChoice:
    return ToolChoice(mode="one", name=string(holder.get("name"), f"{path}.name", filled=True))


def _allowed(choice: dict[str, Any], path: str) -> ToolChoice:
    inner, where = choice.get("allowed_tools"), f"{path}.allowed_tools"
    if inner is None:
        inner, where = choice, path
    inner = mapping(inner, where)
    mode = inner.get("mode")
    names: list[str] = []
    listed = inner.get("tools")
    if not isinstance(listed, list):
        raise expected(f"{where}.tools", "an array of tools")
    for at, entry in enumerate(listed):
        here = f"{where}.tools[{at}]"
        tool = mapping(entry, here)
        held = tool.get(str(tool.get("type")))
        holder = held if isinstance(held, dict) else tool
        names.append(string(holder.get("name"), f"{here}.name", filled=True))
    if mode not in ("auto", "required"):
        raise expected(f"{where}.mode", "`auto` or `required`")
    return ToolChoice(mode="any" if mode == "required" else "auto", allowed=tuple(names))
