"""Any reply, written for a caller of a dialect and read again as from an upstream of it."""

import json
from contextlib import suppress
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects.codec import Caller, Writer
from edge.dialects.events import Event, Reply, fold
from edge.endpoints import BY_NAME
from edge.proxy.translate import CLIENTS, UPSTREAMS
from middlewares import sse
from middlewares.exchange import Dialect
from tests.golden.play import cross_of, fed
from tests.schemas import BrokenArguments, check_stream, summary

from .grammar import check_events
from .strategies import events_of, groups, pieces, replies, said

Surface = Literal["chat", "messages", "responses"]
SPOKEN: list[tuple[str, Dialect, Surface]] = [
    ("chat.completions", "openai", "chat"),
    ("messages", "anthropic", "messages"),
    ("responses", "responses", "responses"),
]
CALLERS = ("chat.completions", "completions", "messages", "responses")
every_dialect = pytest.mark.parametrize(("endpoint", "dialect", "surface"), SPOKEN)
NATIVE = {(endpoint, dialect) for endpoint, dialect, _ in SPOKEN}
every_translation = pytest.mark.parametrize(
    ("endpoint", "dialect"),
    [
        (endpoint, dialect)
        for endpoint in CALLERS
        for dialect in UPSTREAMS
        if (endpoint, dialect) not in NATIVE
    ],
)

BODIES: dict[str, dict[str, Any]] = {
    "chat.completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "completions": {"prompt": "Hi"},
    "messages": {"max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]},
    "responses": {"input": "Hi"},
}


def writer_of(endpoint: str, *, stream: bool = True) -> Writer:
    body = {"stream_options": b'{"include_usage":true}'} if "completions" in endpoint else {}
    caller = Caller(
        model="m",
        id="0123456789abcdef0123456789abcdef",
        created=1_790_000_000,
        fields=body,  # type: ignore[arg-type]
        stream=stream,
    )
    codec = BY_NAME[endpoint].codec
    assert codec is not None
    return CLIENTS[codec].writer(caller)


def read_again(dialect: Dialect, data: list[bytes]) -> list[Event]:
    """The events an upstream's reader makes of bytes that come in pieces."""
    reader, splitter = UPSTREAMS[dialect].reader(), sse.Splitter()
    out: list[Event] = []
    for piece in data:
        if block := splitter.split(piece):
            out += reader.decode(block)
    if rest := splitter.rest():
        out += reader.decode(rest + b"\n\n")
    out += reader.decode_end()
    assert reader.decode(b"data: {}\n\n") == []
    assert reader.decode_end() == []
    return out


@every_dialect
@given(st.data(), replies())
def test_a_streamed_reply_comes_back_as_it_was(
    endpoint: str, dialect: Dialect, surface: Surface, data: st.DataObject, reply: Reply
) -> None:
    events = data.draw(events_of(reply))
    writer = writer_of(endpoint)
    stream = b"".join(map(writer.encode, data.draw(groups(events))))
    one_by_one = writer_of(endpoint)
    assert b"".join(one_by_one.encode([event]) for event in events) == stream
    check_stream(surface, stream, include_usage=True if surface == "chat" else None)
    again = read_again(dialect, data.draw(pieces(stream)))
    check_events(again)
    assert said(fold(again)) == said(reply)


@every_dialect
@given(replies())
def test_a_whole_reply_comes_back_as_it_was(
    endpoint: str, dialect: Dialect, surface: Surface, reply: Reply
) -> None:
    body = writer_of(endpoint, stream=False).encode_body(reply)
    summary(surface, body)
    again = UPSTREAMS[dialect].read(body)
    check_events(again)
    assert said(fold(again)) == said(reply)


@given(st.data(), replies())
def test_completions_read_the_text(data: st.DataObject, reply: Reply) -> None:
    events = data.draw(events_of(reply))
    stream = b"".join(map(writer_of("completions").encode, data.draw(groups(events))))
    seen = check_stream("completions", stream, include_usage=True)
    whole = summary("completions", writer_of("completions", stream=False).encode_body(reply))
    assert seen == whole
    assert seen.text == said(reply).text


def upstream_stream(dialect: Dialect, reply: Reply, events: list[Event]) -> bytes:
    endpoint = next(endpoint for endpoint, spoken, _ in SPOKEN if spoken == dialect)
    return b"".join(writer_of(endpoint).encode([event]) for event in events)


def carry(endpoint: str, dialect: Dialect, data: list[bytes]) -> bool:
    """Whether what a caller gets of an upstream's bytes ends well.

    What it gets is held against its dialect; nothing before there is content.
    """
    body = {"model": "m", "stream": True, **BODIES[endpoint]}
    exchange, way = cross_of(endpoint, body, dialect, "upstream-model")
    out, relay, problem = fed(exchange, way.relay(), data)
    if problem is not None and not relay.content:
        return False
    surface: Any = "chat" if endpoint == "chat.completions" else endpoint
    usage = False if "completions" in endpoint else None
    with suppress(BrokenArguments):  # what a model makes of them passes as it is
        check_stream(surface, out, error=problem is not None, include_usage=usage)
    return problem is None


@every_translation
@given(st.data(), replies())
def test_what_is_cut_off_never_ends_well(
    endpoint: str, dialect: Dialect, data: st.DataObject, reply: Reply
) -> None:
    events = data.draw(events_of(reply))
    stream = upstream_stream(dialect, reply, events)
    whole = data.draw(st.integers(0, len(stream) - 1))
    cut = stream[:whole]
    well = carry(endpoint, dialect, data.draw(pieces(cut)) if cut else [])
    if well:
        assert _ended(dialect, cut), "a clean end after a cut"


def _ended(dialect: Dialect, stream: bytes) -> bool:
    """Whether the upstream has said how the answer ends; the last blank line may be missing."""
    for event in sse.split(stream + b"\n\n"):
        parsed = sse.parse(event)
        try:
            actual = json.loads(parsed.data if parsed else b"")
        except ValueError:
            continue
        if dialect == "openai":
            reasons = [choice["finish_reason"] for choice in actual["choices"]]
        elif dialect == "anthropic":
            reasons = [actual.get("delta", {}).get("stop_reason")]
        else:
            reasons = [actual["type"] in ("response.completed", "response.incomplete")]
        if any(reasons):
            return True
    return False


@every_translation
@given(st.data(), replies())
def test_garbage_never_breaks_the_callers_stream(
    endpoint: str, dialect: Dialect, data: st.DataObject, reply: Reply
) -> None:
    stream = bytearray(upstream_stream(dialect, reply, data.draw(events_of(reply))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(stream) - 1))
        stream[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=8))
    carry(endpoint, dialect, data.draw(pieces(bytes(stream))) if stream else [])
