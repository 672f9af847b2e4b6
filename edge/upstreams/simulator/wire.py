"""Encode answers as HTTP/1.1 bytes, and cache them. No I/O."""

import msgspec

from edge.upstreams import Request

from .account import Account
from .answer import SimulatedAnswer
from .behaviour import STEERING, answer, is_cacheable
from .controls import Controls
from .form import SimulatedForm
from .stats import Used

REASONS = {
    200: b"OK",
    202: b"Accepted",
    206: b"Partial Content",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    410: b"Gone",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    416: b"Range Not Satisfiable",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
    529: b"Site Overloaded",
}


class AnswerWire(msgspec.Struct, frozen=True):
    """An answer as bytes on the wire: `writes[n]` at `times[n]` seconds after the request.

    The first write starts with the head, and is nothing else when `head_alone`.
    """

    times: tuple[float, ...]
    writes: tuple[bytes, ...]
    streams: bool
    ending: str
    head_alone: bool
    used: Used | None = None
    model: str = ""
    counts: tuple[tuple[str, int], ...] = ()


def wire_of(found: SimulatedAnswer, *, head_only: bool = False) -> AnswerWire:
    """Head and steps of an answer, framed; `head_only` for HEAD (RFC 9110, section 9.3.2)."""
    chunked = found.length is None
    if found.ending == "lost":
        return AnswerWire(
            (found.head_at,), (b"",), chunked, "lost", True, None, found.model, found.counts
        )
    lines = [b"HTTP/1.1 %d %s" % (found.status, REASONS.get(found.status, b"Unknown"))]
    lines += [b"%s: %s" % pair for pair in found.headers]
    lines.append(
        b"transfer-encoding: chunked" if chunked else b"content-length: %d" % (found.length or 0)
    )
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    steps = () if head_only else found.steps
    times = [at for at, _ in steps]
    writes = [b"%x\r\n%s\r\n" % (len(d), d) if chunked else d for _, d in steps]
    # The head goes with the first step when both are due: one write less.
    head_alone = not writes or times[0] > found.head_at
    if head_alone:
        times.insert(0, found.head_at)
        writes.insert(0, head)
    else:
        writes[0] = head + writes[0]
    if chunked and found.ending == "whole" and not head_only:
        writes[-1] += b"0\r\n\r\n"
    return AnswerWire(
        tuple(times),
        tuple(writes),
        chunked,
        found.ending,
        head_alone,
        found.used,
        found.model,
        found.counts,
    )


class WireCache:
    """Cache of encoded answers; cleared at `count` answers or `size` bytes."""

    def __init__(self, count: int, size: int) -> None:
        self._count = count
        self._size = size
        self._kept: dict[tuple[object, ...], AnswerWire] = {}
        self._bytes = 0

    def find(
        self, request: Request, body: bytes | SimulatedForm, defaults: Controls, account: Account
    ) -> AnswerWire:
        """The answer to a request, built once for all identical ones."""
        if isinstance(body, SimulatedForm) or not is_cacheable(request.target, body):
            return wire_of(
                answer(request.method, request.target, request.headers, body, defaults, account),
                head_only=request.method == b"HEAD",
            )
        steering = tuple(pair for pair in request.headers if pair[0] in STEERING)
        key = (request.method, request.target, steering, body)
        wire = self._kept.get(key)
        if wire is None:
            found = answer(request.method, request.target, steering, body, defaults, account)
            wire = wire_of(found, head_only=request.method == b"HEAD")
            self._keep(key, wire, len(body) + sum(map(len, wire.writes)))
        return wire

    def _keep(self, key: tuple[object, ...], wire: AnswerWire, size: int) -> None:
        if size > self._size // 4:
            return
        if len(self._kept) >= self._count or self._bytes + size > self._size:
            self._kept.clear()
            self._bytes = 0
        self._kept[key] = wire
        self._bytes += size
