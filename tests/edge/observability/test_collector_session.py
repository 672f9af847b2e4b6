"""A collector's answer is read only as far as an export needs it."""

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

from edge.observability.collector_session import LONGEST, CollectorSession
from tests.waiting import DEADLINE

Write = Callable[[bytes], object]


@contextmanager
def collector(
    answer: Callable[[Write, threading.Event], None],
    *head: str,
    status: str = "200 OK",
    callers: set[object] | None = None,
) -> Iterator[str]:
    """A server whose answer `answer` writes until its event is set, with header lines `head`.
    callers: gets the address of each connection."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            if callers is not None:
                callers.add(self.client_address)
            self.rfile.read(int(self.headers["content-length"]))
            self.wfile.write("\r\n".join((f"HTTP/1.1 {status}", *head, "", "")).encode())
            try:
                answer(self.wfile.write, over)
            except OSError:
                over.set()
            self.close_connection = not any(line.startswith("content-length") for line in head)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/traces"
        finally:
            over.set()
            server.shutdown()


def test_an_answer_that_never_ends_is_left() -> None:
    left = threading.Event()

    def endless(write: Write, over: threading.Event) -> None:
        packed = gzip.compress(bytes(1 << 20))
        try:
            while not over.is_set():
                write(packed)
        except OSError:
            left.set()

    with collector(endless, "content-encoding: gzip") as url, CollectorSession(DEADLINE) as session:
        response = session.post(url, data=b"spans", allow_redirects=False)
        assert (response.status_code, response.content) == (200, b"")
        assert left.wait(DEADLINE)


def test_an_answer_that_comes_slowly_is_left_after_its_time() -> None:
    now = iter(range(0, 1000, 4))

    def slow(write: Write, over: threading.Event) -> None:
        while not over.wait(0.01):
            write(b"x")

    with (
        collector(slow, f"content-length: {LONGEST}") as url,
        CollectorSession(10.0, lambda: float(next(now))) as session,
    ):
        assert session.post(url, data=b"spans").status_code == 200
    assert next(now) <= 24


def test_an_answer_that_breaks_off_has_its_status() -> None:
    def breaks(write: Write, _: threading.Event) -> None:
        write(b"5\r\nab")

    head = "transfer-encoding: chunked"
    with collector(breaks, head) as url, CollectorSession(DEADLINE) as session:
        assert session.post(url, data=b"spans").status_code == 200


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_the_connection_of_a_short_answer_is_used_again(body: bytes) -> None:
    callers: set[object] = set()

    def short(write: Write, _: threading.Event) -> None:
        write(body)

    head = f"content-length: {len(body)}"
    with collector(short, head, callers=callers) as url, CollectorSession(DEADLINE) as session:
        for _ in range(3):
            assert session.post(url, data=b"spans").ok
    assert len(callers) == 1


@pytest.mark.parametrize("status", ["301 Moved Permanently", "307 Temporary Redirect"])
def test_spans_that_are_redirected_have_failed(status: str) -> None:
    head = ("content-length: 0", "location: /elsewhere")
    context = SpanContext(1, 2, False, TraceFlags(TraceFlags.SAMPLED))
    span = ReadableSpan("x", context=context, resource=Resource({}), start_time=1, end_time=2)
    with (
        collector(lambda *_: None, *head, status=status) as url,
        CollectorSession(DEADLINE) as session,
    ):
        exporter = OTLPSpanExporter(endpoint=url, session=session)
        assert exporter.export([span]) is SpanExportResult.FAILURE
