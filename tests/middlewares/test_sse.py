"""Events out of bytes cut anywhere, held against a parser written from the standard's own words."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middlewares import sse
from middlewares.sse import Event, Overflow, Splitter, parse, split


def reference(stream: bytes) -> list[Event]:
    """The algorithm of the WHATWG HTML standard, 9.2.6, line by line and without any cleverness."""
    text = stream.decode().removeprefix("\ufeff")
    lines: list[str] = []
    line = ""
    at = 0
    while at < len(text):
        if text[at] == "\r":
            lines.append(line)
            line = ""
            if text[at + 1 : at + 2] == "\n":
                at += 1
        elif text[at] == "\n":
            lines.append(line)
            line = ""
        else:
            line += text[at]
        at += 1
    events: list[Event] = []
    name, data = "", ""
    for line in lines:
        if not line:
            if data:
                events.append(Event(name, data[:-1].encode()))
            name, data = "", ""
            continue
        if line.startswith(":"):
            continue
        field, _colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data += value + "\n"
        elif field == "event":
            name = value
    return events


def read(chunks: list[bytes]) -> list[Event]:
    """What this module makes of the same stream."""
    splitter = Splitter()
    blocks = [splitter.split(chunk) for chunk in chunks]
    blocks.append(splitter.rest())
    parsed = (parse(event) for block in blocks for event in split(block))
    return [event for event in parsed if event is not None]


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted({i % (len(stream) + 1) for i in at}), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


WORDS = st.text(alphabet='ab {}":,é✓\\', max_size=8)
LINES = st.one_of(
    WORDS.map(lambda word: f"data: {word}"),
    WORDS.map(lambda word: f"data:{word}"),
    st.sampled_from(["event: message_delta", "event:ping", "data", ": comment", ":", "id: 7"]),
    st.sampled_from(["retry: 10", "database: no", "unknown"]),
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Whole events, all line ends of one kind or mixed, perhaps with a BOM in front."""
    uniform = draw(st.one_of(st.none(), ENDS))
    out = draw(st.sampled_from(["", "\ufeff"]))
    for lines in draw(st.lists(st.lists(LINES, max_size=4), max_size=5)):
        for line in [*lines, ""]:
            out += line + (uniform or draw(ENDS))
    return out.encode()


@settings(max_examples=400)
@given(streams(), st.lists(st.integers(0, 10_000), max_size=8))
def test_any_stream_cut_anywhere_reads_as_the_standard_says(stream: bytes, at: list[int]) -> None:
    # One thing differs on purpose: an event whose blank line is missing at the end is read too.
    assert read(cut(stream, at)) == reference(stream + b"\n\n")


@settings(max_examples=200)
@given(streams(), st.lists(st.integers(0, 10_000), max_size=8))
def test_no_byte_is_lost_or_made_up(stream: bytes, at: list[int]) -> None:
    splitter = Splitter()
    out = b"".join(splitter.split(chunk) for chunk in cut(stream, at)) + splitter.rest()
    assert out == stream
    assert b"".join(split(stream)) == stream
    assert splitter.rest() == b""


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_comes_out_with_its_last_byte_and_not_before(end: bytes) -> None:
    event = b"event: x" + end + b"data: 1" + end + end
    splitter = Splitter()
    for i in range(len(event) - 1):
        assert splitter.split(event[i : i + 1]) == b""
    assert splitter.split(event[-1:]) == event


def test_a_crlf_boundary_is_not_split_between_cr_and_lf() -> None:
    splitter = Splitter()
    assert splitter.split(b"data: 1\r\n\r") == b""
    assert splitter.split(b"\ndata: 2\r\n\r\n") == b"data: 1\r\n\r\ndata: 2\r\n\r\n"


def test_whole_events_go_on_while_the_next_one_waits() -> None:
    splitter = Splitter()
    assert splitter.split(b"data: 1\n\ndata: 2\n\ndata: 3") == b"data: 1\n\ndata: 2\n\n"
    assert splitter.split(b"\n") == b""
    assert splitter.split(b"\ndata") == b"data: 3\n\n"
    assert splitter.rest() == b"data"


def test_the_usual_chunk_is_handed_on_as_the_very_object() -> None:
    chunk = b'data: {"x":1}\n\n'
    assert Splitter().split(chunk) is chunk


class CountingTail(bytearray):
    """A tail that counts how many bytes it was asked to search."""

    searched = 0

    def rfind(self, mark: bytes, start: int = 0) -> int:  # type: ignore[override]
        type(self).searched += len(self) - start
        return super().rfind(mark, start)


