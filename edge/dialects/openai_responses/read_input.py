"""Decode the input items of a Responses request into turns.

Items are a flat list. Consecutive items of the model are one turn of the assistant; tool results
and the user messages after them are one turn of the user.

    item                                                  becomes
    message, also without `type`                          text, images, files of its role
    function_call, custom_tool_call                       a call
    ..._output                                            a result
    shell_call, local_shell_call, apply_patch_call        a call of a tool of that name
    reasoning                                             thinking, for its maker only
    additional_tools                                      tools
    calls of hosted tools                                 nothing, and a note

Anything else is refused: input of the user is never dropped silently.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Raw

from edge.dialects.conversation import (
    Block,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)
from edge.dialects.signatures import unpack
from edge.dialects.validation import Members, array, json_text, mapping, one_of, string
from middlewares.problem import expected

from .read_parts import parts_text, read_content, read_output, reasoning_signature
from .read_tools import read_tool_list
from .read_usual_items import usual_item

_ROLES = ("user", "assistant", "system", "developer")
_VENDORS = (
    "web_search_",
    "file_search_",
    "code_interpreter_",
    "image_generation_",
    "computer_",
    "mcp_",
    "tool_search_",
)
"""Prefixes of the item types of hosted tools."""
_LOCAL = {
    "local_shell_call": ("local_shell", "action"),
    "shell_call": ("shell", "action"),
    "apply_patch_call": ("apply_patch", "operation"),
}
"""OpenAI's tools that the caller runs: their name, and the member of their arguments."""
_LOCAL_OUTPUTS = frozenset(f"{kind}_output" for kind in _LOCAL)
_COMPACTIONS = ("compaction", "compaction_summary", "compaction_trigger", "context_compaction")

Item = dict[str, Any]


