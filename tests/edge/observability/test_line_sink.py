"""Buffered log lines, and slow or full files."""

import asyncio
import io
import json
import os
import threading
from typing import Any

from edge.observability.line_sink import LineSink
from tests.waiting import DEADLINE

from .log_output import Out


def dropped_line(lines: int) -> bytes:
    return b'{"event":"dropped","n":%d}' % lines


async def test_line_sink_writes_lines_together() -> None:
    out = Out()
    sink = LineSink(out, dropped_line)
    for i in range(5):
        sink.line(b"%d" % i)
    assert out.writes == 0
    async with asyncio.timeout(DEADLINE):
        while not out.writes:
            await asyncio.sleep(0.02)
    assert (out.writes, out.getvalue()) == (1, b"0\n1\n2\n3\n4\n")
    sink.line(b"5")
    sink.flush()
    sink.flush()
    assert (out.writes, out.getvalue()[-2:]) == (2, b"5\n")


def test_line_sink_pipe_not_read_drops_lines_without_blocking() -> None:
    reading, writing = os.pipe()
    sink = LineSink(io.FileIO(writing, "wb"), dropped_line)
    for i in range(20):
        sink.line(b"%d " % i + b"x" * (1 << 20))  # more than pipe and buffer hold
    sink.flush(0.05)
    sink.line(b"after")
    kept = b""
    with io.FileIO(reading) as pipe:
        while b"after\n" not in kept or b"dropped" not in kept:
            kept += pipe.read(1 << 20) or b""
    lines = kept.splitlines()
    whole = [line for line in lines if line.endswith(b"x" * (1 << 20))]
    assert [line.split()[0] for line in whole] == [b"%d" % i for i in range(len(whole))]
    (lost,) = [json.loads(line) for line in lines if b"dropped" in line]
    assert len(whole) + lost["n"] + (b"after" in lines) == 21
    assert 0 < len(whole) < 20


async def test_line_sink_full_nonblocking_pipe_is_tried_again() -> None:
    class Full(Out):
        def write(self, data: Any) -> Any:
            self.writes += 1
            return None if self.writes < 3 else io.BytesIO.write(self, data[:2])

    out = Full()
    sink = LineSink(out, dropped_line)
    sink.line(b"whole")
    sink.flush()
    assert out.getvalue() == b"whole\n"


def test_line_sink_keeps_lines_of_many_threads_whole() -> None:
    out = Out()
    sink = LineSink(out, dropped_line)

    def write(name: int) -> None:
        for i in range(200):
            sink.line(b"%d-%d" % (name, i))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.flush()
    expected = {b"%d-%d" % (n, i) for n in range(4) for i in range(200)}
    lines = out.getvalue().split(b"\n")[:-1]
    assert (len(lines), set(lines)) == (800, expected)