def test_a_large_event_in_small_chunks_is_searched_once_not_once_per_chunk() -> None:
    splitter = Splitter()
    splitter.tail = CountingTail(b"data: ")
    size, step = 400_000, 100
    for _ in range(size // step):
        assert splitter.split(b"x" * step) == b""
    assert len(splitter.split(b"\n\n")) == size + 8
    assert CountingTail.searched < 4 * size


def test_an_event_past_the_bound_overflows() -> None:
    splitter = Splitter(limit=100)
    assert splitter.split(b"data: " + b"x" * 94) == b""
    with pytest.raises(Overflow, match="100 bytes"):
        splitter.split(b"x")


@pytest.mark.parametrize("first", [b"", b"da"])
def test_the_bound_is_for_one_unfinished_event_not_for_a_read(first: bytes) -> None:
    splitter = Splitter(limit=100)
    assert splitter.split(first) == b""
    whole = b"data: 1\n\n" * 50
    assert first + splitter.split(whole[len(first) :])[len(first) :] == whole
    with pytest.raises(Overflow):
        splitter.split(b"data: 1\n\n" + b"x" * 101)


def test_the_bound_holds_for_what_follows_a_finished_event() -> None:
    splitter = Splitter(limit=100)
    splitter.split(b"data: ")
    with pytest.raises(Overflow):
        splitter.split(b"1\n\n" + b"x" * 101)


def test_split_and_parse_survive_random_bytes() -> None:
    seeded = random.Random(7)
    for _ in range(300):
        noise = bytes(seeded.choice(b"\r\n:d at\xff{") for _ in range(seeded.randrange(60)))
        events = list(split(noise))
        assert b"".join(events) == noise
        for event in events:
            parse(event)


def test_what_is_written_reads_back() -> None:
    assert parse(sse.encode(b'{"a":1}')) == Event("", b'{"a":1}')
    assert parse(sse.encode(b"{}", "message_stop")) == Event("message_stop", b"{}")
    assert parse(sse.comment("x-credits-used 0.1")) is None


@pytest.mark.parametrize(
    ("event", "parsed"),
    [
        (b"event: a\ndata: 1\n\n", Event("a", b"1")),
        (b"event:  a \ndata:  1\n\n", Event("a", b" 1")),
        (b"event: a\ndata: \n\n", Event("a", b"")),
        (b"event: a\nid: 7\ndata: 1\n\n", Event("a", b"1")),
        (b"event: a\ndata: 1\ndata: 2\n\n", Event("a", b"1\n2")),
        (b"event: a\ndata: 1\nevent: b\n\n", Event("b", b"1")),
        (b"event: a\rdata: 0\ndata: 1\n\n", Event("a", b"0\n1")),
        (b"event: a\nid: 7\n\n", None),
    ],
)
def test_parse_named_event_result(event: bytes, parsed: Event | None) -> None:
    assert parse(event) == parsed
    assert list(split(sse.comment("a") + sse.encode(b"1"))) == [b": a\ndata: 1\n\n"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    "event",
    [
        b"data: 1\n\n",
        b"event: a\ndata: 1\n\n",
        b"data: 1\nevent: a\n\n",
        b"data: 1\ndata: 2\n\n",
        b"data\n\n",
        b"data:\n\n",
    ],
)
def test_bare_ordinary_event_is_unchanged(event: bytes, end: bytes) -> None:
    event = event.replace(b"\n", end)
    assert sse.bare(event) == event


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    ("event", "left"),
    [
        (b"id: 1\ndata: 1\n\n", b"data: 1\n\n"),
        (b"data: 1\nid: 1\n\n", b"data: 1\n\n"),
        (b"data: 1\nid\n\n", b"data: 1\n\n"),
        (b"event: a\nid:1\ndata: 1\n\n", b"event: a\ndata: 1\n\n"),
        (b"event: a\ndata: 1\nretry: 9\n\n", b"event: a\ndata: 1\n\n"),
        (b": me\ndata: 1\n: me\n\n", b"data: 1\n\n"),
        (b"database: no\ndata: 1\neventful\n\n", b"data: 1\n\n"),
        (b"\n\ndata: 1\n\n", b"data: 1\n\n"),
        (b"\ndata: 1\n\n", b"data: 1\n\n"),
        (b"\xef\xbb\xbfdata: 1\n\n", b"data: 1\n\n"),
    ],
)
def test_bare_keeps_only_event_and_data_lines(event: bytes, left: bytes, end: bytes) -> None:
    assert sse.bare(event.replace(b"\n", end)) == left.replace(b"\n", end)


@pytest.mark.parametrize("event", [b": me\n\n", b"id: 1\n\n", b"\n\n", b"event: a\n\n"])
def test_bare_event_without_data_is_unchanged(event: bytes) -> None:
    assert sse.bare(event) == event


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b"data: a\rretry: 10\n\n", b"data: a\r\r"),
        (b"id: 1\rdata: a\r\r", b"data: a\r\r"),
        (b"data: a\r\nid: 1\r\n\r\n", b"data: a\r\n\r\n"),
    ],
)
def test_bare_event_ends_with_a_blank_line_whatever_ends_its_lines(
    event: bytes, expected: bytes
) -> None:
    assert sse.bare(event) == expected


@settings(max_examples=200, deadline=None)
@given(streams())
def test_bare_changes_nothing_that_is_read(stream: bytes) -> None:
    events = [event for event in split(stream + b"\n\n") if parse(event) is not None]
    assert [parse(sse.bare(event)) for event in events] == [parse(event) for event in events]
    for event in events:
        assert sse.bare(sse.bare(event)) == sse.bare(event)
        lines = sse.bare(event).splitlines()
        assert {line.partition(b":")[0] for line in lines[:-1]} <= {b"data", b"event"}
        assert not lines[-1]


@pytest.mark.parametrize("last", [b"data: 2\n\n", b"event: a\r\ndata: 2\r\n\r\n"])
@pytest.mark.parametrize("front", [b"", b": ping\n", b"data: 1\n\n", b"data: 1\r\n\r\n: a\n"])
def test_before_last_line_stands_in_front_of_the_last_events_first_line(
    front: bytes, last: bytes
) -> None:
    assert sse.before_last(front + last, b": x\n") == front + b": x\n" + last
