"""The events of a reply, in no vendor's shape, and the fold that makes a whole reply of them.

A dialect's `read_answer` gives these events, another dialect's `write_answer` takes them.

Theory of operation. The events come in this order and no other:

    reply     Started  (Counted | block)*  Stopped        or, anywhere after Started: Failed
    block     TextDelta+ Cited* Closed
              RefusalDelta+ Closed
              ThinkingDelta* Signed? Closed               at least one of the two
              ToolOpened ToolDelta* Closed

One block is open at a time; `Closed` ends it, before the next begins and before `Stopped`. Deltas
are never empty. Exactly one of `Stopped` and `Failed` comes, and it is the last event. A usage
count replaces the count before it (`Counted`, `Stopped.usage`); counts are never added.

An unstreamed body is the `fold` of such a sequence, so a stream and its unstreamed twin cannot
differ.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from msgspec import Struct

from middlewares.exchange import Usage

from .conversation import Citation, Refusal, Signature, Text, Thinking, ToolCall

Stop = Literal["end", "stop_sequence", "length", "tool_use", "refusal", "pause"]


class Started(Struct, gc=False):
    """The model has begun."""


class TextDelta(Struct, gc=False):
    """A piece of the answer's text."""

    text: str


class RefusalDelta(Struct, gc=False):
    """A piece of a refusal's text."""

    text: str


class Cited(Struct, gc=False):
    """A citation of the open text."""

    citation: Citation


class ThinkingDelta(Struct, gc=False):
    """A piece of the thinking."""

    text: str


class Signed(Struct, gc=False):
    """The signature of the open thinking; just before its Closed.

    The origin's model is "": `restore` sets it.
    """

    signature: Signature


class ToolOpened(Struct, gc=False):
    """A tool call begins. id: "" when the upstream gave none."""

    id: str
    name: str
    custom: bool = False
    namespace: str = ""


class ToolDelta(Struct, gc=False):
    """A piece of the open call's arguments: JSON text, or a custom tool's raw text."""

    text: str


class Closed(Struct, gc=False):
    """The open block is complete."""


class Counted(Struct, gc=False):
    """The usage that the upstream has reported so far."""

    usage: Usage


class Stopped(Struct, gc=False):
    """The reply is complete.

    sequence: the stop string, when that is the reason and it is known.
    explanation: of a refusal, in the model's words. usage: None if the upstream reported none.
    """

    reason: Stop
    sequence: str | None = None
    explanation: str | None = None
    usage: Usage | None = None


class Failed(Struct, gc=False):
    """The upstream failed.

    kind: of `middlewares.error_kinds.KINDS`. reason: for the log. upstream_message: the upstream's
    own words, for callers to whom it is disclosed. wait: seconds that the upstream asked to wait.
    """

    reason: str
    kind: str = "upstream_error"
    upstream_message: str = ""
    wait: int | None = None


Event = (
    Started
    | TextDelta
    | RefusalDelta
    | Cited
    | ThinkingDelta
    | Signed
    | ToolOpened
    | ToolDelta
    | Closed
    | Counted
    | Stopped
    | Failed
)

CONTENT = (TextDelta, RefusalDelta, ThinkingDelta, Signed, ToolOpened, Stopped)
"""Events that prove output of the model; `Stopped` proves that there is none."""


class Reply(Struct):
    """A whole answer. failed: set if the sequence broke off; the blocks before it are kept."""

    blocks: list[Text | Refusal | Thinking | ToolCall]
    stop: Stop = "end"
    sequence: str | None = None
    explanation: str | None = None
    usage: Usage | None = None
    failed: Failed | None = None


def fold(events: Iterable[Event]) -> Reply:
    """Fold `events` into a reply."""
    reply = Reply(blocks=[])
    text: list[str] = []
    cited: list[Citation] = []
    open_: Text | Refusal | Thinking | ToolCall | None = None
    for event in events:
        match event:
            case TextDelta():
                open_ = open_ or Text(text="")
                text.append(event.text)
            case RefusalDelta():
                open_ = open_ or Refusal(text="")
                text.append(event.text)
            case ThinkingDelta():
                open_ = open_ or Thinking()
                text.append(event.text)
            case ToolDelta():
                text.append(event.text)
            case Cited() if isinstance(open_, Text):
                cited.append(event.citation)
            case Signed():
                open_ = open_ if isinstance(open_, Thinking) else Thinking()
                open_.signature = event.signature
            case ToolOpened():
                open_ = ToolCall(
                    id=event.id, name=event.name, custom=event.custom, namespace=event.namespace
                )
            case Closed() if open_ is not None:
                if isinstance(open_, ToolCall):
                    open_.arguments = "".join(text)
                else:
                    open_.text = "".join(text)
                if cited:
                    if isinstance(open_, Text):
                        open_.citations = tuple(cited)
                    cited.clear()
                reply.blocks.append(open_)
                open_ = None
                text.clear()
            case Counted():
                reply.usage = event.usage
            case Stopped():
                reply.stop, reply.sequence = event.reason, event.sequence
                reply.explanation = event.explanation
                reply.usage = event.usage or reply.usage
            case Failed():
                reply.failed = event
            case _:
                pass
    return reply


def unfold(reply: Reply) -> Iterator[Event]:
    """The shortest sequence of events whose `fold` is `reply`."""
    yield Started()
    for block in reply.blocks:
        match block:
            case Text():
                if not block.text:
                    continue
                yield TextDelta(block.text)
                for citation in block.citations:
                    yield Cited(citation)
            case Refusal():
                if not block.text:
                    continue
                yield RefusalDelta(block.text)
            case Thinking():
                if not (block.text or block.signature):
                    continue
                if block.text:
                    yield ThinkingDelta(block.text)
                if block.signature is not None:
                    yield Signed(block.signature)
            case ToolCall():
                yield ToolOpened(block.id, block.name, block.custom, block.namespace)
                if block.arguments:
                    yield ToolDelta(block.arguments)
        yield Closed()
    if reply.failed is not None:
        yield reply.failed
        return
    yield Stopped(reply.stop, reply.sequence, reply.explanation, reply.usage)
