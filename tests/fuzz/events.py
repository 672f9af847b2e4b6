"""Any bytes as a valid sequence of neutral events."""

import json

from edge.dialects.conversation import Citation, Origin, Signature
from edge.dialects.events import (
    Cited,
    Closed,
    Counted,
    Event,
    RefusalDelta,
    Signed,
    Started,
    Stop,
    Stopped,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolOpened,
)
from middlewares.exchange import Usage

_STOPS: tuple[Stop, ...] = ("end", "stop_sequence", "length", "refusal", "pause")
_ORIGINS = ("anthropic", "responses", "openai")


class _Tape:
    """Bytes, read one decision after the other; 0 when there are no more."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def number(self, below: int) -> int:
        self._at += 1
        return self._data[self._at - 1] % below if self._at <= len(self._data) else 0

    def text(self) -> str:
        """At least one character."""
        length = self.number(24) + 1
        taken = self._data[self._at : self._at + length]
        self._at += length
        return taken.decode("utf-8", "replace") or "x"


def events_of(data: bytes) -> list[Event]:
    """A whole reply that ends well."""
    tape = _Tape(data)
    out: list[Event] = [Started()]
    calls = 0
    while tape.left and len(out) < 200:
        match tape.number(7):
            case 0 | 1:
                out += [TextDelta(tape.text()) for _ in range(tape.number(4) + 1)]
                if tape.number(4) == 0:
                    out.append(Cited(Citation(url="https://c.example", title=tape.text())))
                out.append(Closed())
            case 2:
                out += [ThinkingDelta(tape.text()) for _ in range(tape.number(3) + 1)]
                if tape.number(2):
                    out.append(Signed(_opaque(tape, redacted=False)))
                out.append(Closed())
            case 3:
                out += [Signed(_opaque(tape, redacted=True)), Closed()]
            case 4 | 5:
                out += _call(tape, calls)
                calls += 1
            case 6:
                out += [RefusalDelta(tape.text()), Closed()]
        if tape.number(8) == 0:
            out.append(Counted(_usage(tape)))
    reason = "tool_use" if calls else _STOPS[tape.number(len(_STOPS))]
    sequence = "END" if reason == "stop_sequence" else None
    explanation = "No." if reason == "refusal" else None
    out.append(Stopped(reason, sequence, explanation, _usage(tape)))
    return out


def _opaque(tape: _Tape, *, redacted: bool) -> Signature:
    origin = Origin(_ORIGINS[tape.number(3)], "f00d")
    return Signature(origin=origin, data=tape.text(), redacted=redacted)


def _call(tape: _Tape, number: int) -> list[Event]:
    """A call of a function, its arguments the text of an object in any pieces."""
    opened = ToolOpened(f"call_{number}", f"tool_{tape.number(3)}")
    arguments = ""
    if tape.number(4):
        value = {tape.text(): tape.text(), "n": tape.number(256)}
        arguments = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    cut = tape.number(len(arguments)) if arguments else 0
    parts = [ToolDelta(part) for part in (arguments[:cut], arguments[cut:]) if part]
    return [opened, *parts, Closed()]


def _usage(tape: _Tape) -> Usage:
    output = tape.number(200) + 1
    return Usage(
        input=tape.number(200) + 1,
        output=output,
        cache_read=tape.number(200),
        cache_write=tape.number(200),
        reasoning=tape.number(output),
    )
