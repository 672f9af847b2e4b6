"""Events that pass by their shape get the answer, and amount to what, decoding gives."""

import json
import random
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.dialects.anthropic_messages.passthrough import MessagesRelay
from edge.dialects.disclosure import Spellings
from edge.dialects.event_shapes import EventShapes
from edge.dialects.heartbeats import is_done
from edge.dialects.openai_chat.chat_relay import ChatRelay
from edge.dialects.openai_responses.passthrough import ResponsesRelay
from edge.dialects.passthrough import UpstreamError
from middlewares.sse import Splitter, parse, split

from .stream_shapes import DONE, ESCAPED, FAR, MODEL, SHAPES, WORDS

RELAYS: dict[str, Any] = {
    "chat": ChatRelay,
    "messages": MessagesRelay,
    "responses": ResponsesRelay,
}
ALL_WORDS = [*WORDS, *ESCAPED, *FAR, "", "\U0001f680 far"]
NEW_ID = re.compile(rb"_[0-9a-f]{32}")
PLACE = re.compile(rb'"(?:type|item_id|output_index|content_index|summary_index)"\s*:[^,}]*')
VENDOR = (MODEL.encode(), b"VendorInc", b"fp_", b"x_groq", b"gen-", b"b6000", b"native_finish")


class Passed:
    """What a relay makes of reads of one stream."""

    def __init__(self, dialect: str, reads: Iterable[bytes], *, usage: bool = False) -> None:
        fields = {"stream_options": b'{"include_usage":true}'} if usage else {}
        relay = RELAYS[dialect](fields, "ours")
        splitter = Splitter()
        self.out, self.broke = b"", ""
        try:
            for read in reads:
                block = splitter.split(read)
                self.out += relay.relay(block) if block else b""
            rest = splitter.rest()
            self.out += relay.relay(rest + b"\n\n") if rest else b""
            self.out += relay.relay_end()
        except UpstreamError as broke:
            self.out += broke.passed
            self.broke = broke.kind
        self.size = relay.output_size
        self.usage = relay.usage
        self.state = (relay.complete, relay.content)

    @property
    def whole(self) -> tuple[Any, ...]:
        """All of it, with new ids, which are random, by their order."""
        seen: dict[bytes, bytes] = {}
        out = NEW_ID.sub(lambda id_: seen.setdefault(id_[0], b"_new%d" % len(seen)), self.out)
        return out, self.broke, self.size, self.usage, self.state


def decoded(dialect: str, reads: Iterable[bytes], *, usage: bool = False) -> Passed:
    """The same where no event passes by its shape."""
    with mock.patch.object(EventShapes, "learn", lambda *_: None):
        return Passed(dialect, reads, usage=usage)


