"""A collector of our own: takes spans by OTLP over HTTP, and shows them as trees."""

import gzip
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.sdk.trace import ReadableSpan

KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT"}


@dataclass(frozen=True)
class Span:
    """A span as it was exported. ids: lower hex, "" for no parent. took: seconds."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: bool
    took: float
    started: int
    state: str
    resource: dict[str, Any]
    events: int


def _value(given: AnyValue) -> Any:
    kind = given.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(one) for one in given.array_value.values)
    return getattr(given, str(kind))


def _span(given: SpanMessage, resource: dict[str, Any]) -> Span:
    return Span(
        name=given.name,
        kind=KINDS[given.kind],
        trace=given.trace_id.hex(),
        id=given.span_id.hex(),
        parent=given.parent_span_id.hex(),
        attributes={pair.key: _value(pair.value) for pair in given.attributes},
        failed=given.status.code == 2,
        took=(given.end_time_unix_nano - given.start_time_unix_nano) / 1e9,
        started=given.start_time_unix_nano,
        state=given.trace_state,
        resource=resource,
        events=len(given.events),
    )


def spans_of(exported: bytes) -> list[Span]:
    """The spans in the bytes of an export."""
    message = ExportTraceServiceRequest.FromString(exported)
    found = []
    for group in message.resource_spans:
        resource = {pair.key: _value(pair.value) for pair in group.resource.attributes}
        found += [_span(one, resource) for part in group.scope_spans for one in part.spans]
    return found


@dataclass
class Collected:
    """Takes spans in the process that makes them, in place of a processor."""

    ended: list[ReadableSpan] = field(default_factory=list)

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span."""
        self.ended.append(span)

    def exported(self) -> bytes:
        """The bytes that an export of them has."""
        exported: bytes = encode_spans(self.ended).SerializeToString()
        return exported

    def spans(self) -> list[Span]:
        """The spans, in the order in which they ended."""
        return spans_of(self.exported()) if self.ended else []


@dataclass
class Receiver:
    """What a collector was sent. headers: of each export."""

    url: str = ""
    exports: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def spans(self) -> list[Span]:
        """All spans so far."""
        return [span for exported in tuple(self.exports) for span in spans_of(exported)]

    def named(self, name: str) -> list[Span]:
        """Those of a name."""
        return [span for span in self.spans() if span.name == name]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A collector at a free port, which takes everything."""
    got = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            got.headers.append({name.lower(): value for name, value in self.headers.items()})
            got.exports.append(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    got.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def tree(spans: Sequence[Span]) -> dict[str, Any]:
    """Names of spans as a tree, by the parents among them."""
    ids = {span.id for span in spans}

    def below(parent: str) -> dict[str, Any]:
        return {span.name: below(span.id) for span in spans if span.parent == parent}

    return {span.name: below(span.id) for span in spans if span.parent not in ids}
