"""Encode the tools of a conversation for a Chat upstream.

Only OpenAI's reasoning models have free-text tools. For all others such a tool becomes a function
with one string, `input`; `restore` reverts it in the answer.
"""

from typing import Any

import msgspec

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
from edge.vendors.openai_models import is_openai, reasons
from middlewares.problem import invalid_value

from .model_families import call_id

_encode = msgspec.json.Encoder().encode
_FREE_TEXT = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
_WEB_SEARCH = "web_search"
_MODES = {"auto": "auto", "any": "required", "none": "none"}


class ChatTools:
    """The tools of one request: definitions, choice, and names in the history.

    sent: the changed tools, for `restore`. wrapped: names of tools with a wrapped schema.
    """

    def __init__(self, conversation: Conversation, model: str, dropped: list[str]) -> None:
        self.sent: dict[str, WrittenTool] = {}
        self.wrapped: set[str] = set()
        self._openai = is_openai(model)
        self._native = self._openai and reasons(model)
        self._model = model
        self._parallel = conversation.parallel
        self._choice = conversation.tool_choice
        self._names: dict[str, str] = {}
        self._custom: set[str] = set()
        self._definitions: dict[str, dict[str, Any]] = {}
        self._search: dict[str, Any] | None = None
        self._left: set[str] = set()
        """Hosted tools that are left out."""
        for tool in conversation.tools:
            if tool.kind == "hosted":
                self._host(tool, dropped)
            else:
                self._define(tool)

    def _host(self, tool: Tool, dropped: list[str]) -> None:
        """Add a hosted tool. Chat has web search only, for models made for it."""
        if tool.name == _WEB_SEARCH and self._openai and "-search" in self._model:
            self._search = _search_options(tool.raw or {})
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
        if custom:
            self._custom.add(full)
        if custom or tool.namespace or name != tool.name:
            self.sent[name] = WrittenTool(tool.name, custom, tool.namespace)
        if custom and self._native:
            self._definitions[name] = {"type": "custom", "custom": _custom(tool, name)}
            return
        function: dict[str, Any] = {"name": name}
        description = tool.guide
        if description:
            function["description"] = description
        if custom:
            function["parameters"] = _FREE_TEXT
        else:
            function["parameters"] = self._schema(tool, name)
            if tool.strict and is_strict(function["parameters"]):
                function["strict"] = True
        self._definitions[name] = {"type": "function", "function": function}

    def _schema(self, tool: Tool, name: str) -> dict[str, Any]:
        try:
            schema, wrapped = input_schema(tool.schema)
        except ValueError as error:
            why = f"the parameters of `{tool.name}`: {error}"
            raise invalid_value("tools", why, issue=str(error)) from None
        if wrapped:
            self.wrapped.add(name)
        return schema

    def members(self) -> dict[str, Any]:
        """The members of the body about tools; none without tools."""
        out: dict[str, Any] = {}
        if self._search is not None:
            out["web_search_options"] = self._search
        definitions = self._definitions
        choice = self._choice
        if choice is not None and choice.allowed is not None and not self._openai:
            allowed = {self._name(name) for name in choice.allowed}
            definitions = {name: tool for name, tool in definitions.items() if name in allowed}
        if not definitions:
            gone = self._left or self._definitions
            if choice is not None and choice.mode == "any" and gone and self._search is None:
                raise no_tool("none of the tools is available with this model")
            return out
        out["tools"] = list(definitions.values())
        if choice is not None:
            out["tool_choice"] = self._chosen(choice)
        if self._parallel is False and not _is_o_series(self._model):
            out["parallel_tool_calls"] = False
        return out

    def _chosen(self, choice: ToolChoice) -> Any:
        if choice.mode == "one":
            return self._reference(choice.name)
        mode = _MODES[choice.mode]
        if choice.allowed is None or not self._openai or choice.mode == "none":
            return mode
        tools = [self._reference(name) for name in choice.allowed if name not in self._left]
        if not tools:
            if mode == "required":
                raise no_tool("none of the allowed tools is available with this model")
            return "none"
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}

    def _reference(self, full: str) -> dict[str, Any]:
        name = self._name(full)
        if name not in self._definitions:
            raise no_tool(f"`{full}` is not one of the tools")
        kind = "custom" if full in self._custom and self._native else "function"
        return {"type": kind, kind: {"name": name}}

    def _name(self, full: str) -> str:
        return self._names.get(full) or tool_names.tool_name(full)

    def call(self, call: ToolCall) -> dict[str, Any]:
        """An entry of `tool_calls` in the history."""
        id_ = call_id(call.id, self._model)
        full = call.full_name
        name = self._name(full)
        if not call.custom:
            arguments = call.arguments.strip() or "{}"
            if name in self.wrapped:
                arguments = f'{{"value":{arguments}}}'
            function = {"name": name, "arguments": arguments}
            return {"id": id_, "type": "function", "function": function}
        if self._native:
            custom = {"name": name, "input": call.arguments}
            return {"id": id_, "type": "custom", "custom": custom}
        arguments = _encode({"input": call.arguments}).decode()
        function = {"name": name, "arguments": arguments}
        return {"id": id_, "type": "function", "function": function}


def _custom(tool: Tool, name: str) -> dict[str, Any]:
    custom: dict[str, Any] = {"name": name}
    if tool.description:
        custom["description"] = tool.description
    if tool.format is not None:
        grammar = {key: value for key, value in tool.format.items() if key != "type"}
        if grammar and "grammar" not in grammar:
            custom["format"] = {"type": "grammar", "grammar": grammar}
        else:
            custom["format"] = tool.format
    return custom


def _search_options(raw: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if "search_context_size" in raw:
        options["search_context_size"] = raw["search_context_size"]
    place = raw.get("user_location")
    if isinstance(place, dict):
        where = {key: value for key, value in place.items() if key != "type"}
        options["user_location"] = {"type": "approximate", "approximate": where}
    return options


def _is_o_series(model: str) -> bool:
    name = model.rsplit("/", 1)[-1].lower()
    return reasons(model) and name.startswith("o")
