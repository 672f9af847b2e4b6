"""Structured logging of a process: JSON lines of structlog and of the `logging` module."""

import atexit
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from io import FileIO
from time import time
from typing import Any

import orjson
import structlog

from .line_sink import LineSink, Out
from .log_text import LONGEST_MESSAGE, shown, shown_traceback


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _stamp(_logger: Any, level: str, event: dict[str, Any]) -> dict[str, Any]:
    seconds, milliseconds = divmod(int(time() * 1000), 1000)
    event["level"] = level
    event["time"] = f"{_second(seconds)}.{milliseconds:03d}+00:00"
    return event


def _render(_logger: Any, _level: str, event: dict[str, Any]) -> bytes:
    if "exc_info" in event:
        raised = event.pop("exc_info")
        raised = raised if isinstance(raised, BaseException) else sys.exception()
        if raised is not None:
            event["exception"] = _traceback(raised)
    try:
        return orjson.dumps(event, default=str)
    except TypeError:  # half a surrogate pair, from a path or a header
        for name, value in event.items():
            if isinstance(value, str):
                event[name] = value.encode("utf-8", "backslashreplace").decode()
        return orjson.dumps(event, default=str)


def _traceback(raised: BaseException) -> str:
    text = logging.Formatter().formatException((type(raised), raised, raised.__traceback__))
    return shown_traceback(text)


class _ToStructlog(logging.Handler):
    """Passes the records of `logging` to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = _traceback(record.exc_info[1])
        event = shown(record.getMessage(), LONGEST_MESSAGE)
        structlog.get_logger().log(record.levelno, event, **fields)


def _dropped_line(lines: int) -> bytes:
    event = "log lines dropped: they came faster than they could be written"
    return _render(None, "", _stamp(None, "error", {"event": event, "n": lines}))


def configure(*, level: str = "info", form: str = "json", out: Out | None = None) -> LineSink:
    """Set up structlog and `logging` for this process. Call it once, at the start.

    level: debug | info | warning | error. form: json | console. out: by default the descriptor of
    standard error; a buffered file has a lock, which could be held during a fork.
    """
    sink = LineSink(out if out is not None else FileIO(2, "wb", closefd=False), _dropped_line)
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
    """The number of log lines that this process has dropped."""
    sink = structlog.get_config()["logger_factory"]()
    return sink.dropped if isinstance(sink, LineSink) else 0


def info_logger() -> Callable[[str, dict[str, Any]], Any]:
    """A faster `info` of structlog, as it is configured now, for frequent events: for JSON lines it
    calls our two processors directly. It takes an event and its fields, a dict that it keeps.
    """
    config = structlog.get_config()
    if config["processors"] != [_stamp, _render] or not logging.getLogger().isEnabledFor(
        logging.INFO
    ):
        say = structlog.get_logger().info
        return lambda event, fields: say(event, **fields)
    take = config["logger_factory"]().line

    def info(event: str, fields: dict[str, Any]) -> None:
        fields["event"] = event
        take(_render(None, "info", _stamp(None, "info", fields)))

    return info
