"""The grammar of `edge.dialects.events`, checked on the events of one reply."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from edge.dialects.events import (
    Cited,
    Closed,
    Counted,
    Event,
    Failed,
    RefusalDelta,
    Signed,
    Started,
    Stopped,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolOpened,
)

_BETWEEN = (TextDelta, RefusalDelta, ThinkingDelta, Signed, ToolOpened, Counted, Stopped)
_AFTER: Mapping[type, tuple[type, ...]] = {
    Started: _BETWEEN,
    Counted: _BETWEEN,
    Closed: _BETWEEN,
    TextDelta: (TextDelta, Cited, Closed),
    Cited: (Cited, Closed),
    RefusalDelta: (RefusalDelta, Closed),
    ThinkingDelta: (ThinkingDelta, Signed, Closed),
    Signed: (Closed,),
    ToolOpened: (ToolDelta, Closed),
    ToolDelta: (ToolDelta, Closed),
}
_DELTAS = (TextDelta, RefusalDelta, ThinkingDelta, ToolDelta)


def check_events(events: Sequence[Event]) -> None:
    """Raises AssertionError where `events` are not the whole of one reply.

    A count may also stand right before a failure, whatever is open.
    """
    assert events, "nothing at all, not even a failure"
    last = events[-1]
    assert isinstance(last, Stopped | Failed), f"the last is {last}"
    if isinstance(events[0], Failed):
        assert len(events) == 1
        return
    assert isinstance(events[0], Started), f"the first is {events[0]}"
    for before, after in pairwise(events):
        assert not isinstance(before, Stopped | Failed), f"{after} comes after the end"
        if isinstance(last, Failed) and isinstance(after, Failed | Counted):
            continue
        if isinstance(last, Failed) and isinstance(before, Counted):
            continue
        assert isinstance(after, _AFTER[type(before)]), f"{after} comes after {before}"
    for event in events:
        assert not isinstance(event, _DELTAS) or event.text, f"empty: {event}"
