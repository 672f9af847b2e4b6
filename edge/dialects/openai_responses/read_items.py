"""Decode the items of an upstream's answer into blocks.

An item arrives in its events, and again as a whole when it is done. Content that the events lack is
taken from the whole, since some servers send only one of the two; content that was sent is not
repeated. Characters are counted to tell them apart, since a whole repeats its deltas.

    item                             blocks
    message                          a text or a refusal for each part
    reasoning                        one thinking block; an empty line between its parts
    function_call, custom_tool_call  one call
    all others                       none: they are the vendor's own
"""

from msgspec import Raw

from edge.dialects.conversation import Citation, Origin, Signature
from edge.dialects.events import (
    Cited,
    Closed,
    Event,
    RefusalDelta,
    Signed,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolOpened,
)

from . import wire
from .item_matching import ItemMarks

_ORIGIN = Origin("responses")
_PARAGRAPH = "\n\n"


class _ItemReader(ItemMarks):
    """Base class of the readers. waiting: events queued while another item is passed on."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[wire.Event] = []


class MessageItemReader(_ItemReader):
    """Reads a message. text: holds the number of characters of text in the answer so far."""

    __slots__ = ("_begun", "_cited", "_kind", "_place", "_sent", "_text")

    def __init__(self, text: list[int]) -> None:
        super().__init__()
        self._text = text
        self._sent: dict[int, int] = {}
        self._cited: list[Raw] = []
        self._place = 0
        self._begun = 0
        self._kind = ""

    def take(self, event: wire.Event, out: list[Event]) -> None:
        """Handle one of its events."""
        place = event.content_index or 0
        match event.type:
            case "response.output_text.delta":
                self._send("text", place, event.delta, out)
            case "response.refusal.delta":
                self._send("refusal", place, event.delta, out)
            case "response.output_text.done":
                self._rest("text", place, event.text, out)
            case "response.refusal.done":
                self._rest("refusal", place, event.refusal, out)
            case "response.output_text.annotation.added":
                self._cited.append(event.annotation)

    def _send(self, kind: str, place: int, text: str, out: list[Event]) -> None:
        if not text:
            return
        if self._kind != kind or self._place != place:
            self.close(out)
            self._kind, self._place, self._begun = kind, place, self._text[0]
        self._sent[place] = self._sent.get(place, 0) + len(text)
        if kind == "text":
            self._text[0] += len(text)
            out.append(TextDelta(text))
        else:
            out.append(RefusalDelta(text))

    def _rest(self, kind: str, place: int, text: str | None, out: list[Event]) -> None:
        if text:
            self._send(kind, place, text[self._sent.get(place, 0) :], out)

    def whole(self, item: wire.Item, out: list[Event]) -> None:
        """Emit the unsent content of the finished item."""
        for place, part in enumerate(item.content or ()):
            if part.type == "refusal":
                self._rest("refusal", place, part.refusal, out)
                continue
            self._rest("text", place, part.text, out)
            if part.annotations and not self._cited and self._place == place:
                self._cited = part.annotations

    @property
    def is_blank(self) -> bool:
        """Whether it has no content yet."""
        return not self._sent and not self.waiting

    def missed(self, item: wire.Item, out: list[Event]) -> None:
        """Emit the parts of the finished item that have not been sent at all."""
        for place, part in enumerate(item.content or ()):
            if place not in self._sent:
                kind = "refusal" if part.type == "refusal" else "text"
                self._send(kind, place, part.refusal or part.text or "", out)
        self.close(out)

    def close(self, out: list[Event]) -> None:
        """Close the open block."""
        if not self._kind:
            return
        if self._kind == "text":
            found = map(wire.annotation_of, self._cited)
            out += [Cited(self._citation(each)) for each in found if each is not None]
        self._cited = []
        self._kind = ""
        out.append(Closed())

    def _citation(self, annotation: wire.Annotation) -> Citation:
        start, end = annotation.start_index, annotation.end_index
        return Citation(
            annotation.url or "",
            annotation.title or "",
            "",
            None if start is None else start + self._begun,
            None if end is None else end + self._begun,
        )


class ReasoningItemReader(_ItemReader):
    """Reads reasoning: its summary, or its full text. Servers may send the same in both."""

    __slots__ = ("_open", "_place", "_sent", "_signed", "_source")

    def __init__(self) -> None:
        super().__init__()
        self._open = False
        self._signed = False
        self._place = 0
        self._sent: dict[int, int] = {}
        self._source = ""

    def take(self, event: wire.Event, out: list[Event]) -> None:
        """Handle one of its events."""
        match event.type:
            case "response.reasoning_summary_text.delta":
                self._send("summary", event.summary_index or 0, event.delta, out)
            case "response.reasoning_text.delta" | "response.reasoning.delta":
                self._send("content", event.content_index or 0, event.delta, out)
            case "response.reasoning_summary_text.done":
                self._rest("summary", event.summary_index or 0, event.text, out)
            case "response.reasoning_text.done" | "response.reasoning.done":
                self._rest("content", event.content_index or 0, event.text, out)

    def _send(self, source: str, place: int, text: str, out: list[Event]) -> None:
        if not text or self._source not in ("", source):
            return
        if self._open and self._place != place:
            out.append(ThinkingDelta(_PARAGRAPH))
        self._open, self._source, self._place = True, source, place
        self._sent[place] = self._sent.get(place, 0) + len(text)
        out.append(ThinkingDelta(text))

    def _rest(self, source: str, place: int, text: str | None, out: list[Event]) -> None:
        if text and self._source in ("", source):
            self._send(source, place, text[self._sent.get(place, 0) :], out)

    def whole(self, item: wire.Item, out: list[Event]) -> None:
        """Emit the unsent content of the finished item."""
        for source, parts in (("summary", item.summary), ("content", item.content)):
            for place, part in enumerate(parts or ()):
                self._rest(source, place, part.text, out)
        if item.encrypted_content:
            self._open = self._signed = True
            signature = Signature(
                origin=_ORIGIN,
                data=item.encrypted_content,
                id=item.id or "",
                redacted=not self._sent,
            )
            out.append(Signed(signature))

    @property
    def is_blank(self) -> bool:
        """Whether it has no content yet."""
        return not self._open and not self.waiting

    def missed(self, item: wire.Item, out: list[Event]) -> None:
        """Emit the finished item if nothing of it has been sent."""
        if not self._sent and not self._signed:
            self.whole(item, out)
            self.close(out)

    def close(self, out: list[Event]) -> None:
        """Close the open block."""
        if self._open:
            self._open = False
            out.append(Closed())


class CallItemReader(_ItemReader):
    """Reads a tool call. It waits for its name if a server sends that later."""

    __slots__ = ("_begun", "_custom", "_item", "_open", "_sent")

    def __init__(self, item: wire.Item) -> None:
        super().__init__()
        self._custom = item.type == "custom_tool_call"
        self._item = item
        self._begun = False
        self._open = False
        self._sent = 0

    def take(self, event: wire.Event, out: list[Event]) -> None:
        """Handle one of its events."""
        match event.type:
            case "response.output_item.added":
                self._begin(self._item, out)
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                self._send(event.delta, out)
            case "response.function_call_arguments.done":
                self._send((event.arguments or "")[self._sent :], out)
            case "response.custom_tool_call_input.done":
                self._send((event.input or "")[self._sent :], out)

    def _begin(self, item: wire.Item, out: list[Event]) -> None:
        if not self._begun and item.name:
            self._begun = self._open = True
            id_ = item.call_id or item.id or ""
            out.append(ToolOpened(id_, item.name, self._custom, item.namespace or ""))

    def _send(self, text: str, out: list[Event]) -> None:
        if text and self._open:
            self._sent += len(text)
            out.append(ToolDelta(text))

    def whole(self, item: wire.Item, out: list[Event]) -> None:
        """Emit the unsent content of the finished item."""
        self._begin(item, out)
        text = item.input if self._custom else item.arguments
        self._send((text or "")[self._sent :], out)

    @property
    def is_blank(self) -> bool:
        """Whether it has no content yet."""
        return not self._sent and not self.waiting

    def missed(self, item: wire.Item, out: list[Event]) -> None:
        """Emit the finished item if its name was unknown before."""
        if not self._begun:
            self.whole(item, out)
            self.close(out)

    def close(self, out: list[Event]) -> None:
        """Close the open block."""
        if self._open:
            self._open = False
            out.append(Closed())


ItemReader = MessageItemReader | ReasoningItemReader | CallItemReader
"""take: handles one event. whole: emits the unsent rest of the finished item. close: ends it.
missed: handles an item of the finished answer that was done before."""


def reader_of(item: wire.Item, text: list[int]) -> ItemReader:
    """The reader of an item whose type is passed on (`wire.ACTED_ON`).

    text: see `MessageItemReader`.
    """
    match item.type:
        case "message":
            return MessageItemReader(text)
        case "reasoning":
            return ReasoningItemReader()
    return CallItemReader(item)
