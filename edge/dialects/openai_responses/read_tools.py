"""Decode the tools and the tool choice of a Responses request.

Tools that the vendor runs are kept as hosted ones, whatever their type: Codex sends several with
each request, new ones with every version, and works without them. A caller is refused only if it
forces one that the target's dialect lacks.
"""

from typing import Any

from edge.dialects.conversation import Tool, ToolChoice
from edge.dialects.validation import Members, array, mapping, one_of, string
from middlewares.problem import expected

WEB_SEARCH = "web_search"
_MODES = {"auto": "auto", "required": "any", "any": "any", "none": "none"}
_CHOICES = "`auto`, `none`, `required`, or an object that names a tool"


def read_tool_list(tools: list[Any], path: str, dropped: list[str]) -> list[Tool]:
    """The tools of an array. Raises Problem with the tool's path."""
    found: list[Tool] = []
    for at, entry in enumerate(tools):
        here = f"{path}[{at}]"
        tool = mapping(entry, here)
        if tool.get("type") == "namespace":
            found += _namespace(tool, here, dropped)
        else:
            found.append(_tool(tool, here))
    return found


def _namespace(space: dict[str, Any], path: str, dropped: list[str]) -> list[Tool]:
    name = string(space.get("name"), f"{path}.name", filled=True)
    found = read_tool_list(
        array(space.get("tools") or [], f"{path}.tools"), f"{path}.tools", dropped
    )
    for tool in found:
        tool.namespace = tool.namespace or name
    return [tool for tool in found if tool.kind != "hosted"]


def _tool(tool: dict[str, Any], path: str) -> Tool:
    kind = string(tool.get("type") or "function", f"{path}.type")
    if kind == "function":
        return _function(tool, path)
    if kind == "custom":
        return _custom(tool, path)
    if kind.startswith(WEB_SEARCH):
        return Tool(name=WEB_SEARCH, kind="hosted", raw=_search(tool, path))
    return Tool(name=kind, kind="hosted", raw=tool)


def _function(tool: dict[str, Any], path: str) -> Tool:
    if "name" not in tool and isinstance(tool.get("function"), dict):  # Chat's form
        tool, path = tool["function"], f"{path}.function"
    schema = tool.get("parameters")
    strict = tool.get("strict")
    return Tool(
        name=string(tool.get("name"), f"{path}.name", filled=True),
        description=string(tool.get("description") or "", f"{path}.description"),
        schema=None if schema is None else mapping(schema, f"{path}.parameters"),
        strict=strict if isinstance(strict, bool) else None,
    )


def _custom(tool: dict[str, Any], path: str) -> Tool:
    form = tool.get("format")
    return Tool(
        name=string(tool.get("name"), f"{path}.name", filled=True),
        kind="custom",
        description=string(tool.get("description") or "", f"{path}.description"),
        format=None if form is None else mapping(form, f"{path}.format"),
    )


def _search(tool: dict[str, Any], path: str) -> dict[str, Any]:
    """The options of web search, in their common form."""
    out: dict[str, Any] = {}
    filters = tool.get("filters")
    if filters is not None:
        filters = mapping(filters, f"{path}.filters")
        for name in ("allowed_domains", "blocked_domains"):
            domains = filters.get(name)
            if domains:
                where = f"{path}.filters.{name}"
                out[name] = [
                    string(each, f"{where}[{at}]") for at, each in enumerate(array(domains, where))
                ]
    place = tool.get("user_location")
    if place is not None:
        out["user_location"] = mapping(place, f"{path}.user_location")
    if isinstance(tool.get("search_context_size"), str):
        out["search_context_size"] = tool["search_context_size"]
    return out


def read_choice(members: Members, tools: list[Tool]) -> ToolChoice | None:
    """`tool_choice`, in all its forms. Names are full names. Raises Problem."""
    path = "tool_choice"
    choice = members.get(path)
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice not in _MODES:
            raise expected(path, _CHOICES, code="invalid_value")
        return _mode(choice)
    choice = mapping(choice, path)
    kind = string(choice.get("type"), f"{path}.type")
    if kind in ("function", "custom"):
        return ToolChoice(mode="one", name=_full_name(choice, path, tools))
    if kind == "allowed_tools":
        return _allowed(choice, path, tools)
    if kind in _MODES:
        return _mode(kind)
    return ToolChoice(mode="one", name=WEB_SEARCH if kind.startswith(WEB_SEARCH) else kind)


def _mode(word: str) -> ToolChoice:
    match _MODES[word]:
        case "none":
            return ToolChoice(mode="none")
        case "any":
            return ToolChoice(mode="any")
    return ToolChoice()


def _allowed(choice: dict[str, Any], path: str, tools: list[Tool]) -> ToolChoice:
    inner = choice.get("allowed_tools")
    if inner is not None:  # Chat's form
        choice, path = mapping(inner, f"{path}.allowed_tools"), f"{path}.allowed_tools"
    mode = one_of(choice.get("mode") or "auto", f"{path}.mode", ("auto", "required"))
    names: list[str] = []
    where = f"{path}.tools"
    for at, entry in enumerate(array(choice.get("tools"), where)):
        here = f"{where}[{at}]"
        tool = mapping(entry, here)
        kind = string(tool.get("type") or "function", f"{here}.type")
        if kind in ("function", "custom"):
            names.append(_full_name(tool, here, tools))
        else:
            names.append(WEB_SEARCH if kind.startswith(WEB_SEARCH) else kind)
    return ToolChoice(mode="any" if mode == "required" else "auto", allowed=tuple(names))


def _full_name(holder: dict[str, Any], path: str, tools: list[Tool]) -> str:
    """The full name of the tool that `holder` names, with or without its namespace."""
    kind = holder.get("type")
    inner = holder.get(kind) if isinstance(kind, str) and "name" not in holder else None
    if isinstance(inner, dict):  # Chat's form
        holder, path = inner, f"{path}.{kind}"
    name = string(holder.get("name"), f"{path}.name", filled=True)
    space = string(holder.get("namespace") or "", f"{path}.namespace")
    for tool in tools:
        if tool.name == name and space in ("", tool.namespace):
            return tool.full_name
    return f"{space}__{name}" if space else name
