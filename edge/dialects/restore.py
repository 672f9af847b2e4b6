"""Revert in an answer what its request had to change for the upstream's dialect.

A request is changed where the upstream's dialect cannot express it (see `codec.WrittenRequest`):
tools get other names, free text becomes JSON, a structured answer becomes a tool call, stop strings
are not sent. `ResponseRestorer` stands between the decoder and the writer and turns the upstream's
events into those that the caller's request asks for. It also makes ids valid in the caller's
dialect and corrects reasons to stop that contradict the answer.

Theory of operation. What happens to a delta depends on the block that is open:

    block                          deltas                          at Closed
    text                           through the filters, if any     rest of the filters
    tool, under its own name       pass                            -
    tool, wrapped or custom        collected                       one delta: value, or raw input
    the answer tool                text, through the filters       rest of the filters

Nothing passes after a stop string: `over` says that the upstream may be cancelled.
"""

from collections.abc import Iterable, Sequence

import msgspec

from middlewares.exchange import Usage

from . import tool_names
from .codec import WrittenRequest, WrittenTool
from .conversation import Origin
from .events import (
    Cited,
    Closed,
    Counted,
    Event,
    Failed,
    Signed,
    Started,
    Stop,
    Stopped,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolOpened,
)
from .filters import Fence, StopStrings, Unwrapped, custom_input, unwrapped


class ResponseRestorer:
    """Restores the events of one answer to the caller's request.

    sent: the request as sent. caller: the caller's dialect, for ids. seed: of new ids. taken: ids
    of calls in the conversation so far. origin: of the upstream's signatures.
    """

    __slots__ = (
        "_answering",
        "_called",
        "_caller",
        "_calls",
        "_filters",
        "_hold",
        "_kept",
        "_open",
        "_origin",
        "_quick",
        "_seed",
        "_sent",
        "_stops",
        "_taken",
        "_usage",
        "over",
        "passes_text",
    )

    def __init__(
        self, sent: WrittenRequest, *, caller: str, seed: str, taken: Iterable[str], origin: Origin
    ) -> None:
        self._sent = sent
        self._caller = caller
        self._seed = seed
        self._taken = set(taken)
        self._origin = origin
        self._stops = StopStrings(sent.stops) if sent.stops else None
        self._filters: list[Fence | Unwrapped | StopStrings] = []
        if sent.answer_wrapped:
            self._filters.append(Unwrapped())
        elif sent.fenced:
            self._filters.append(Fence())
        if self._stops is not None:
            self._filters.append(self._stops)
        self._quick = not self._filters
        self._open = False
        """Whether a part of the open block has been sent to the caller."""
        self._hold: WrittenTool | None = None
        self._kept: list[str] = []
        self._answering = False
        self._calls = 0
        self._called = False
        self._usage: Usage | None = None
        self.over = False
        self.passes_text = False
        """Whether `restore` would return a TextDelta as it is, and change nothing here."""

    def restore(self, events: Sequence[Event]) -> Sequence[Event]:
        """The caller's events for `events`."""
        if self._quick and not self._answering and len(events) == 1:
            kind = type(events[0])
            if kind is TextDelta or kind is ThinkingDelta:
                self._open = True
                self.passes_text = kind is TextDelta
                return events
        self.passes_text = False
        out: list[Event] = []
        for event in events:
            if self.over:
                break
            self._take(event, out)
        return out

    def _take(self, event: Event, out: list[Event]) -> None:
        match event:
            case TextDelta():
                self._text(event.text, out)
            case ToolDelta() if self._answering:
                self._text(event.text, out)
            case ToolDelta() if self._hold is not None:
                self._kept.append(event.text)
            case ToolOpened():
                self._opened(event, out)
            case Closed():
                self._closed(out)
            case Cited() if self._quick:
                out.append(event)
            case Cited():
                pass  # its offsets are into another text
            case Signed():
                signature = event.signature
                self._open = True
                out.append(Signed(msgspec.structs.replace(signature, origin=self._origin)))
            case Stopped():
                self._stopped(event, out)
            case Failed():
                self.over = True
                out.append(event)
            case Counted():
                self._usage = event.usage
                out.append(event)
            case Started():
                out.append(event)
            case _:
                self._open = True
                out.append(event)

    def _text(self, text: str, out: list[Event]) -> None:
        for each in self._filters:
            text = each.filter(text)
        self._show(text, out)

    def _show(self, text: str, out: list[Event]) -> None:
        if text:
            self._open = True
            out.append(TextDelta(text))
        if self._stops is not None and self._stops.found is not None:
            if self._open:
                out.append(Closed())
            self.over = True
            reason: Stop = "tool_use" if self._called else "stop_sequence"
            out.append(Stopped(reason, self._stops.found, usage=self._usage))

    def _opened(self, event: ToolOpened, out: list[Event]) -> None:
        name = event.name
        if name == self._sent.answer_tool and name:
            self._answering = True
            return
        self._open = self._called = True
        tool = self._sent.names.get(name) or WrittenTool(name, event.custom, event.namespace)
        if (tool.custom and not event.custom) or name in self._sent.wrapped:
            self._hold = tool
        custom = tool.custom or event.custom
        out.append(ToolOpened(self._id(event.id), tool.name, custom, tool.namespace))

    def _id(self, id_: str) -> str:
        fit = tool_names.call_id(id_, self._caller) if id_ else ""
        while not fit or fit in self._taken:
            fit = tool_names.new_call_id(f"{self._seed}:{self._calls}:{id_}", self._caller)
            self._calls += 1
        self._taken.add(fit)
        return fit

    def _closed(self, out: list[Event]) -> None:
        if self._hold is not None:
            whole = "".join(self._kept)
            whole = custom_input(whole) if self._hold.custom else unwrapped(whole)
            self._hold = None
            self._kept.clear()
            if whole:
                out.append(ToolDelta(whole))
        elif self._filters:
            rest = ""
            for each in self._filters:
                rest = (each.filter(rest) if rest else "") + each.filter_end()
            self._show(rest, out)
        if self._answering and not self._open:
            self._show("{}", out)  # a call without arguments
        self._answering = False
        if self._open and not self.over:
            out.append(Closed())
        self._open = False

    def _stopped(self, event: Stopped, out: list[Event]) -> None:
        self.over = True
        reason: Stop = event.reason
        if reason in ("end", "stop_sequence") and self._called:
            reason = "tool_use"
        elif reason == "tool_use" and not self._called:
            reason = "end"
        usage = event.usage or self._usage
        out.append(Stopped(reason, event.sequence, event.explanation, usage))
