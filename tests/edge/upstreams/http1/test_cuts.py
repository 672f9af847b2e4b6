"""Where the network cuts a response makes no difference to what is read from it."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.upstreams import Header, UpstreamFailure
from edge.upstreams.http1.connection import Connection
from edge.upstreams.http1.limits import PoolLimits
from edge.upstreams.http1.response import HTTPResponse
from edge.upstreams.http1.wire import encode_head
from tests.edge.upstreams.fake import answer, chunked

from .talk import GET, pieces

SAMPLES = [
    answer(b'{"id": 1, "text": "\xc3\xa9"}', headers=b"X-A: 1\r\nX-B:   two \r\nx-empty:\r\n"),
    answer(b""),
    chunked(b"data: 1\n\n", b"x" * 300, b"d", b"\r\n0\r\n\r\n"),
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: a\r\n\r\n" + answer(b"final"),
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\nx-t: 1\r\n\r\n",
    answer(b"hello") + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
    answer(b"bye", headers=b"connection: close\r\n"),
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ntoo short",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"no HTTP at all",
]

Outcome = tuple[int, list[Header], bytes, bool, str, int]


class Wire(asyncio.Transport):
    """The transport of a connection that only listens."""

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def abort(self) -> None: ...


class Pool:
    def __init__(self) -> None:
        self.limits = PoolLimits()
        self.clock: Callable[[], float] = lambda: 0.0
        self.released = 0

    def release(self, connection: Connection) -> None:
        self.released += 1

    def lost(self, connection: Connection) -> None: ...


async def play(arrivals: Iterable[bytes], *, pumped: bool = False) -> Outcome:
    """What a response made of these arrivals, and then the end, looks like to its reader. pumped:
    a sink waits for each arrival."""
    pool = Pool()
    connection = Connection(pool, asyncio.get_running_loop())
    connection.connection_made(Wire())
    response = HTTPResponse(total_deadline=1e9)
    connection.start(response, encode_head(GET, b"host: a\r\n"), None)
    got: list[bytes] = []
    pump: asyncio.Task[None] | None = None
    for data in arrivals:
        if connection.closed:
            break
        connection.data_received(data)
        if pumped and response.status and pump is None:
            pump = asyncio.create_task(response.pump(got.append))
        await asyncio.sleep(0)
    reusable = pool.released if not connection.closed else 0
    if not connection.closed:
        connection.eof_received()
        connection.connection_lost(None)
    body, failure = b"", ""
    if pump is not None:
        with contextlib.suppress(UpstreamFailure):
            await pump
        body = b"".join(got)
    try:
        while data := response.take() or b"":
            body += data
    except UpstreamFailure as error:
        failure = type(error).__name__
    return response.status, response.headers, body, response.complete, failure, reusable


EXPECTED = [
    (200, b'{"id": 1, "text": "\xc3\xa9"}', True, "", 1),
    (200, b"", True, "", 1),
    (200, b"data: 1\n\n" + b"x" * 300 + b"d\r\n0\r\n\r\n", True, "", 1),
    (200, b"final", True, "", 1),
    (200, b"abc", True, "", 1),
    (200, b"hello", True, "", 0),
    (200, b"bye", True, "", 0),
    (200, b"until the end", True, "", 0),
    (200, b"too short", False, "Disconnected", 0),
    (200, b"hello", False, "Malformed", 0),
    (204, b"", True, "", 1),
    (0, b"", False, "Malformed", 0),
]


async def test_whole() -> None:
    for sample, expected in zip(SAMPLES, EXPECTED, strict=True):
        status, _, *rest = await play([sample])
        assert (status, *rest) == expected


async def test_byte_by_byte() -> None:
    for sample in SAMPLES:
        assert await play(bytes([byte]) for byte in sample) == await play([sample])


@settings(max_examples=200)
@given(sample=st.sampled_from(SAMPLES), data=st.data())
def test_cut_at_random(sample: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(sample)), max_size=12))

    async def compare() -> None:
        whole = await play([sample])
        assert await play(pieces(sample, cuts)) == whole
        assert await play(pieces(sample, cuts), pumped=True) == whole

    asyncio.run(compare())


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@settings(max_examples=300)
@given(
    bodies=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6),
    upper=st.booleans(),
    edits=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 320), st.binary(max_size=4))),
)
def test_chunks_that_are_read_whole_mean_to_a_sink_what_they_mean_to_the_parser(
    bodies: list[bytes], upper: bool, edits: list[tuple[int, int, bytes]]
) -> None:
    heads = [b"%X" % len(body) if upper else b"%x" % len(body) for body in bodies]
    chunks = [head + b"\r\n" + body + b"\r\n" for head, body in zip(heads, bodies, strict=True)]
    for number, at, junk in edits:  # most of these are malformed
        chunk = chunks[number % len(chunks)]
        at %= len(chunk)
        chunks[number % len(chunks)] = chunk[:at] + junk + chunk[at + len(junk) // 2 :]
    reads = [CHUNKED, b"1\r\n.\r\n", *chunks, b"0\r\n\r\n"]

    async def compare() -> None:
        pumped = await play(reads, pumped=True)
        assert pumped == await play(reads)
        if not edits:
            assert pumped[2:5] == (b"".join([b".", *bodies]), True, "")

    asyncio.run(compare())


@settings(max_examples=200)
@given(junk=st.binary(max_size=60), sample=st.sampled_from(SAMPLES), data=st.data())
def test_nothing_an_upstream_sends_gets_past_the_tree_of_failures(
    junk: bytes, sample: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(sample)))

    async def survive() -> None:
        status, _, _, complete, failure, _ = await play([sample[:at] + junk, sample[at:]])
        assert bool(failure) != complete
        assert status or failure

    asyncio.run(survive())
