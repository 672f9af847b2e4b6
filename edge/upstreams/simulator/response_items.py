"""The output items of a Responses answer, and their events."""

from collections.abc import Iterator
from typing import Any

from .conversation import encrypt_content
from .reply import Call, SimulatedReply

INCOMPLETE = {"length": "max_output_tokens", "refusal": "content_filter"}
"""Why a response is incomplete, by how the reply stops."""

_SENTENCES = 2
ItemEvent = tuple[str, dict[str, Any], bool]
"""Type and fields of an event, and whether it is a token."""


class _Reasoning:
    """An item of reasoning, its summary in parts of two sentences."""

    def __init__(self, reply: SimulatedReply, name: str, *, sealed: bool) -> None:
        self._parts = list(_parts(reply.thinking))
        summary = [{"type": "summary_text", "text": "".join(part)} for part in self._parts]
        self.opened: dict[str, Any] = {"id": name, "type": "reasoning", "summary": []}
        self.whole = {**self.opened, "summary": summary}
        if sealed:
            # Like the vendor, the first event has a value that cannot be sent back.
            content = encrypt_content("".join(reply.thinking))
            self.whole["encrypted_content"] = content
            self.opened = {**self.opened, "encrypted_content": content[:40]}

    def events(self) -> Iterator[ItemEvent]:
        prefix = "response.reasoning_summary_"
        for n, (tokens, whole) in enumerate(zip(self._parts, self.whole["summary"], strict=True)):
            at = {"summary_index": n}
            empty = {"type": "summary_text", "text": ""}
            yield f"{prefix}part.added", {**at, "part": empty}, False
            for token in tokens:
                yield f"{prefix}text.delta", {**at, "delta": token}, True
            yield f"{prefix}text.done", {**at, "text": whole["text"]}, False
            yield f"{prefix}part.done", {**at, "part": whole}, False


class _Message:
    """A message of one part: text, or a refusal."""

    def __init__(self, reply: SimulatedReply, name: str, status: str) -> None:
        self._tokens = reply.text
        self._refuses = reply.stop == "refusal"
        self._text = "".join(reply.text)
        opened = {"id": name, "type": "message", "status": "in_progress", "role": "assistant"}
        self.opened: dict[str, Any] = {**opened, "content": []}
        self.whole = {**opened, "status": status, "content": [self._part(self._text)]}

    def _part(self, text: str) -> dict[str, Any]:
        if self._refuses:
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}

    def events(self) -> Iterator[ItemEvent]:
        at: dict[str, Any] = {"content_index": 0}
        prefix = "response.refusal" if self._refuses else "response.output_text"
        key = "refusal" if self._refuses else "text"
        logprobs: dict[str, Any] = {} if self._refuses else {"logprobs": []}
        yield "response.content_part.added", {**at, "part": self._part("")}, False
        for token in self._tokens:
            yield f"{prefix}.delta", {**at, "delta": token, **logprobs}, True
        yield f"{prefix}.done", {**at, key: self._text, **logprobs}, False
        yield "response.content_part.done", {**at, "part": self._part(self._text)}, False


class _Called:
    """A call of a function or of a custom tool."""

    def __init__(self, call: Call, name: str, status: str) -> None:
        self._call = call
        self._key = "input" if call.custom else "arguments"
        self.whole: dict[str, Any] = {
            "id": f"{'ctc' if call.custom else 'fc'}_{name}",
            "type": "custom_tool_call" if call.custom else "function_call",
            "status": status,
            self._key: call.arguments,
            "call_id": call.id,
            "name": call.name,
        }
        if call.namespace is not None:
            self.whole["namespace"] = call.namespace
        self.opened = {**self.whole, "status": "in_progress", self._key: ""}

    def events(self) -> Iterator[ItemEvent]:
        call = self._call
        custom = call.custom
        prefix = "response." + ("custom_tool_call_input" if custom else "function_call_arguments")
        for fragment in call.fragments:
            yield f"{prefix}.delta", {"delta": fragment}, True
        named = {} if custom else {"name": call.name}
        yield f"{prefix}.done", {self._key: call.arguments, **named}, False


def _parts(tokens: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The thinking in parts of two sentences."""
    rest = iter(tokens)
    while part := tuple(_sentences(rest)):
        yield part


def _sentences(tokens: Iterator[str]) -> Iterator[str]:
    full_stops = 0
    for token in tokens:
        yield token
        full_stops += token.endswith(".")
        if full_stops == _SENTENCES:
            return


Item = _Reasoning | _Message | _Called
"""opened: the item at its start. whole: at its end. events: between them."""


def items_of(reply: SimulatedReply, *, sealed: bool) -> list[Item]:
    """The items of an answer, in order. Only the last can be incomplete.

    sealed: whether reasoning has its `encrypted_content`.
    """
    count = bool(reply.signature) + bool(reply.text) + len(reply.calls)
    cut = "incomplete" if reply.stop in INCOMPLETE else "completed"
    items: list[Item] = []

    def named() -> tuple[str, str]:
        n = len(items)
        return f"{reply.id[:46]}{n:02d}", cut if n == count - 1 else "completed"

    if reply.signature:
        items.append(_Reasoning(reply, f"rs_{named()[0]}", sealed=sealed))
    if reply.text:
        name, status = named()
        items.append(_Message(reply, f"msg_{name}", status))
    for call in reply.calls:
        name, status = named()
        items.append(_Called(call, name, status))
    return items
