"""Encode the items of an answer: each from `output_item.added` to `output_item.done`.

    MessageItem     parts of text or refusal, one open at a time; annotations
    ReasoningItem   a summary with one part, and the signature
    CallItem        arguments of a function, or the raw input of a custom tool

An item gives its events as pairs of a type and members, without their number. Deltas differ only in
their text: `before` and `behind` are the bytes around it.
"""

from collections.abc import Iterator
from typing import Any

from edge.dialects import signatures
from edge.dialects.conversation import Citation, Signature
from edge.dialects.passthrough import encode

Pair = tuple[bytes, bytes]

_ADDED = b"response.output_item.added"
_DONE = b"response.output_item.done"


def _members(**values: Any) -> bytes:
    return encode(values)[1:-1]


class _OutputItem:
    """Base class of the items. whole: the finished item as JSON, b"" until then."""

    __slots__ = ("_id", "_texts", "before", "behind", "delta", "place", "whole")

    def __init__(self, id_: str, place: int) -> None:
        self._id = id_
        self._texts: list[str] = []
        self.place = place
        self.delta = b""
        self.before = b""
        self.behind = b""
        self.whole = b""

    def say(self, text: str) -> bytes:
        """The members of the delta event for `text`."""
        self._texts.append(text)
        return self.before + encode(text) + self.behind

    def _where(self, **more: Any) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self.place, **more}

    def _added(self, item: dict[str, Any]) -> Pair:
        return _ADDED, _members(output_index=self.place, item=item)

    def _done(self, item: dict[str, Any]) -> Pair:
        self.whole = encode(item)
        return _DONE, b'"output_index":%d,"item":%b' % (self.place, self.whole)

    def _expect(self, delta: bytes, where: dict[str, Any], behind: bytes = b"") -> None:
        self.delta = delta
        self.before = encode(where)[1:-1] + b',"delta":'
        self.behind = behind


class MessageItem(_OutputItem):
    """A message. kind: of the open part, "" without one."""

    __slots__ = ("_annotations", "_begun", "_length", "_measured", "_parts", "_size", "kind")

    def __init__(self, id_: str, place: int) -> None:
        super().__init__(id_, place)
        self.kind = ""
        self._parts: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._length = self._begun = 0
        self._measured = self._size = 0
        """How many texts of the open part were measured, and their characters."""

    def opened(self) -> Iterator[Pair]:
        """The events that begin the item."""
        yield self._added(self._item("in_progress"))

    def _item(self, status: str) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": self._parts,
        }

    def part(self, kind: str) -> Iterator[Pair]:
        """Open a part of the kind "text" or "refusal"."""
        yield from self._close_part()
        self.kind = kind
        where = self._where(content_index=len(self._parts))
        yield b"response.content_part.added", _members(**where, part=self._part(""))
        if kind == "text":
            self._expect(b"response.output_text.delta", where, b',"logprobs":[]')
        else:
            self._expect(b"response.refusal.delta", where)

    def _part(self, text: str) -> dict[str, Any]:
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return {
            "type": "output_text",
            "text": text,
            "annotations": self._annotations,
            "logprobs": [],
        }

    def cite(self, citation: Citation, before: int) -> Iterator[Pair]:
        """A citation of the text since the last `block_end`, if it has an address.

        before: characters of the answer's text before this message.
        """
        if not citation.url or self.kind != "text":
            return
        start, end = citation.start, citation.end
        annotation = {
            "type": "url_citation",
            "url": citation.url,
            "title": citation.title,
            "start_index": self._begun if start is None else max(0, start - before - self._length),
            "end_index": self._so_far() if end is None else max(0, end - before - self._length),
        }
        place = len(self._annotations)
        self._annotations.append(annotation)
        where = self._where(
            content_index=len(self._parts), annotation_index=place, annotation=annotation
        )
        yield b"response.output_text.annotation.added", _members(**where)

    def block_end(self) -> None:
        """Citations from here on refer to the text that follows."""
        self._begun = self._so_far()

    def _so_far(self) -> int:
        if self._measured < len(self._texts):
            self._size += sum(map(len, self._texts[self._measured :]))
            self._measured = len(self._texts)
        return self._size

    def length(self) -> int:
        """Characters of text in all parts."""
        return self._length + (self._so_far() if self.kind == "text" else 0)

    def _close_part(self) -> Iterator[Pair]:
        if not self.kind:
            return
        text = "".join(self._texts)
        where = self._where(content_index=len(self._parts))
        part = self._part(text)
        if self.kind == "text":
            self._length += len(text)
            yield b"response.output_text.done", _members(**where, text=text, logprobs=[])
        else:
            yield b"response.refusal.done", _members(**where, refusal=text)
        yield b"response.content_part.done", _members(**where, part=part)
        self._parts.append(part)
        self._annotations = []
        self._texts.clear()
        self._begun = self._measured = self._size = 0
        self.kind = ""

    def finished(self, status: str) -> Iterator[Pair]:
        """The events that end the item."""
        yield from self._close_part()
        yield self._done(self._item(status))


