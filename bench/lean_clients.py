"""Lean readers of many streams, in a process of their own.

`python -m bench.lean_clients URL KEY MODEL STREAMS RATE [h2]` opens RATE streams a second, each on
its own connection, or with `h2` each hundred on one connection of HTTP/2. It prints a line of JSON
when all have begun, and one for each line on standard input, over the events since the one before
(see `Readings`). The streams are those of `bench.paced_upstream`, whose events say when they were
written.
"""

import json
import re
import resource
import select
import socket
import struct
import sys
from array import array
from collections.abc import Sequence
from time import monotonic, monotonic_ns
from typing import Any
from urllib.parse import urlsplit

_WRITTEN = re.compile(rb"T(\d{20}) ")
PER_CONNECTION = 100
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_WIDE = (1 << 31) - 1


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the largest, in ms with one decimal."""
    if not values:
        return {}
    ordered = sorted(values)
    return {
        "p50": round(ordered[len(ordered) // 2], 2),
        "p99": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], 2),
        "max": round(ordered[-1], 2),
    }


class Readings:
    """What the events showed, in ms.

    late: from writing to reading. widened: by how much the time since the last event of the stream
    was longer at the reader than at the writer, 0 where it was shorter. first: from the request to
    the first event.
    """

    def __init__(self) -> None:
        self.late = array("d")
        self.widened = array("d")
        self.first = array("d")

    def line(self, open_streams: int, failed: int) -> str:
        found: dict[str, Any] = {
            "open": open_streams,
            "failed": failed,
            "events": len(self.late),
            "late": percentiles(self.late),
            "widened": percentiles(self.widened),
            "first": percentiles(self.first),
        }
        self.late, self.widened, self.first = array("d"), array("d"), array("d")
        return json.dumps(found)


class Streams:
    """All streams of one gateway."""

    def __init__(self, url: str, key: str, model: str, number: int, rate: float) -> None:
        place = urlsplit(url)
        self.address = place.hostname, place.port
        messages = [{"role": "user", "content": "Tell me how a stream is read. " * 6}]
        self.body = json.dumps({"model": model, "stream": True, "messages": messages}).encode()
        self.key = key
        self.path = place.path
        self.number = number
        self.rate = rate
        self.readings = Readings()
        self.asked: dict[Any, int] = {}
        self.late: dict[Any, float] = {}
        self.failed = 0
        self.said = b""
        self.poll = select.epoll()

    @property
    def flowing(self) -> int:
        return len(self.late)

    def open_one(self, n: int) -> None:
        raise NotImplementedError

    def on_ready(self, number: int, event: int) -> None:
        raise NotImplementedError

    def read(self, stream: Any, data: bytes) -> None:
        """Note the events of `stream` in `data`, as a rule one."""
        now = monotonic_ns()
        for match in _WRITTEN.finditer(data):
            late = (now - int(match[1])) / 1e6
            before = self.late.get(stream)
            self.readings.late.append(late)
            if before is None:
                self.readings.first.append((now - self.asked.pop(stream)) / 1e6)
            else:
                self.readings.widened.append(max(0.0, late - before))
            self.late[stream] = late

    def fail(self, stream: Any, said: bytes) -> None:
        """Count a stream that was refused or ended."""
        self.failed += 1
        self.late.pop(stream, None)
        self.asked.pop(stream, None)
        self.said = self.said or said

    def run(self) -> None:
        """Open the streams, and read until standard input ends."""
        began, opened, ready = monotonic(), 0, False
        self.poll.register(sys.stdin, select.EPOLLIN)
        while True:
            while opened < self.number and monotonic() >= began + opened / self.rate:
                self.open_one(opened)
                opened += 1
            wait = 0.1 if opened == self.number else began + opened / self.rate - monotonic()
            for number, event in self.poll.poll(max(0.0, wait), 256):
                if number == sys.stdin.fileno():
                    if not sys.stdin.readline():
                        return
                    print(self.readings.line(self.flowing, self.failed), flush=True)
                else:
                    self.on_ready(number, event)
            if not ready and opened == self.number and self.flowing + self.failed >= opened:
                ready = True
                if self.said:
                    print(self.said[:500], file=sys.stderr, flush=True)
                print(self.readings.line(self.flowing, self.failed), flush=True)


class PlainStreams(Streams):
    """Each stream on a connection of its own."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._sockets: dict[int, socket.socket] = {}
        self._begun: set[int] = set()
        self._request = (
            b"POST %s HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer %s\r\n"
            b"content-type: application/json\r\naccept: application/json\r\n"
            b"user-agent: OpenAI/Python 2.8.0\r\nx-stainless-lang: python\r\n"
            b"x-stainless-runtime: CPython\r\nx-stainless-retry-count: 0\r\n"
            b"content-length: %d\r\n\r\n%s"
            % (self.path.encode(), self.key.encode(), len(self.body), self.body)
        )

    def open_one(self, n: int) -> None:
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(self.address)
        self._sockets[one.fileno()] = one
        self.asked[one.fileno()] = monotonic_ns()
        self.poll.register(one, select.EPOLLOUT)

    def on_ready(self, number: int, event: int) -> None:
        one = self._sockets[number]
        if event & select.EPOLLOUT:
            try:
                one.send(self._request)
            except OSError as error:
                return self._lost(one, number, str(error).encode())
            return self.poll.modify(one, select.EPOLLIN)
        try:
            data = one.recv(1 << 16)
        except OSError as error:
            return self._lost(one, number, str(error).encode())
        if not data or (number not in self._begun and not data.startswith(b"HTTP/1.1 200")):
            return self._lost(one, number, data or b"ended")
        self._begun.add(number)
        self.read(number, data)

    def _lost(self, one: socket.socket, number: int, said: bytes) -> None:
        self.fail(number, said)
        self._begun.discard(number)
        self.poll.unregister(one)
        del self._sockets[number]
        one.close()


