"""Structured logs: one JSON line per request, and the same form for everything else we say.

Whoever logs never waits for the log: lines go to a bounded buffer that a thread writes out every
0.2 s, so that a pipe nobody reads, or a slow disk, costs lines and not requests. `logging` of
libraries goes the same way.
"""

import atexit
import logging
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from io import FileIO
from time import perf_counter, sleep, time
from typing import Any, Protocol

import orjson
import structlog

from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.exchange import Attempt, Exchange, exchange_of
from middlewares.pricing import decimal

from .log_text import LONGEST_MESSAGE, LONGEST_METHOD, LONGEST_REASON, shown, shown_traceback

_GATHER_SECONDS = 0.2
_MOST_BYTES = 8 << 20
"""Of lines that wait to be written; what comes beyond is dropped, counted, and the count logged."""
_MOST_DROPPED, _MOST_SAID = 16, 200
"""Of what of a request was dropped: how many are named, and characters of each."""


class Out(Protocol):
    """Where lines go: a binary file, or what looks like one."""

    def write(self, data: memoryview, /) -> int | None: ...
    def flush(self) -> None: ...


class LineSink:
    """Lines on their way to a binary file; safe to use from any thread, waits for nothing."""

    def __init__(self, out: Out) -> None:
        self._out = out
        self._lines: list[bytes] = []
        self._size = 0
        self._dropped = 0
        self.dropped = 0
        """Lines that were not written, since the start."""
        self._writing = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._some = threading.Event()
        self._hurry = threading.Event()

    def start(self) -> None:
        """Start the thread that writes, if it does not run: it does by itself at the first line,
        when there may be no memory left for one."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_on, name="log", daemon=True)
                self._thread.start()

    def line(self, text: bytes) -> None:
        """Take one line without its end."""
        with self._lock:
            size = self._size + len(text) + 1
            if size > _MOST_BYTES:
                self._dropped += 1
                self.dropped += 1
                return
            lines = self._lines
            lines.append(text)
            self._size = size
            if len(lines) > 1:  # the thread has been told
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_on, name="log", daemon=True)
                self._thread.start()
        self._some.set()

    msg = info = debug = warning = warn = error = critical = exception = fatal = log = line

    def flush(self, seconds: float = 1.0) -> None:
        """Wait until all is written that was taken, for so long at most."""
        self._hurry.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._lines and not self._writing, seconds)
        self._hurry.clear()

    def _write_on(self) -> None:
        while True:
            self._some.wait()
            self._hurry.wait(_GATHER_SECONDS)
            self._some.clear()
            with self._changed:
                lines, self._lines, self._size = self._lines, [], 0
                dropped, self._dropped = self._dropped, 0
                self._writing = True
            if dropped:
                lines.append(_render(None, "", _stamp(None, "error", _lost(dropped))))
            if lines:
                self._write(b"\n".join((*lines, b"")))
            with self._changed:
                self._writing = False
                self._changed.notify_all()

    def _write(self, block: bytes) -> None:
        """A log that cannot be written must not stop the service."""
        left = memoryview(block)
        try:
            while left:
                written = self._out.write(left)
                if written is None:  # a pipe that does not block and is full
                    sleep(0.05)
                else:
                    left = left[written:]
            self._out.flush()
        except (OSError, ValueError):
            pass


def _lost(lines: int) -> dict[str, Any]:
    return {"event": "log lines dropped: they came faster than they could be written", "n": lines}


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _stamp(_logger: Any, level: str, event: dict[str, Any]) -> dict[str, Any]:
    seconds, milliseconds = divmod(int(time() * 1000), 1000)
    event["level"] = level
    event["time"] = f"{_second(seconds)}.{milliseconds:03d}+00:00"
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
            told = logging.Formatter().formatException(record.exc_info)
            fields["exception"] = shown_traceback(told)
        said = shown(record.getMessage(), LONGEST_MESSAGE)
        structlog.get_logger().log(record.levelno, said, **fields)


def configure(*, level: str = "info", form: str = "json", out: Out | None = None) -> LineSink:
    """Set structlog and `logging` up for this process; call once, at start.

    level: debug | info | warning | error. form: json | console. out: standard error by default,
    by its number: a buffered file has a lock, and a fork could find it taken.
    """
    sink = LineSink(out if out is not None else FileIO(2, "wb", closefd=False))
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


def dropped_lines() -> int:
    """Lines of this process's log that were dropped, as nobody took them off in time."""
    sink = structlog.get_config()["logger_factory"]()
    return sink.dropped if isinstance(sink, LineSink) else 0


