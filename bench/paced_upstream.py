"""A lean upstream: streams with an event each second, in which the time of its writing stands.

`python -m bench.paced_upstream PORT [SECONDS]` answers every POST with a stream of OpenAI chunks
without end: the first at once, then one each SECONDS (1.0). Several processes may serve one port.
The text of an event is `T` and CLOCK_MONOTONIC in nanoseconds, which all processes of the machine
share. Streams are due at moments of their own, in a wheel of 2 ms, and do not come in step.
"""

import resource
import select
import socket
import sys
from contextlib import suppress
from time import monotonic, monotonic_ns

_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_EVENT = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1764500000,'
    b'"model":"sim-1","choices":[{"index":0,"delta":{"content":"T%020d "},"finish_reason":null}]}'
    b"\n\n"
)
_CHUNK = b"%x\r\n" % len(_EVENT % 0) + _EVENT + b"\r\n"
_STEP = 0.002
_END = b"\r\n\r\n"


class PacedUpstream:
    """All connections of one process."""

    def __init__(self, port: int, pace: float) -> None:
        self._steps = max(1, round(pace / _STEP))
        self._wheel: list[set[socket.socket]] = [set() for _ in range(self._steps)]
        self._place: dict[int, set[socket.socket]] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._head: dict[int, bytes] = {}
        self._poll = select.epoll()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(4096)
        self._listener.setblocking(False)
        self._poll.register(self._listener, select.EPOLLIN)

    def run(self) -> None:
        """Serve until the process is ended."""
        print(f"serving {self._listener.getsockname()[1]}", flush=True)
        due = monotonic()
        turn = 0
        while True:
            for number, _ in self._poll.poll(max(0.0, due - monotonic()), 256):
                if number == self._listener.fileno():
                    self._accept()
                else:
                    self._read(number, turn)
            while monotonic() >= due:
                self._write(self._wheel[turn % self._steps])
                turn += 1
                due += _STEP

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(64):
                accepted, _address = self._listener.accept()
                accepted.setblocking(False)
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets[accepted.fileno()] = accepted
                self._poll.register(accepted, select.EPOLLIN)

    def _read(self, number: int, turn: int) -> None:
        accepted = self._sockets[number]
        try:
            data = accepted.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            return self._drop(number)
        data = self._head.pop(number, b"") + data
        head, found, body = data.partition(_END)
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        if not found or len(body) < length:
            self._head[number] = data
            return
        if number not in self._place:
            with suppress(OSError):
                accepted.send(_HEAD + _CHUNK % monotonic_ns())
            place = self._wheel[(turn + self._steps - 1) % self._steps]
            place.add(accepted)
            self._place[number] = place

    def _write(self, due: set[socket.socket]) -> None:
        for stream in due:
            with suppress(OSError):  # the reader is gone, which is read next, or is slow
                stream.send(_CHUNK % monotonic_ns())

    def _drop(self, number: int) -> None:
        gone = self._sockets.pop(number)
        self._head.pop(number, None)
        place = self._place.pop(number, None)
        if place is not None:
            place.discard(gone)
        self._poll.unregister(gone)
        gone.close()


def main(words: list[str]) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    PacedUpstream(int(words[0]), float(words[1]) if len(words) > 1 else 1.0).run()


if __name__ == "__main__":
    main(sys.argv[1:])
