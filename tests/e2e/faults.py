"""What goes wrong with an upstream, and what its caller sees then: the table, and who plays it.

The simulator plays most of it, as a header says that its upstream's configuration has. What is
wrong before any HTTP is played by sockets of our own (`bad_places`).
"""

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from select import select
from typing import Any, Literal

import msgspec
import trustme

Kind = Literal[
    "upstream_error",
    "upstream_unavailable",
    "upstream_timeout",
    "rate_limited",
    "invalid_request",
    "request_too_large",
    "context_length_exceeded",
    "content_filtered",
]
Played = Literal["simulator", "refuses", "no TLS", "never accepts", "never answers"]


class Shown(msgspec.Struct, frozen=True):
    """What a caller sees of a kind: status, type, code; status and type in Messages."""

    status: int
    type: str
    code: str
    messages_status: int
    messages_type: str


SHOWN: Mapping[Kind, Shown] = {
    "upstream_error": Shown(502, "server_error", "upstream_error", 502, "api_error"),
    "upstream_unavailable": Shown(
        503, "server_error", "upstream_unavailable", 529, "overloaded_error"
    ),
    "upstream_timeout": Shown(504, "server_error", "upstream_timeout", 504, "api_error"),
    "rate_limited": Shown(429, "rate_limit_error", "rate_limit_exceeded", 429, "rate_limit_error"),
    "invalid_request": Shown(
        400, "invalid_request_error", "invalid_request", 400, "invalid_request_error"
    ),
    "request_too_large": Shown(
        413, "invalid_request_error", "request_too_large", 413, "request_too_large"
    ),
    "context_length_exceeded": Shown(
        400, "invalid_request_error", "context_length_exceeded", 400, "invalid_request_error"
    ),
    "content_filtered": Shown(
        400, "invalid_request_error", "content_filtered", 400, "invalid_request_error"
    ),
}


