"""Messages of any dialect: text, tool results and tokens."""

from typing import Any

import msgspec

from .tokens import count

_PICTURE = 85
_PER_MESSAGE = 3
_encode = msgspec.json.Encoder().encode

Content = str | list[dict[str, Any]] | None


class Message(msgspec.Struct):
    role: str
    content: Content = None
    tool_calls: list[dict[str, Any]] | None = None

    @property
    def calls(self) -> bool:
        """Whether it calls a tool."""
        return bool(self.tool_calls) or any(
            block.get("type") == "tool_use" for block in self._blocks
        )

    @property
    def results(self) -> list[str]:
        """The texts of the tool results it brings."""
        if self.role == "tool":
            return [text_of(self.content)]
        blocks = [block for block in self._blocks if block.get("type") == "tool_result"]
        return [text_of(block.get("content")) for block in blocks]

    @property
    def _blocks(self) -> list[dict[str, Any]]:
        return self.content if isinstance(self.content, list) else []


def text_of(content: Any) -> str:
    """The texts of a content, joined by newlines."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part for part in content if isinstance(part, dict)]
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    return "\n".join(texts)


def trailing_results(messages: list[Message]) -> tuple[str, ...]:
    """The texts of the `tool` messages that stand at the end."""
    results: list[str] = []
    for message in reversed(messages):
        if message.role != "tool":
            break
        results += message.results
    return tuple(reversed(results))


def _weigh(content: Any) -> int:
    if isinstance(content, str):
        return count(content)
    if not isinstance(content, list):
        return 0
    return sum(_weigh_part(part) for part in content if isinstance(part, dict))


def _weigh_part(part: dict[str, Any]) -> int:
    for member in ("text", "thinking"):
        if isinstance(part.get(member), str):
            return count(part[member])
    kind = part.get("type")
    if kind == "tool_result":
        return _PER_MESSAGE + _weigh(part.get("content"))
    if kind == "tool_use":
        return _PER_MESSAGE + count(_encode(part.get("input")).decode())
    return _PICTURE


def _weigh_message(message: Message) -> int:
    calls = len(_encode(message.tool_calls)) // 4 if message.tool_calls else 0
    return _PER_MESSAGE + _weigh(message.content) + calls


def _weigh_tools(tools: Any) -> int:
    return sum(len(_encode(tool)) for tool in tools) // 4


def weights(messages: list[Message], tools: Any) -> tuple[int, int]:
    """Tokens of the prompt, and of the part that an earlier request may have sent.

    That part ends before the last assistant message, or else before the last message.
    """
    last = len(messages) - 1
    for at, message in enumerate(messages):
        if message.role == "assistant":
            last = at
    fixed = _weigh_tools(tools)
    each = [_weigh_message(message) for message in messages]
    return fixed + sum(each), fixed + sum(each[:last])


def marked_tokens(messages: list[Message], tools: Any) -> int:
    """Tokens up to the last `cache_control` mark on a tool or a block, 0 without one."""
    so_far = _weigh_tools(tools)
    marked = so_far if any(tool.cache_control for tool in tools) else 0
    for turn in messages:
        so_far += _PER_MESSAGE
        if isinstance(turn.content, list):
            for part in turn.content:
                so_far += _weigh_part(part)
                if part.get("cache_control"):
                    marked = so_far
        else:
            so_far += _weigh(turn.content)
    return marked
