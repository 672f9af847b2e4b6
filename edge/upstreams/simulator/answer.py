"""Build an answer as head, timed steps and ending, with its faults. No I/O.

Theory of operation. An answer is a head and *steps*, each a time and the bytes written then, and
an ending: `whole`, `cut` (the connection breaks), `lost` (it breaks before the head) or `silent`
(nothing more until the client hangs up). All times are seconds since the request was complete. A
stream is made of one step per event; faults that count events are worked in first, those about
bytes last.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from edge.upstreams import Header

from .chat import Frame
from .controls import Controls
from .stats import Used

Step = tuple[float, bytes]
Ending = Literal["whole", "cut", "lost", "silent"]

HELD = 1e6
"""Seconds beyond the lifetime of any server: such a step waits for a release."""
_PING_GAP = 0.02
_PART_GAP = 0.002
JSON = b"application/json"
EVENTS = b"text/event-stream; charset=utf-8"
_BREAKING = frozenset(
    ("html", "empty", "garbage", "overlong", "error-event", "cut", "lost", "end", "stall")
)
"""Faults that make an answer incomplete."""
_HTML = (
    b"<!DOCTYPE html><html><head><title>502</title></head>"
    b"<body><h1>Bad gateway</h1><p>SimProvider sim-gpu-17.internal.example</p></body></html>"
)
_LONG = b"data: ".ljust(1 << 20, b"0")
_LONGER = 17
"""Pieces of one event, 1 MiB each: more than any client should buffer."""


class SimulatedAnswer(msgspec.Struct, frozen=True):
    """An answer: what to write, and when.

    length: of the whole body, or None for a stream of unknown length. When the ending is not
        `whole`, the steps hold less than `length`.
    head_at: when the response head leaves.
    used: its usage; None if it reports none or is incomplete.
    model: the requested model, or "". counts: what it adds to the counters of `Stats`.
    """

    status: int
    headers: tuple[Header, ...]
    length: int | None
    head_at: float
    steps: tuple[Step, ...]
    ending: Ending = "whole"
    used: Used | None = None
    model: str = ""
    counts: tuple[tuple[str, int], ...] = ()


class FaultFrames(msgspec.Struct, frozen=True):
    """A dialect's bytes for the faults of a stream."""

    garbage: bytes
    error: bytes
    waiting: Iterable[bytes] = ()


def plain(
    body: bytes,
    controls: Controls,
    *,
    headers: tuple[Header, ...] = (),
    status: int = 200,
    seconds: float = 0.0,
    used: Used | None = None,
    kind: bytes = JSON,
) -> SimulatedAnswer:
    """An unstreamed answer of content type `kind` that is ready after `seconds`."""
    fault = controls.fault
    head_at = fault.get("slow-headers", 0.0) + fault.get("slow-first", 0.0) + seconds
    if "hold" in fault:
        head_at += HELD
    if "html" in fault:
        kind, body = b"text/html", _HTML
    elif "empty" in fault:
        body = b""
    elif "garbage" in fault or "overlong" in fault:
        body = body[:-2] + b',"'
    ending = _ending(fault)
    steps: tuple[Step, ...] = ((head_at, body),) if body else ()
    if ending == "lost":
        steps = ()
    elif ending != "whole":
        steps = ((head_at, body[: len(body) // 2]),)
    return SimulatedAnswer(
        status=status,
        headers=((b"content-type", kind), *headers),
        length=len(body),
        head_at=head_at,
        steps=_in_parts(steps, fault),
        ending=ending,
        used=None if _BREAKING & fault.keys() else used,
    )


def stream(
    frames: Iterable[Frame],
    controls: Controls,
    fault_frames: FaultFrames,
    *,
    headers: tuple[Header, ...] = (),
    used: Used | None = None,
    kind: bytes = EVENTS,
) -> SimulatedAnswer:
    """A streamed answer of content type `kind`, an event a step."""
    fault = controls.fault
    if "html" in fault:
        return plain(b"", controls, headers=headers)
    head_at = fault.get("slow-headers", 0.0)
    steps = _schedule(frames, controls, head_at + fault.get("slow-first", 0.0))
    if "pings" in fault:
        steps = _with_pings(steps, list(fault_frames.waiting))
    if "empty" in fault:
        steps = []
    if "garbage" in fault:
        at = int(fault["garbage"])
        steps.insert(at, (_time_at(steps, at, head_at), fault_frames.garbage))
    if "overlong" in fault:
        at = int(fault["overlong"])
        steps = [*steps[:at], *[(_time_at(steps, at, head_at), _LONG)] * _LONGER]
    if "error-event" in fault:
        at = int(fault["error-event"])
        steps = [*steps[:at], (_time_at(steps, at, head_at), fault_frames.error)]
    ending = _ending(fault)
    if ending == "lost":
        steps = []
    elif ending != "whole":
        steps = steps[: int(fault["cut" if ending == "cut" else "stall"])]
    if "end" in fault:
        steps = steps[: int(fault["end"])]
    if "hold" in fault:
        count = int(fault["hold"])
        steps = [*steps[:count], *((at + HELD, event) for at, event in steps[count:])]
    if "crlf" in fault:
        steps = [(at, event.replace(b"\n", b"\r\n")) for at, event in steps]
    return SimulatedAnswer(
        status=200,
        headers=((b"content-type", kind), (b"cache-control", b"no-cache"), *headers),
        length=None,
        head_at=head_at,
        steps=_in_parts(steps, fault),
        ending=ending,
        used=None if _BREAKING & fault.keys() else used,
    )


def seconds_for(tokens: int, controls: Controls) -> float:
    """How long an unstreamed answer of so many tokens takes."""
    return controls.first + (tokens / controls.rate if controls.rate else 0.0)


def _ending(fault: Mapping[str, float]) -> Ending:
    if "lost" in fault:
        return "lost"
    if "cut" in fault:
        return "cut"
    return "silent" if "stall" in fault else "whole"


def _schedule(frames: Iterable[Frame], controls: Controls, start: float) -> list[Step]:
    """Token n is due `first + n / rate` after the start, any other frame with the one before."""
    gap = 1.0 / controls.rate if controls.rate else 0.0
    steps: list[Step] = []
    now = start
    tokens = 0
    for frame, is_token in frames:
        if is_token:
            now = start + controls.first + tokens * gap
            tokens += 1
        steps.append((now, frame))
    return steps


def _with_pings(steps: list[Step], waiting: list[bytes]) -> list[Step]:
    start = steps[0][0]
    delay = len(waiting) * _PING_GAP
    pings = [(start + n * _PING_GAP, frame) for n, frame in enumerate(waiting, 1)]
    return [steps[0], *pings, *((at + delay, event) for at, event in steps[1:])]


def _time_at(steps: list[Step], index: int, otherwise: float) -> float:
    """When the step at `index` is due, or else the last one."""
    return steps[min(index, len(steps) - 1)][0] if steps else otherwise


def _in_parts(steps: Iterable[Step], fault: Mapping[str, float]) -> tuple[Step, ...]:
    if "byte-by-byte" in fault:
        return tuple((at, piece[n : n + 1]) for at, piece in steps for n in range(len(piece)))
    if "split-utf8" not in fault:
        return tuple(steps)
    parts: list[Step] = []
    late = 0.0
    for at, piece in steps:
        start = 0
        for n, byte in enumerate(piece):
            if byte & 0xC0 == 0x80:  # a continuation byte: cut before it, inside the code point
                parts.append((at + late, piece[start:n]))
                late += _PART_GAP
                start = n
        parts.append((at + late, piece[start:]))
    return tuple(parts)