class Fault(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One way to fail, and what it is then.

    plain, stream: the kind, of an unstreamed answer and of a stream; None where the fault is none.
    words: for the simulator. limits: of the upstream; they are short only where they are the fault.
    elsewhere: whether another target is tried. retry_after: seconds of the answer's `Retry-After`.
    tells: whether it may come after the upstream has reported some of its usage.
    """

    name: str
    plain: Kind | None
    stream: Kind | None
    words: str = ""
    played: Played = "simulator"
    limits: Mapping[str, str] = {}
    elsewhere: bool = True
    retry_after: int | None = None
    tells: bool = False


def _status(status: int, kind: Kind, **more: Any) -> Fault:
    return Fault(name=f"status {status}", plain=kind, stream=kind, words=f"fault=status:{status}",
                 **more)  # fmt: skip


_CONNECT = {"connect_timeout": "300ms"}
_FIRST = {"first_token_timeout": "2s", "total_timeout": "2s"}
"""An unstreamed answer comes whole, at its end: only the total time bounds the wait for it."""
_AWHILE = {"first_token_timeout": "2s", "idle_timeout": "2s"}
"""Time enough, on a busy machine, for what comes before the silence."""

BEFORE: tuple[Fault, ...] = (
    Fault(
        name="connection refused",
        plain="upstream_unavailable",
        stream="upstream_unavailable",
        played="refuses",
    ),
    Fault(
        name="certificate of an unknown authority",
        plain="upstream_unavailable",
        stream="upstream_unavailable",
        played="no TLS",
    ),
    Fault(
        name="black hole: no connection is accepted",
        plain="upstream_timeout",
        stream="upstream_timeout",
        played="never accepts",
        limits=_CONNECT,
    ),
    Fault(
        name="black hole: a connection, and no answer",
        plain="upstream_timeout",
        stream="upstream_timeout",
        played="never answers",
        limits=_FIRST,
    ),
    _status(401, "upstream_error"),
    _status(403, "upstream_error"),
    _status(404, "upstream_error"),
    _status(408, "upstream_timeout"),
    _status(409, "upstream_error"),
    Fault(
        name="status 429 with `retry-after: 7`",
        plain="rate_limited",
        stream="rate_limited",
        words="fault=status:429 retry-after=7",
        retry_after=7,
    ),
    _status(431, "upstream_error"),
    _status(500, "upstream_error"),
    _status(502, "upstream_error"),
    _status(503, "upstream_unavailable", retry_after=1),
    _status(504, "upstream_timeout"),
    _status(529, "upstream_unavailable", retry_after=1),
    Fault(
        name="head too late",
        plain="upstream_timeout",
        stream="upstream_timeout",
        words="fault=slow-headers:60",
        limits=_FIRST,
    ),
    Fault(
        name="pings, and the first token too late",
        plain=None,
        stream="upstream_timeout",
        words="fault=pings:500",
        limits=_AWHILE,
        tells=True,
    ),
    Fault(
        name="silence before the content",
        plain="upstream_timeout",
        stream="upstream_timeout",
        words="fault=stall:1",
        limits=_AWHILE,
        tells=True,
    ),
    Fault(
        name="nothing in the body",
        plain="upstream_error",
        stream="upstream_error",
        words="fault=empty",
    ),
    Fault(
        name="end before the content",
        plain=None,
        stream="upstream_error",
        words="fault=end:1",
        tells=True,
    ),
    Fault(
        name="error event first",
        plain="upstream_unavailable",
        stream="upstream_unavailable",
        words="fault=error-event:0",
        retry_after=1,
    ),
    Fault(
        name="error event before the content",
        plain=None,
        stream="upstream_unavailable",
        words="fault=error-event:1",
        retry_after=1,
        tells=True,
    ),
    Fault(
        name="first frame, or body, that is not JSON",
        plain="upstream_error",
        stream="upstream_error",
        words="fault=garbage:0,end:1",
    ),
    Fault(
        name="second frame that is not JSON",
        plain=None,
        stream="upstream_error",
        words="fault=garbage:1,end:2",
        tells=True,
    ),
    Fault(
        name="frame without end",
        plain=None,
        stream="upstream_error",
        words="fault=overlong:0",
    ),
    Fault(
        name="web page in place of the answer",
        plain="upstream_error",
        stream="upstream_error",
        words="fault=html",
    ),
    Fault(
        name="connection cut at the head, or within the body",
        plain="upstream_error",
        stream="upstream_error",
        words="fault=cut:0",
    ),
    Fault(
        name="connection cut before the content",
        plain=None,
        stream="upstream_error",
        words="fault=cut:1",
        tells=True,
    ),
    Fault(
        name="answer not whole within the total time",
        plain="upstream_timeout",
        stream=None,
        words="fault=hold",
        limits={"total_timeout": "2s"},
    ),
    _status(400, "invalid_request", elsewhere=False),
    _status(413, "request_too_large", elsewhere=False),
    _status(422, "invalid_request", elsewhere=False),
    Fault(
        name="context overflow",
        plain="context_length_exceeded",
        stream="context_length_exceeded",
        words="fault=overflow",
        elsewhere=False,
    ),
)
"""Faults before the first content: nothing of them has reached the caller."""

AFTER: tuple[Fault, ...] = (
    Fault(name="connection cut", plain=None, stream="upstream_error", words="fault=hold:7,cut:8"),
    Fault(
        name="silence",
        plain=None,
        stream="upstream_timeout",
        words="fault=stall:7",
        limits={"idle_timeout": "2s"},
    ),
    Fault(
        name="frame that is not JSON",
        plain=None,
        stream="upstream_error",
        words="fault=hold:7,garbage:8,end:9",
    ),
    Fault(
        name="error event",
        plain=None,
        stream="upstream_unavailable",
        words="fault=hold:7,error-event:8",
    ),
    Fault(
        name="frame without end",
        plain=None,
        stream="upstream_error",
        words="fault=hold:7,overlong:8",
    ),
    Fault(
        name="end without its marks",
        plain=None,
        stream="upstream_error",
        words="fault=hold:7,end:8",
    ),
    Fault(
        name="answer not whole within the total time",
        plain=None,
        stream="upstream_timeout",
        words="fault=hold:7",
        limits={"total_timeout": "2s"},
    ),
)
"""Faults after it, of streams: what has been said stays said. They are held until all callers have
seen some of it: a fault that comes together with the first content is one before it."""


def rows() -> Iterator[str]:
    """The table as the operators' page has it."""
    for fault in BEFORE:
        elsewhere = "yes" if fault.elsewhere else "no"
        yield f"| {fault.name} | {_cell(fault.plain)} | {_cell(fault.stream)} | {elsewhere} |"
    for fault in AFTER:
        yield f"| {fault.name}, after content | no fault | {_cell(fault.stream)}, as event | no |"


def _cell(kind: Kind | None) -> str:
    if kind is None:
        return "no fault"
    shown = SHOWN[kind]
    status = str(shown.status)
    if shown.messages_status != shown.status:
        status += f" ({shown.messages_status})"
    return f"{status} `{kind}`"


@contextmanager
def bad_places(simulator: str) -> Iterator[Mapping[Played, str]]:
    """Who plays it: the origin of a base URL each."""
    with ExitStack() as stack:
        yield {
            "simulator": simulator,
            "refuses": stack.enter_context(refusing()),
            "no TLS": stack.enter_context(_unvouched()),
            "never accepts": stack.enter_context(_full()),
            "never answers": stack.enter_context(_listening(1000)),
        }


def _origin(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def refusing() -> Iterator[str]:
    """A port that is taken, and at which no process listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield _origin(bound)


@contextmanager
def _listening(backlog: int) -> Iterator[str]:
    """Connections are made by the system, and no process accepts them."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(backlog)
        yield _origin(listening)


@contextmanager
def _full() -> Iterator[str]:
    """All the connections that the system makes on its own have been made."""
    with _listening(0) as origin, ExitStack() as stack:
        port = int(origin.rpartition(":")[2])
        for _ in range(64):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            with suppress(BlockingIOError):
                client.connect(("127.0.0.1", port))
            if not select([], [client], [], 0.3)[1]:
                yield origin
                return
        raise AssertionError("connections are made without end")


class _Handshake(socketserver.BaseRequestHandler):
    context: ssl.SSLContext

    def handle(self) -> None:
        with suppress(OSError):  # the other side does not go on with it
            self.context.wrap_socket(self.request, server_side=True).close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def _unvouched() -> Iterator[str]:
    """HTTPS with a certificate of an unknown authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    handler = type("_Unvouched", (_Handshake,), {"context": context})
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


PROMPT = "Tell me of the mill, its wheel and its gate."
WHOLE = f"You said: {PROMPT}\n\nThis answer was made by the simulator."
PRICES = {"input": "1.009", "output": "8.011", "cache_read": "0.107", "cache_write": "1.259"}
