"""Encode the tools of a conversation for a Responses upstream."""

from typing import Any

from edge.dialects import tool_names
from edge.dialects.codec import WrittenTool
from edge.dialects.conversation import (
    Conversation,
    Tool,
    ToolCall,
    ToolChoice,
)
from edge.dialects.json_schema import input_schema, is_strict
from edge.dialects.validation import no_tool

_WEB_SEARCH = "web_search"
_MODES = {"auto": "auto", "any": "required", "none": "none"}

Json = dict[str, Any]


class ResponsesTools:
    """The tools of one request: definitions, choice, and names in the history.

    Namespaces are flattened, since not every server knows them.

    sent: the changed tools, for `restore`. wrapped: names of tools with a wrapped schema.
    """

    def __init__(self, conversation: Conversation, dropped: list[str]) -> None:
        self.sent: dict[str, WrittenTool] = {}
        self.wrapped: set[str] = set()
        self._choice = conversation.tool_choice
        self._parallel = conversation.parallel
        self._names: dict[str, str] = {}
        self._definitions: dict[str, Json] = {}
        self._references: dict[str, Json] = {}
        """The form of a tool in a choice, by its full name."""
        self._most_calls: int | None = None
        """The forms of hosted tools."""
        self._left: set[str] = set()
        """Hosted tools that are left out."""
        for tool in conversation.tools:
            if tool.kind == "hosted":
                self._host(tool, dropped)
            else:
                self._define(tool)

    def _host(self, tool: Tool, dropped: list[str]) -> None:
        """Add a hosted tool; this dialect has web search."""
        if tool.name == _WEB_SEARCH:
            self._definitions[_WEB_SEARCH] = _search(tool.raw or {}, dropped)
            self._references[_WEB_SEARCH] = {"type": _WEB_SEARCH}
            uses = (tool.raw or {}).get("max_uses")
            if type(uses) is int and uses > 0:  # the only hosted tool that is translated
                self._most_calls = uses
            return
        if self._choice is not None and self._choice.name == tool.name:
            raise no_tool(f"`{tool.name}` is not available with this model")
        self._left.add(tool.name)
        dropped.append(f"hosted tool `{tool.name}`")

    def _define(self, tool: Tool) -> None:
        full = tool.full_name
        name = tool_names.tool_name(full, self._definitions)
        custom = tool.kind == "custom"
        self._names[full] = name
        if custom or tool.namespace or name != tool.name:
            self.sent[name] = WrittenTool(tool.name, custom, tool.namespace)
        definition: Json = {"type": "custom" if custom else "function", "name": name}
        if tool.description:
            definition["description"] = tool.description
        if custom:
            form = _flat(tool.format)
            if form is not None:
                definition["format"] = form
        else:
            parameters, wrapped = input_schema(tool.schema)
            if wrapped:
                self.wrapped.add(name)
            definition["parameters"] = parameters
            # Always set: the default here is strict.
            definition["strict"] = bool(tool.strict) and is_strict(parameters)
        self._definitions[name] = definition
        self._references[full] = {"type": definition["type"], "name": name}

    def members(self) -> Json:
        """The members of the body about tools; none without tools."""
        if not self._definitions:
            if self._choice is not None and self._choice.mode == "any" and self._left:
                raise no_tool("none of the tools is available with this model")
            return {}
        out: Json = {"tools": list(self._definitions.values())}
        if self._choice is not None:
            out["tool_choice"] = self._chosen(self._choice)
        if self._parallel is False:
            out["parallel_tool_calls"] = False
        if self._most_calls is not None:
            out["max_tool_calls"] = self._most_calls
        return out

    def _chosen(self, choice: ToolChoice) -> Any:
        if choice.mode == "one":
            return self._reference(choice.name)
        mode = _MODES[choice.mode]
        if choice.allowed is None or choice.mode == "none":
            return mode
        tools = [self._reference(name) for name in choice.allowed if name not in self._left]
        if not tools:
            if mode == "required":
                raise no_tool("none of the allowed tools is available with this model")
            return "none"
        return {"type": "allowed_tools", "mode": mode, "tools": tools}

    def _reference(self, full: str) -> Json:
        found = self._references.get(full)
        if found is None:
            raise no_tool(f"`{full}` is not one of the tools")
        return found

    def call(self, call: ToolCall) -> Json:
        """A call in the history."""
        full = call.full_name
        name = self._names.get(full) or tool_names.tool_name(full)
        item = {
            "type": "custom_tool_call" if call.custom else "function_call",
            "call_id": tool_names.call_id(call.id, "responses"),
            "name": name,
        }
        if call.custom:
            return {**item, "input": call.arguments}
        arguments = call.arguments.strip() or "{}"
        if name in self.wrapped:
            arguments = f'{{"value":{arguments}}}'
        return {**item, "arguments": arguments}


def _flat(form: Json | None) -> Json | None:
    """The input format of a custom tool; Chat nests a grammar one level deeper."""
    if form is not None and isinstance(form.get("grammar"), dict):
        return {"type": "grammar", **form["grammar"]}
    return form


def _search(raw: Json, dropped: list[str]) -> Json:
    tool: Json = {"type": _WEB_SEARCH}
    if raw.get("allowed_domains"):
        tool["filters"] = {"allowed_domains": raw["allowed_domains"]}
    place = raw.get("user_location")
    if isinstance(place, dict):
        where = place.get("approximate", place)  # Chat's form
        tool["user_location"] = {**where, "type": "approximate"}
    if raw.get("search_context_size"):
        tool["search_context_size"] = raw["search_context_size"]
    if raw.get("blocked_domains"):
        dropped.append("`blocked_domains` of web search")
    return tool
