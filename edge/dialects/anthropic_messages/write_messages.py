"""Encode the turns of a conversation in the order that Messages require.

The first turn is the user's, and so is the last, unless the model continues the assistant's text.
An instruction in between stays if the model allows it; otherwise it becomes the user's. Added text
is fixed, so that a growing conversation keeps its beginning.
"""

from typing import Any

from edge.dialects.codec import WrittenTurns
from edge.dialects.conversation import (
    Audio,
    Block,
    Conversation,
    Document,
    Image,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)
from edge.dialects.history_repair import empty_conversation, repair_turns
from edge.vendors.claude_models import Claude

from .write_blocks import BlockWriter, Written

CONTINUE = "Continue."
_MOST_MARKS = 4

Message = dict[str, Any]

_NOT_BY: dict[str, tuple[type[Block], ...]] = {
    "user": (ToolCall, Thinking),
    "assistant": (ToolResult, Image, Document, Audio),
    "system": (),
}
"""Blocks that the vendor does not accept, by role."""


class MessageList:
    """The system and messages members of one request. Call `finish` before reading them.

    head: see `UpstreamSide`; `messages` has those after it.
    """

    def __init__(
        self,
        conversation: Conversation,
        model: Claude,
        blocks: BlockWriter,
        head: WrittenTurns | None = None,
    ) -> None:
        self._model = model
        self._blocks = blocks
        instructions = [text for text in conversation.system if text.text.strip()]
        turns = repair_turns(conversation.turns, () if head is None else head.calls)
        if not turns and instructions:
            turns = [Turn("user", [instructions.pop()])]
        self.system = self._written("user", [*instructions])
        self.messages: list[Message] = []
        for at, turn in enumerate(turns):
            before = turns[at - 1].role if at else ""
            behind = turns[at + 1].role if at + 1 < len(turns) else ""
            self._add(turn, before, behind)
        self._place_instructions()
        if not self.messages:
            raise empty_conversation()
        if head is None and self.messages[0]["role"] != "user":
            self.messages.insert(0, _user(CONTINUE))

    def _add(self, turn: Turn, before: str, behind: str) -> None:
        role: str = turn.role
        if role == "system" and not (
            self._model.system_turns
            and before == "user"
            and behind in ("", "assistant")
            and all(isinstance(block, Text) for block in turn.blocks)
        ):
            role = "user"
        content = self._written(role, turn.blocks)
        if not content:
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += content
        else:
            self.messages.append({"role": role, "content": content})

    def _place_instructions(self) -> None:
        """Instructions without a later turn of the assistant become the user's."""
        for at in range(len(self.messages) - 2, -1, -1):
            if self.messages[at]["role"] == "system" and self.messages[at + 1]["role"] == "user":
                self.messages[at]["role"] = "user"
                self.messages[at]["content"] += self.messages.pop(at + 1)["content"]
                if at and self.messages[at - 1]["role"] == "user":
                    self.messages[at - 1]["content"] += self.messages.pop(at)["content"]

    def _written(self, role: str, blocks: list[Block]) -> list[Written]:
        content: list[Written] = []
        never, write = _NOT_BY[role], self._blocks.write
        for block in blocks:
            if isinstance(block, never):
                self._blocks.drop(f"{type(block).__name__} in a turn of the {role}")
                continue
            written = write(block)
            if written is not None:
                content.append(written)
        return content

    @property
    def lacks_thinking(self) -> bool:
        """Whether the last calls lack the thinking before them."""
        for message in reversed(self.messages):
            if message["role"] == "assistant":
                kinds = [block["type"] for block in message["content"]]
                return "tool_use" in kinds and "thinking" not in kinds[0]
        return False

    def finish(self, *, free: bool) -> None:
        """Settle the last turn. free: the request sets no form of the answer."""
        if self.messages[-1]["role"] != "assistant":
            return
        last = self.messages[-1]["content"][-1]
        if self._model.prefill and free and last["type"] == "text":
            last["text"] = last["text"].rstrip()
        else:
            self.messages.append(_user(CONTINUE))


def _user(text: str) -> Message:
    return {"role": "user", "content": [{"type": "text", "text": text}]}


def limit_marks(body: dict[str, Any]) -> None:
    """Remove the first cache marks if there are more than the vendor accepts.

    A later mark covers more of the prompt.
    """
    marked = [block for block in _blocks_of(body) if "cache_control" in block]
    most = _MOST_MARKS - ("cache_control" in body)
    for block in marked[: max(0, len(marked) - most)]:
        del block["cache_control"]


def has_marks(messages: list[Message]) -> bool:
    """Whether any block has a cache mark."""
    return any("cache_control" in block for block in _blocks_of({"messages": messages}))


def _blocks_of(body: dict[str, Any]) -> list[Written]:
    """All blocks that may have a mark, in the order of the prompt."""
    found: list[Written] = [*body.get("tools", ()), *body.get("system", ())]
    for message in body["messages"]:
        for block in message["content"]:
            inner = block.get("content")
            if isinstance(inner, list):
                found += inner
            found.append(block)
    return found