def ways(stream: Sequence[bytes], seed: int = 1) -> list[list[bytes]]:
    """`stream` by events, whole, by bytes, and cut anywhere."""
    joined = b"".join(stream)
    out = [list(stream), [joined], [joined[at : at + 1] for at in range(len(joined))]]
    chance = random.Random(seed)
    for parts in (len(stream) // 3, len(stream) * 2):
        cuts = sorted({0, len(joined), *(chance.randrange(len(joined)) for _ in range(parts))})
        out.append([joined[a:b] for a, b in pairwise(cuts)])
    return out


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_relay_each_shape_passes_as_decoded_however_cut(name: str, usage: bool) -> None:
    shape = SHAPES[name]
    stream = shape.events([*shape.words, *ALL_WORDS])
    expected = decoded(shape.dialect, stream, usage=usage)
    assert expected.broke == ""
    assert not any(each in expected.out for each in VENDOR)
    for reads in ways(stream):
        assert Passed(shape.dialect, reads, usage=usage).whole == expected.whole


@pytest.mark.parametrize("name", SHAPES)
def test_relay_size_of_each_shape_is_its_text(name: str) -> None:
    shape = SHAPES[name]
    words = [word for each in ALL_WORDS for word in (each, each)]
    stream = shape.events(words)
    names = len("write_file") if "arguments" in name and shape.dialect != "responses" else 0
    assert Passed(shape.dialect, stream).size == len("".join(words).encode()) + names


@pytest.mark.parametrize("name", [name for name in SHAPES if SHAPES[name].dialect == "chat"])
@pytest.mark.parametrize("together", [1, 8])
def test_relay_ordinary_events_of_each_shape_are_not_decoded(name: str, together: int) -> None:
    seen = []
    apply = Spellings.apply

    def counting(self: Spellings, block: bytes) -> bytes:
        seen.append(block)
        return apply(self, block)

    shape = SHAPES[name]
    stream = shape.events([word for word in shape.words if word] * 20)
    relay = ChatRelay({}, "ours")
    with mock.patch.object(Spellings, "apply", counting):
        for at in range(0, len(stream), together):
            relay.relay(b"".join(stream[at : at + together]))
    assert relay.complete
    events = [block for block in seen if block.startswith(b"data:") and block.endswith(b"\n\n")]
    assert len(events) < len(stream) / 4


SNIPPETS = (
    *(b'"', b"\\", b"\n", b"\r", b"\n\n", b"\\u", b"\\ud83d", b"\\ude80", b"\\\\", b"\\n", b"0"),
    *(b"\x01", b"\xff", b": hi\n\n", b"data: {}\n\n", DONE, b"}", b"]", b",", b"-", b"\\x"),
    *(b'","provider":"VendorInc","a":"', b'"},"finish_reason":"stop","a":{"', b'","usage":{"a":1}'),
    *(b'","cost":1,"b":"', b'"error":{"message":"x"},', b'"index":1,', b'"model":"other",'),
    *(b'\\"model', b'\\"usage', b'"content":"more",', b'"reasoning":"why",', b'"text":"t",'),
    *(b'"created":7,', b'"obfuscation":"\\n",', b'"completion_tokens":07,', b"event: error\n"),
)
texts = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(ALL_WORDS)
mutations = st.lists(
    st.tuples(
        st.sampled_from(["insert", "replace", "drop", "again", "swap", "join"]),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(SNIPPETS),
    ),
    max_size=3,
)


def mutated(stream: list[bytes], changes: Iterable[tuple[str, float, float, bytes]]) -> list[bytes]:
    """`stream` with changes to some of its events."""
    for kind, which, where, snippet in changes:
        at = int(which * len(stream))
        event = stream[at]
        cut = int(where * len(event))
        if kind == "insert":
            stream[at] = event[:cut] + snippet + event[cut:]
        elif kind == "replace":
            stream[at] = event[:cut] + snippet + event[cut + len(snippet) :]
        elif kind == "drop":
            stream[at] = event[:cut] + event[cut + 1 :]
        elif kind == "again":
            stream.insert(at, event)
        elif kind == "swap":
            other = int(where * len(stream))
            stream[at], stream[other] = stream[other], event
        elif at + 1 < len(stream):
            stream[at : at + 2] = [event + stream[at + 1]]
    return stream


MESSAGES_DELTA = "content_block_delta"


def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises UnicodeEncodeError (a ValueError) for half of a character in a name."""
    for name, _ in pairs:
        name.encode()
    return dict(pairs)


def is_sound(event: bytes) -> bool:
    """Whether the data of `event`, if it has any, is valid, with whole characters in its names, and
    that of a delta where its line says so."""
    parsed = parse(event)
    try:
        if parsed is None or is_done(parsed.data):
            return True
        data = json.loads(parsed.data, object_pairs_hook=members)
    except (ValueError, RecursionError):
        return False
    named = data.get("type") if isinstance(data, dict) else None
    return data is not None and (parsed.name != MESSAGES_DELTA or named == MESSAGES_DELTA)


def places_in(event: bytes) -> tuple[bytes, ...]:
    """Where a delta of Responses belongs; decoding corrects it. () for other events."""
    if not event.startswith(b"event: response.") or b".delta" not in event:
        return ()
    return (event.partition(b"\n")[0], *PLACE.findall(event))


@settings(max_examples=400, deadline=None)
@example("responses: escapes", [""] * 9, [("insert", 0.5, 0.0, b'"')], False, 2)
@example("messages: thinking, with spaces", [""] * 4, [("insert", 0.5, 0.21875, b'"')], False, 3)
@given(
    st.sampled_from(sorted(SHAPES)),
    st.lists(texts, min_size=4, max_size=14),
    mutations,
    st.booleans(),
    st.integers(1, 9),
)
def test_relay_mutated_stream_passes_as_decoded(
    name: str,
    words: list[str],
    changes: list[tuple[str, float, float, bytes]],
    usage: bool,
    together: int,
) -> None:
    shape = SHAPES[name]
    events = list(split(b"".join(mutated(shape.events(words), changes))))
    if not all(map(is_sound, events)) or len(set(map(places_in, events)) - {()}) > 1:
        together = 1  # an ordinary one is passed on alone, and decoded among others
    reads = [b"".join(events[at : at + together]) for at in range(0, len(events), together)]
    expected = decoded(shape.dialect, events, usage=usage)
    assert Passed(shape.dialect, reads, usage=usage).whole == expected.whole
