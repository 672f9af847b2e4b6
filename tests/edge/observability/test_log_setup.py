"""Structured logging of a process: its forms, levels and the lines that it drops."""

import logging
import os
import re

import pytest
import structlog

from edge.observability.log_setup import configure, dropped_lines, info_logger
from tests.waiting import DEADLINE

from .log_output import Out, lines


def test_configure_json_lines_have_level_time_and_exception(restored: None) -> None:
    out = Out()
    sink = configure(out=out, level="warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud", number=1, when=object)
    logging.getLogger("some.library").warning("library %s", "says")
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError:
        logging.getLogger("some.library").exception("failed")
        structlog.get_logger().exception("job step failed", job="j")
    sink.flush()
    loud, library, failed, own = lines(out)
    assert (loud["event"], loud["level"], loud["number"]) == ("loud", "warning", 1)
    assert loud["time"].endswith("+00:00")
    assert (library["event"], library["logger"]) == ("library says", "some.library")
    assert "ZeroDivisionError: why" in failed["exception"]
    assert failed["exception"] == own["exception"]
    assert (own["event"], own["level"], own["job"]) == ("job step failed", "error", "j")
    assert "exc_info" not in own


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("level", ["info", "warning"])
def test_info_logger_writes_the_lines_of_structlog(form: str, level: str, restored: None) -> None:
    out = Out()
    sink = configure(out=out, form=form, level=level)
    info_logger()("request", {"path": "/v1", "level": "of the client", "n": 1})
    structlog.get_logger().info("request", path="/v1", level="of the client", n=1)
    sink.flush()
    written = out.getvalue().splitlines()
    if level == "warning":
        assert written == []
        return
    written = [re.sub(rb"[0-9-]+T[0-9:.]+\+00:00", b"TIME", line) for line in written]
    assert len(written) == 2 and written[0] == written[1] and b"/v1" in written[0]


def test_configure_text_that_is_not_utf_8_is_written(restored: None) -> None:
    out = Out()
    sink = configure(out=out)
    structlog.get_logger().info("request", path="/\udcff", model="\ud800")
    sink.flush()
    assert len(lines(out)) == 1


def test_configure_console_form_is_readable(restored: None) -> None:
    out = Out()
    sink = configure(out=out, form="console")
    structlog.get_logger().info("hello", answer=42)
    sink.flush()
    assert b"hello" in out.getvalue() and b"answer=42" in out.getvalue()


def test_dropped_lines_pipe_not_read_counts_them(restored: None) -> None:
    reader, writer = os.pipe()
    out = os.fdopen(writer, "wb", buffering=0)
    sink = configure(out=out)
    line = b"x" * (1 << 20)
    for _ in range(64):  # of which the pipe takes a part of one
        sink.line(line)
    assert 50 <= sink.dropped <= 57
    assert dropped_lines() == sink.dropped
    os.close(reader)
    sink.flush(DEADLINE)
    out.close()
