"""Structured logs: one JSON line per request, and the same form for everything else we say.

Lines are written through a buffer that a loop timer empties every 0.2 s, and at exit: a write per
request would cost more than making the line. `logging` of libraries goes the same way.
"""

import asyncio
import atexit
import logging
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter, time
from typing import Any, BinaryIO

import orjson
import structlog

from middlewares._asgi import ASGIApp, Receive, Scope, Send
from middlewares.exchange import Exchange

from .upstreams.refusal import redacted

_FLUSH_SECONDS = 0.2
_BUFFER_BYTES = 64 << 10


class LineSink:
    """A bounded buffer of lines before a binary file; safe to use from any thread."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lines: list[bytes] = []
        self._size = 0
        self._lock = threading.Lock()
        self._waiting: asyncio.AbstractEventLoop | None = None
        """The loop whose timer will flush; a loop that has ended will not."""

    def line(self, text: bytes) -> None:
        """Take one line without its end."""
        with self._lock:
            self._lines.append(text)
            self._size += len(text) + 1
            full = self._size >= _BUFFER_BYTES
        if full:
            return self.flush()
        waiting = self._waiting
        if waiting is None or waiting.is_closed():
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return self.flush()
            self._waiting = loop
            loop.call_later(_FLUSH_SECONDS, self._tick)

    msg = info = debug = warning = warn = error = critical = exception = fatal = log = line

    def _tick(self) -> None:
        self._waiting = None
        self.flush()

    def flush(self) -> None:
        """Write what has gathered. A log that cannot be written must not stop the service."""
        with self._lock:
            lines, self._lines, self._size = self._lines, [], 0
        if lines:
            lines.append(b"")
            try:
                self._out.write(b"\n".join(lines))
                self._out.flush()
            except (OSError, ValueError):
                pass


def _stamp(_logger: Any, level: str, event: dict[str, Any]) -> dict[str, Any]:
    event["level"] = level
    event["time"] = datetime.fromtimestamp(time(), UTC).isoformat(timespec="milliseconds")
    return event


def _render(_logger: Any, _level: str, event: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(event, default=str)
    except TypeError:  # half a surrogate pair, from a path or a header somebody made up
        for name, value in event.items():
            if isinstance(value, str):
                event[name] = value.encode("utf-8", "backslashreplace").decode()
        return orjson.dumps(event, default=str)


class _ToStructlog(logging.Handler):
    """Give the records of `logging` to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        structlog.get_logger().log(record.levelno, record.getMessage(), **fields)


def configure(*, level: str = "info", form: str = "json", out: BinaryIO | None = None) -> LineSink:
    """Set structlog and `logging` up for this process; call once, at start.

    level: debug | info | warning | error. form: json | console. out: standard error by default.
    """
    sink = LineSink(out if out is not None else sys.stderr.buffer)
    number = logging.getLevelNamesMapping()[level.upper()]
    processors: list[Any] = [_stamp]
    if form == "console":
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        processors += [console, lambda _logger, _level, text: text.encode()]
    else:
        processors += [_render]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=number, force=True)
    for noisy in ("httpx", "httpcore", "alembic", "sqlalchemy", "aiosqlite", "asyncio"):
        logging.getLogger(noisy).setLevel(max(number, logging.WARNING))
    atexit.register(sink.flush)
    return sink


def request_line(scope: Scope, exchange: Exchange, now: float) -> dict[str, Any]:
    """What the log says of one finished exchange. Times in milliseconds. Never a secret."""
    line: dict[str, Any] = {
        "request_id": exchange.request_id,
        "method": scope["method"],
        "path": _clean(scope["path"]),
        "status": exchange.status,
        "outcome": exchange.outcome,
        "duration_ms": round((now - exchange.started) * 1000, 3),
        "bytes_out": exchange.bytes_out,
        "client": exchange.client,
    }
    if exchange.client_request_id:
        line["client_request_id"] = _clean(exchange.client_request_id)
    principal = exchange.principal
    if principal is not None:
        line["key"] = principal.id
    if exchange.model:
        line["model"] = _clean(exchange.model)
        line["stream"] = exchange.stream
    if exchange.problem:
        line["problem"] = exchange.problem
        line["reason"] = exchange.reason
    if exchange.attempts:
        attempt = exchange.attempts[-1]
        line["served"] = exchange.served
        line["upstream"] = attempt.target.upstream
        line["upstream_model"] = attempt.target.model
        line["upstream_status"] = attempt.status
        line["upstream_ms"] = round(exchange.upstream_seconds * 1000, 3)
        if exchange.first_content:
            line["first_content_ms"] = round((exchange.first_content - exchange.started) * 1000, 3)
    usage = exchange.usage
    if usage is not None:
        line["input_tokens"] = usage.input
        line["output_tokens"] = usage.output
        line["cache_read_tokens"] = usage.cache_read
        line["cache_write_tokens"] = usage.cache_write
    return line


def _clean(text: str) -> str:
    """What a client wrote, less a key that it put where none belongs."""
    return redacted(text) if "sk-" in text else text


class RequestLogMiddleware:
    """Log one line per request when it has ended.

    Reads:   every field
    Writes:  nothing
    Rejects: never
    Order:   outside all but request_id and metrics, so that status and size are known
    Cost:    one structlog line of about fifteen fields; nothing per event
    """

    __slots__ = ("_log", "_quiet", "app")

    def __init__(
        self,
        app: ASGIApp,
        *,
        log: Callable[..., Any],
        quiet: frozenset[str] = frozenset(("ops",)),
    ) -> None:
        self.app = app
        self._log = log
        self._quiet = quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = Exchange.of(scope)
        try:
            await self.app(scope, receive, send)
        finally:
            if exchange.endpoint not in self._quiet:
                self._log("request", **request_line(scope, exchange, perf_counter()))