def info_logger() -> Callable[..., Any]:
    """`info` of structlog as it is configured now, for events that come by the thousand: with lines
    of JSON, without what structlog does around our two steps.
    """
    config = structlog.get_config()
    if config["processors"] != [_stamp, _render] or not logging.getLogger().isEnabledFor(
        logging.INFO
    ):
        return structlog.get_logger().info  # type: ignore[no-any-return]
    take = config["logger_factory"]().line

    def info(event: str, **fields: Any) -> None:
        fields["event"] = event
        take(_render(None, "info", _stamp(None, "info", fields)))

    return info


_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


def request_line(scope: Scope, exchange: Exchange, now: float) -> dict[str, Any]:
    """What the log says of one finished exchange. Times in milliseconds. Never a secret."""
    method = scope["method"]
    line: dict[str, Any] = {
        "request_id": exchange.request_id,
        "method": method if method in _METHODS else shown(method, LONGEST_METHOD),
        "path": shown(scope["path"]),
        "status": exchange.status,
        "outcome": exchange.outcome,
        "duration_ms": _ms(now - exchange.started),
        "bytes_out": exchange.bytes_out,
        "client": exchange.client,
    }
    if exchange.client_request_id:
        line["client_request_id"] = shown(exchange.client_request_id)
    principal = exchange.principal
    if principal is not None:
        line["key"] = principal.id
        if principal.name:
            line["key_name"] = shown(principal.name)
        if principal.owner:
            line["owner"] = shown(principal.owner)
    if exchange.model:
        line["model"] = shown(exchange.model)
        line["stream"] = exchange.stream
    if exchange.problem:
        line["problem"] = exchange.problem
        line["reason"] = shown(exchange.reason, LONGEST_REASON)
    if exchange.attempts:
        attempt = exchange.attempts[-1]
        line["served"] = exchange.served
        line["upstream"] = attempt.target.upstream
        line["upstream_model"] = attempt.target.model
        line["upstream_status"] = attempt.status
        line["upstream_ms"] = _ms(exchange.upstream_seconds)
        if len(exchange.attempts) > 1:
            line["attempts"] = [_attempt(one) for one in exchange.attempts]
        if exchange.first_content:
            line["first_content_ms"] = _ms(exchange.first_content - exchange.started)
    if exchange.fallback_from:
        line["fallback_from"] = exchange.fallback_from
    if exchange.refused:
        line["downgraded_for"] = exchange.refused
    if exchange.dropped:
        line["dropped"] = [shown(what, _MOST_SAID) for what in exchange.dropped[:_MOST_DROPPED]]
    usage = exchange.usage
    if usage is not None:
        line["input_tokens"] = usage.input
        line["output_tokens"] = usage.output
        line["cache_read_tokens"] = usage.cache_read
        line["cache_write_tokens"] = usage.cache_write
    if exchange.cost:
        line["credits"] = decimal(exchange.cost)
    if exchange.replayed:
        line["replayed"] = True
    return line


def _ms(seconds: float) -> float:
    """To the microsecond; `round` would take three times as long."""
    return seconds * 1e6 // 1.0 / 1e3


def _attempt(attempt: Attempt) -> dict[str, Any]:
    said: dict[str, Any] = {
        "upstream": attempt.target.upstream,
        "upstream_model": attempt.target.model,
        "status": attempt.status,
        "ms": _ms((attempt.ended or perf_counter()) - attempt.started),
    }
    if attempt.problem:
        said["problem"] = attempt.problem
    if attempt.usage is not None:
        said["input_tokens"] = attempt.usage.input
        said["output_tokens"] = attempt.usage.output
    if attempt.error:
        said["reason"] = shown(attempt.error, LONGEST_REASON)
    return said


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
        exchange = exchange_of(scope)
        try:
            await self.app(scope, receive, send)
        finally:
            if exchange.endpoint not in self._quiet:
                self._log("request", **request_line(scope, exchange, perf_counter()))