class SharedStreams(Streams):
    """A hundred streams on each connection, by HTTP/2 with prior knowledge (RFC 9113)."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._sockets: dict[int, socket.socket] = {}
        self._unread: dict[int, bytes] = {}
        self._latest: socket.socket | None = None
        pairs = (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", self.path.encode()),
            (b":authority", b"gateway"),
            (b"authorization", b"Bearer " + self.key.encode()),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(self.body)),
        )
        # Literal header fields, never indexed (RFC 7541 section 6.2.3); all are under 127 bytes.
        self._head = b"".join(
            b"\x10%c%b%c%b" % (len(name), name, len(value), value) for name, value in pairs
        )

    def open_one(self, n: int) -> None:
        if n % PER_CONNECTION == 0:
            self._connect()
        one = self._latest
        assert one is not None
        number = 1 + 2 * (n % PER_CONNECTION)
        self.asked[one.fileno(), number] = monotonic_ns()
        one.setblocking(True)
        one.sendall(_frame(_HEADERS, 4, number, self._head) + _frame(_DATA, 1, number, self.body))
        one.setblocking(False)

    def _connect(self) -> None:
        one = socket.create_connection(self.address)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = struct.pack(">HIHI", 4, _WIDE, 1, 0)  # initial window; no dynamic table
        window = struct.pack(">I", _WIDE - 65535)
        one.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW, 0, 0, window))
        one.setblocking(False)
        self._sockets[one.fileno()] = self._latest = one
        self._unread[one.fileno()] = b""
        self.poll.register(one, select.EPOLLIN)

    def on_ready(self, number: int, event: int) -> None:
        one = self._sockets[number]
        try:
            data = one.recv(1 << 18)
        except OSError as error:
            data = b""
            self.said = str(error).encode()
        if not data:
            for stream in [s for s in (*self.late, *self.asked) if s[0] == number]:
                self.fail(stream, b"the connection ended")
            self.poll.unregister(one)
            del self._sockets[number]
            return one.close()
        data = self._unread[number] + data
        at = 0
        while len(data) - at >= 9:
            size = int.from_bytes(data[at : at + 3])
            end = at + 9 + size
            if end > len(data):
                break
            self._on_frame(one, number, data[at + 3], data[at + 4], data[at + 5 : end])
            at = end
        self._unread[number] = data[at:]

    def _on_frame(
        self, one: socket.socket, number: int, kind: int, flags: int, data: bytes
    ) -> None:
        stream, payload = (number, int.from_bytes(data[:4])), data[4:]
        if kind == _DATA:
            self.read(stream, payload)
            if flags & 1:
                self.fail(stream, payload or b"ended")
        elif kind == _HEADERS and payload.lstrip(b"\x20")[:1] != b"\x88":
            # Not `:status 200` of the static table, after the new size of the dynamic one.
            self.said = self.said or payload
        elif kind == _SETTINGS and not flags & 1:
            one.send(_frame(_SETTINGS, 1, 0, b""))
        elif kind == _PING and not flags & 1:
            one.send(_frame(_PING, 1, 0, payload))
        elif kind == _RESET:
            self.fail(stream, b"reset")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def main(words: list[str]) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    url, key, model, number, rate, *more = words
    kind = SharedStreams if "h2" in more else PlainStreams
    kind(url, key, model, int(number), float(rate)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