class ReasoningItem(_OutputItem):
    """A reasoning item. signature: in its own form if an upstream of this dialect made it."""

    __slots__ = ("_open", "signature")

    def __init__(self, id_: str, place: int) -> None:
        super().__init__(id_, place)
        self._open = False
        self.signature: Signature | None = None

    def opened(self) -> Iterator[Pair]:
        """The event that begins the item."""
        yield self._added({"id": self._id, "type": "reasoning", "summary": []})

    def part(self) -> Iterator[Pair]:
        """Begin the summary, if it has not begun."""
        if self._open:
            return
        self._open = True
        where = self._where(summary_index=0)
        part = {"type": "summary_text", "text": ""}
        yield b"response.reasoning_summary_part.added", _members(**where, part=part)
        self._expect(b"response.reasoning_summary_text.delta", where)

    def finished(self, status: str) -> Iterator[Pair]:
        """The events that end the item. status: unused, since a reasoning item has none."""
        summary: list[dict[str, Any]] = []
        if self._open:
            text = "".join(self._texts)
            summary = [{"type": "summary_text", "text": text}]
            where = self._where(summary_index=0)
            yield b"response.reasoning_summary_text.done", _members(**where, text=text)
            yield b"response.reasoning_summary_part.done", _members(**where, part=summary[0])
        item: dict[str, Any] = {"id": self._id, "type": "reasoning", "summary": summary}
        if self.signature is not None:
            native = self.signature.origin.dialect == "responses"
            item["encrypted_content"] = (
                self.signature.data if native else signatures.pack(self.signature)
            )
        yield self._done(item)


class CallItem(_OutputItem):
    """A call of one of the caller's tools."""

    __slots__ = ("_custom", "_item")

    def __init__(
        self, id_: str, place: int, *, call_id: str, name: str, namespace: str, custom: bool
    ) -> None:
        super().__init__(id_, place)
        self._custom = custom
        self._item: dict[str, Any] = {
            "id": id_,
            "type": "custom_tool_call" if custom else "function_call",
            "call_id": call_id,
            "name": name,
        }
        if namespace:
            self._item["namespace"] = namespace
        kind = b"custom_tool_call_input" if custom else b"function_call_arguments"
        self._expect(b"response." + kind + b".delta", self._where())

    def opened(self) -> Iterator[Pair]:
        """The event that begins the item."""
        yield self._added(self._with("", "in_progress"))

    def _with(self, text: str, status: str) -> dict[str, Any]:
        return {**self._item, "input" if self._custom else "arguments": text, "status": status}

    def finished(self, status: str) -> Iterator[Pair]:
        """The events that end the item. A function without arguments gets `{}`."""
        if not self._texts and not self._custom:
            yield self.delta, self.say("{}")
        text = "".join(self._texts)
        if self._custom:
            done = _members(**self._where(input=text))
            yield b"response.custom_tool_call_input.done", done
        else:
            done = _members(**self._where(name=self._item["name"], arguments=text))
            yield b"response.function_call_arguments.done", done
        yield self._done(self._with(text, status))


OutputItem = MessageItem | ReasoningItem | CallItem
