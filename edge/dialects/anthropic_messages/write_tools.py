"""Encode the tools of a conversation for a Messages upstream.

Messages have no free-text tools: such a tool becomes a function with one string, `input`. For a
model without output schemas, a structured answer becomes one more tool that must be called.
`restore` reverts all of it in the answer.
"""

from typing import Any

from edge.dialects import tool_names
from edge.dialects.codec import WrittenTool
from edge.dialects.conversation import (
    Conversation,
    OutputFormat,
    Tool,
    ToolCall,
    ToolChoice,
)
from edge.dialects.json_schema import input_schema, is_for_anthropic
from edge.dialects.validation import no_tool
from edge.vendors.claude_models import Claude
from middlewares.problem import Problem

from .arguments import input_of
from .wire import ANSWER_TOOL

_FREE_TEXT = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
}
_WEB_SEARCH = "web_search"
_SEARCH_MEMBERS = ("max_uses", "user_location")


class MessagesTools:
    """The tools of one request: definitions, choice, and names in the history.

    sent: the changed tools, for `restore`. wrapped: names of tools with a wrapped schema.
    answer_tool, answer_wrapped: see `codec.WrittenRequest`.
    offered: whether the request has tools for this model; else those of its history are defined.
    """

    def __init__(self, conversation: Conversation, model: Claude, dropped: list[str]) -> None:
        self.sent: dict[str, WrittenTool] = {}
        self.wrapped: set[str] = set()
        self.answer_tool = ""
        self.answer_wrapped = False
        self._model = model
        self._choice = conversation.tool_choice
        self._parallel = conversation.parallel
        self._names: dict[str, str] = {}
        self._definitions: dict[str, dict[str, Any]] = {}
        self._stubs = False
        for tool in conversation.tools:
            if tool.kind == "hosted":
                self._host(tool, dropped)
        for tool in conversation.tools:
            if tool.kind != "hosted":
                self._define(tool)
        self._only_allowed()
        self.offered = bool(self._definitions)
        if not self.offered:
            if self._choice is not None and self._choice.mode == "any" and conversation.tools:
                raise no_tool("none of the tools is available with this model")
            self._stub(conversation)

    # Definitions ---------------------------------------------------------------------------------

    def _host(self, tool: Tool, dropped: list[str]) -> None:
        """Add a hosted tool: web search is the only one that all vendors have."""
        if tool.name == _WEB_SEARCH and self._model.vendor:
            self._names[tool.name] = tool.name
            self._definitions[tool.name] = _marked(_search(tool.raw or {}), tool)
            return
        if self._choice is not None and self._choice.name == tool.name:
            raise no_tool(f"`{tool.name}` is not available with this model")
        dropped.append(f"hosted tool `{tool.name}`")

    def _define(self, tool: Tool) -> None:
        full = tool.full_name
        name = tool_names.tool_name(full, self._definitions)
        custom = tool.kind == "custom"
        self._names[full] = name
        if custom or tool.namespace or name != tool.name:
            self.sent[name] = WrittenTool(tool.name, custom, tool.namespace)
        definition: dict[str, Any] = {"name": name}
        description = tool.guide
        if description:
            definition["description"] = description
        if custom:
            definition["input_schema"] = _FREE_TEXT
        else:
            definition["input_schema"], wrapped = _schema(tool.schema)
            if wrapped:
                self.wrapped.add(name)
            if (
                tool.strict
                and self._model.structured
                and is_for_anthropic(definition["input_schema"])
            ):
                definition["strict"] = True
        self._definitions[name] = _marked(definition, tool)

    def _only_allowed(self) -> None:
        """Offer only the allowed tools: Messages have no choice among some of them."""
        if self._choice is not None and self._choice.allowed is not None:
            allowed = {self.name(full) for full in self._choice.allowed}
            self._definitions = {k: v for k, v in self._definitions.items() if k in allowed}

    def _stub(self, conversation: Conversation) -> None:
        """Define the tools of the history: Messages require it, even if no tool is offered."""
        for call in conversation.calls():
            name = self._called(call)
            self._definitions.setdefault(name, {"name": name, "input_schema": {"type": "object"}})
        self._stubs = bool(self._definitions)

    def answer_by(self, output: OutputFormat) -> None:
        """Request the structured answer as the input of a tool."""
        name = tool_names.tool_name(ANSWER_TOOL, self._definitions)
        schema, self.answer_wrapped = _schema(output.schema)
        description = output.description or "Give the final answer by calling this."
        self._definitions[name] = {
            "name": name,
            "description": description,
            "input_schema": schema,
        }
        self.answer_tool = name

    # The body ------------------------------------------------------------------------------------

    def members(self) -> dict[str, Any]:
        """The members of the body about tools; none without tools."""
        if not self._definitions:
            return {}
        out: dict[str, Any] = {"tools": list(self._definitions.values())}
        choice = self._chosen()
        if choice is not None:
            out["tool_choice"] = choice
        return out

    @property
    def forces(self) -> bool:
        """Whether the model must call a tool."""
        choice = self._chosen() if self._definitions else None
        return choice is not None and choice["type"] in ("any", "tool")

    def _chosen(self) -> dict[str, Any] | None:
        choice = self._choice
        mode = choice.mode if choice is not None else "auto"
        chosen: dict[str, Any]
        if choice is not None and mode == "one":
            chosen = {"type": "tool", "name": self._reference(choice)}
        elif self.answer_tool:
            alone = mode == "none" or self._stubs or len(self._definitions) == 1
            chosen = {"type": "tool", "name": self.answer_tool} if alone else {"type": "any"}
        elif self._stubs or mode == "none":
            return {"type": "none"}
        elif choice is None and self._parallel is not False:
            return None
        else:
            chosen = {"type": mode}
        if self._parallel is False:
            chosen["disable_parallel_tool_use"] = True
        return chosen

    def _reference(self, choice: ToolChoice) -> str:
        name = self.name(choice.name)
        if name not in self._definitions:
            raise no_tool(f"`{choice.name}` is not one of the tools")
        return name

    # Names and calls -----------------------------------------------------------------------------

    def name(self, full: str) -> str:
        """The sent name of the tool with the full name `full`."""
        return self._names.get(full) or tool_names.tool_name(full)

    def _called(self, call: ToolCall) -> str:
        return self.name(call.full_name)

    def call(self, call: ToolCall) -> dict[str, Any]:
        """A call of the history."""
        name = self._called(call)
        return {
            "type": "tool_use",
            "id": tool_names.call_id(call.id, "anthropic"),
            "name": name,
            "input": input_of(call.arguments, custom=call.custom, wrapped=name in self.wrapped),
        }


def _marked(definition: dict[str, Any], tool: Tool) -> dict[str, Any]:
    if tool.cache is not None:
        definition["cache_control"] = {"type": "ephemeral"}
        if tool.cache.ttl:
            definition["cache_control"]["ttl"] = tool.cache.ttl
    return definition


def _schema(schema: dict[str, Any] | None) -> tuple[dict[str, Any], bool]:
    try:
        return input_schema(schema)
    except ValueError as error:
        raise Problem(
            "invalid_request",
            message=f"Invalid schema: {error}.",
            param="tools",
            issue=str(error),
        ) from None


def _search(raw: dict[str, Any]) -> dict[str, Any]:
    """Web search options: the vendor accepts allowed or blocked domains, not both."""
    search: dict[str, Any] = {"type": "web_search_20250305", "name": _WEB_SEARCH}
    search |= {member: raw[member] for member in _SEARCH_MEMBERS if raw.get(member)}
    for member in ("allowed_domains", "blocked_domains"):
        if raw.get(member):
            search[member] = raw[member]
            break
    return search