class InputReader:
    """Collects the turns of one request. Raises Problem with the item's path."""

    def __init__(self) -> None:
        self.system: list[Text] = []
        self.turns: list[Turn] = []
        self.tools: list[Tool] = []
        self.dropped: list[str] = []

    def read(self, members: Members) -> None:
        """Decode the member `input`: a string, or an array of items."""
        if members.is_array("input"):
            members.each("input", self._usual, self._entry)
            return
        value = members.get("input")
        if not isinstance(value, str):
            code = "missing_required_parameter" if value is None else ""
            raise expected("input", "a string or an array of items", code=code)
        self._add("user", [Text(text=value)])

    def _usual(self, entry: Raw) -> bool | None:
        turn = usual_item(entry)
        if turn is None:
            return None
        self._add(turn.role, turn.blocks)
        return True

    def _entry(self, item: Any, path: str) -> bool:
        if isinstance(item, str):
            self._add("user", [Text(text=item)])
        else:
            self._item(mapping(item, path), path)
        return True

    def _item(self, item: Item, path: str) -> None:
        kind = item.get("type")
        if kind is None:
            kind = "message" if "role" in item else "item_reference" if "id" in item else ""
        kind = string(kind, f"{path}.type")
        read = _READERS.get(kind)
        if read is not None:
            read(self, item, path)
        elif kind in _COMPACTIONS:
            raise expected(
                path, "no compaction: it was made by another model and cannot be read here"
            )
        elif kind.startswith(_VENDORS):
            self.dropped.append(f"{path}: `{kind}`")
        else:
            raise expected(f"{path}.type", "a known type of item", code="invalid_value")

    def _add(self, role: Any, blocks: list[Block]) -> None:
        """Append to the last turn if it has that role, else begin one."""
        if self.turns and self.turns[-1].role == role:
            self.turns[-1].blocks += blocks
        else:
            self.turns.append(Turn(role, blocks))

    def message(self, item: Item, path: str) -> None:
        """A message. Instructions before all turns belong to the system."""
        role = one_of(item.get("role"), f"{path}.role", _ROLES)
        blocks = read_content(item.get("content"), f"{path}.content", assistant=role == "assistant")
        if role in ("user", "assistant"):
            self._add(role, blocks)
            return
        texts = [_text_of(block, f"{path}.content[{n}]") for n, block in enumerate(blocks)]
        if self.turns:
            self._add("system", [*texts])
        else:
            self.system += texts

    def call(self, item: Item, path: str) -> None:
        """A call of one of the caller's tools."""
        custom = item["type"] == "custom_tool_call"
        member = "input" if custom else "arguments"
        self._add(
            "assistant",
            [
                ToolCall(
                    id=_call_id(item, path),
                    name=string(item.get("name"), f"{path}.name", filled=True),
                    arguments=_arguments(item.get(member), f"{path}.{member}"),
                    custom=custom,
                    namespace=string(item.get("namespace") or "", f"{path}.namespace"),
                )
            ],
        )

    def local_call(self, item: Item, path: str) -> None:
        """A call of a tool that OpenAI defines and the caller runs."""
        name, member = _LOCAL[item["type"]]
        where = f"{path}.{member}"
        arguments = json_text(mapping(item.get(member), where), where)
        call = ToolCall(id=_call_id(item, path), name=name, arguments=arguments)
        self._add("assistant", [call])

    def result(self, item: Item, path: str) -> None:
        """A tool's result."""
        result = ToolResult(
            id=_call_id(item, path),
            content=read_output(item.get("output"), f"{path}.output"),
            custom=item["type"] == "custom_tool_call_output",
        )
        self._add("user", [result])

    def local_result(self, item: Item, path: str) -> None:
        """The result of a tool with its own output form."""
        output = item.get("output")
        text = output if isinstance(output, str) else json_text(output, f"{path}.output")
        content = () if output is None else (Text(text=text),)
        failed = item.get("status") == "failed"
        self._add("user", [ToolResult(id=_call_id(item, path), content=content, failed=failed)])

    def reasoning(self, item: Item, path: str) -> None:
        """Reasoning of a model."""
        text = parts_text(item.get("summary"), f"{path}.summary")
        text = text or parts_text(item.get("content"), f"{path}.content")
        encrypted = string(item.get("encrypted_content") or "", f"{path}.encrypted_content")
        id_ = (
            string(item.get("id") or "", f"{path}.id")
            if encrypted and not unpack(encrypted)
            else ""
        )
        signature = reasoning_signature(encrypted, id_, text)
        if text or signature is not None:
            self._add("assistant", [Thinking(text=text, signature=signature)])

    def more_tools(self, item: Item, path: str) -> None:
        """Tools added in the middle of the conversation."""
        tools = array(item.get("tools") or [], f"{path}.tools")
        self.tools += read_tool_list(tools, f"{path}.tools", self.dropped)

    def reference(self, item: Item, path: str) -> None:
        """An unresolved reference: `edge.api.responses` has replaced all known ones."""
        raise expected(path, "an item that is still kept", code="item_not_found")


def _text_of(block: Block, path: str) -> Text:
    if isinstance(block, Text):
        return block
    if isinstance(block, Refusal):
        return Text(text=block.text)
    raise expected(f"{path}.type", "`input_text`: instructions are text", code="invalid_value")


def _call_id(item: Item, path: str) -> str:
    """The id that connects a call and its output; not the item's id."""
    value = item.get("call_id")
    if value is None and item["type"].startswith("local_shell"):
        value = item.get("id")
    return string(value, f"{path}.call_id")


def _arguments(value: Any, path: str) -> str:
    if value is None:
        return ""
    return json_text(value, path) if isinstance(value, dict) else string(value, path)


_READERS: dict[str, Callable[[InputReader, Item, str], None]] = {
    "message": InputReader.message,
    "function_call": InputReader.call,
    "custom_tool_call": InputReader.call,
    "function_call_output": InputReader.result,
    "custom_tool_call_output": InputReader.result,
    "reasoning": InputReader.reasoning,
    "additional_tools": InputReader.more_tools,
    "item_reference": InputReader.reference,
    **dict.fromkeys(_LOCAL, InputReader.local_call),
    **dict.fromkeys(_LOCAL_OUTPUTS, InputReader.local_result),
}
