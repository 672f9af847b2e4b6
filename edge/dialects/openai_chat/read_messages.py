"""Decode the messages of a Chat request: instructions at the beginning, then turns.

A `tool` message is a turn of the user. Gaps and duplicates in the history are left to
`history_repair`, except a call in two spellings within one message, and the ids that the older
`function_call` lacks.
"""

from functools import partial
from typing import Any

from edge.dialects.conversation import (
    Block,
    Cache,
    Document,
    Image,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from edge.dialects.validation import Members, array, json_text, mapping, one_of, string
from middlewares.problem import expected

from .read_parts import cache_of, read_content, read_thinking, result_content
from .read_turns import usual_turn
from .tool_calls import text_of

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_INSTRUCTING = ("system", "developer")
NUMBERED = "call_function_"
"""What the ids begin with that calls of the older functions get, in the order of the calls."""


def read_messages(members: Members) -> tuple[list[Text], list[Turn]]:
    """Leading instructions, and the turns after them. Raises Problem with the message's path."""
    read = members.each("messages", usual_turn, partial(_turn, _LegacyIds()))
    if read is None:
        raise expected("messages", "an array of messages", code="missing_required_parameter")
    if not read:
        raise expected("messages", "at least one message")
    system: list[Text] = []
    for at, turn in enumerate(read):
        if turn.role != "system":
            return system, read[at:]
        system += [block for block in turn.blocks if isinstance(block, Text)]
    return system, []


def _turn(legacy: "_LegacyIds", entry: Any, path: str) -> Turn:
    message = mapping(entry, path)
    role = one_of(message.get("role"), f"{path}.role", _ROLES)
    if role in _INSTRUCTING:
        return Turn("system", [*_instruction(message, path)])
    if role == "assistant":
        return Turn("assistant", _assistant(message, path, legacy))
    if role == "user":
        blocks = read_content(message.get("content"), f"{path}.content")
        return Turn("user", _marked(blocks, message))
    return Turn("user", [_result(message, role, path, legacy)])


class _LegacyIds:
    """Ids for calls of the older functions, which are matched to results by name and order."""

    def __init__(self) -> None:
        self._count = 0
        self._open: dict[str, str] = {}

    def call(self, name: str) -> str:
        """The id of a call of `name`."""
        self._count += 1
        self._open[name] = f"{NUMBERED}{self._count}"
        return self._open[name]

    def result(self, name: str) -> str:
        """The id of the last call of `name`; "" when there was none."""
        return self._open.pop(name, "")


def _instruction(message: dict[str, Any], path: str) -> list[Text]:
    texts: list[Text] = []
    blocks = read_content(message.get("content"), f"{path}.content")
    for at, block in enumerate(_marked(blocks, message)):
        if not isinstance(block, Text):
            raise expected(f"{path}.content[{at}].type", "`text`")
        texts.append(block)
    return texts


def _marked(blocks: list[Block], message: dict[str, Any]) -> list[Block]:
    """The blocks, with the message's cache mark on the last block that can have one."""
    mark = cache_of(message)
    if mark is not None:
        for block in reversed(blocks):
            if isinstance(block, Text | Image | Document | ToolCall | ToolResult):
                block.cache = block.cache or mark
                break
    return blocks


def _assistant(message: dict[str, Any], path: str, legacy: _LegacyIds) -> list[Block]:
    blocks = read_thinking(message, path)
    content = message.get("content")
    if content is not None:
        blocks += read_content(content, f"{path}.content")
    refusal = message.get("refusal")
    if refusal:
        blocks.append(Refusal(text=string(refusal, f"{path}.refusal")))
    known_ids = {block.id for block in blocks if isinstance(block, ToolCall) and block.id}
    where = f"{path}.tool_calls"
    for at, entry in enumerate(array(message.get("tool_calls") or [], where)):
        call = _call(mapping(entry, f"{where}[{at}]"), f"{where}[{at}]")
        if call.id not in known_ids:
            blocks.append(call)
    function = message.get("function_call")
    if function is not None:
        where = f"{path}.function_call"
        name, arguments = _function(mapping(function, where), where)
        blocks.append(ToolCall(id=legacy.call(name), name=name, arguments=arguments))
    return _marked(blocks, message)


def _call(call: dict[str, Any], path: str) -> ToolCall:
    id_ = string(call.get("id") or "", f"{path}.id")
    cache = cache_of(call)
    if call.get("type") == "custom":
        custom = mapping(call.get("custom"), f"{path}.custom")
        return ToolCall(
            id=id_,
            name=string(custom.get("name"), f"{path}.custom.name", filled=True),
            arguments=string(custom.get("input") or "", f"{path}.custom.input"),
            custom=True,
            cache=cache,
        )
    where = f"{path}.function"
    name, arguments = _function(mapping(call.get("function"), where), where)
    return ToolCall(id=id_, name=name, arguments=arguments, cache=cache)


def _function(function: dict[str, Any], path: str) -> tuple[str, str]:
    name = string(function.get("name"), f"{path}.name", filled=True)
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        return name, json_text(arguments, f"{path}.arguments")
    return name, string(text_of(arguments), f"{path}.arguments")


def _result(message: dict[str, Any], role: str, path: str, legacy: _LegacyIds) -> ToolResult:
    content = result_content(message.get("content"), f"{path}.content")
    mark: Cache | None = cache_of(message)
    if role == "function":
        name = string(message.get("name"), f"{path}.name", filled=True)
        return ToolResult(id=legacy.result(name), content=content, cache=mark)
    id_ = string(message.get("tool_call_id"), f"{path}.tool_call_id")
    return ToolResult(id=id_, content=content, cache=mark)
