"""What is remembered of the turns of a body, and of whom."""

import random

import msgspec
import pytest

from edge.requests.known_turns import KnownTurns, Match, Segment, TurnMarks, has_mark


class Count(msgspec.Struct, frozen=True):
    """How many bytes a segment has."""

    bytes: int

    def __add__(self, other: "Count") -> "Count":
        return Count(self.bytes + other.bytes)


def of(*texts: bytes) -> list[Segment[Count]]:
    return [Segment(len(text), Count(len(text))) for text in texts]


def found(known: KnownTurns[Count], caller: str, text: bytes, member: str = "messages") -> int:
    return known.find(caller, member, memoryview(text)).size


FIRST, SECOND, THIRD = b'{"a":1}' + b" " * 5000, b',{"b":2}', b',{"c":3}'
BODY = FIRST + SECOND + THIRD


@pytest.fixture
def known() -> KnownTurns[Count]:
    known: KnownTurns[Count] = KnownTurns()
    known.keep("ann", "messages", memoryview(BODY), Match(), of(FIRST, SECOND, THIRD))
    return known


def test_find_matches_the_segments_that_a_body_begins_with(known: KnownTurns[Count]) -> None:
    assert found(known, "ann", BODY + b"]}") == len(BODY)
    assert found(known, "ann", BODY + b',{"d":4}]}') == len(BODY)
    assert found(known, "ann", FIRST + SECOND + b',{"x":3}]}') == len(FIRST + SECOND)
    assert found(known, "ann", FIRST + b"]}") == len(FIRST)
    assert found(known, "ann", FIRST[:-1] + b"]}") == 0
    assert found(known, "ann", b"") == 0


def test_find_keeps_callers_and_members_apart(known: KnownTurns[Count]) -> None:
    assert found(known, "bob", BODY) == 0
    assert found(known, "ann", BODY, "input") == 0


def test_find_compares_every_byte(known: KnownTurns[Count]) -> None:
    chance = random.Random(1)
    ends = (len(FIRST), len(FIRST + SECOND), len(BODY))
    for _ in range(500):
        at = chance.randrange(len(BODY))
        changed = bytearray(BODY)
        changed[at] ^= chance.randrange(1, 256)
        before = [end for end in ends if end <= at]
        assert found(known, "ann", bytes(changed)) == (before[-1] if before else 0)


def test_keep_merges_the_first_segments_of_a_long_conversation() -> None:
    known: KnownTurns[Count] = KnownTurns()
    body = FIRST
    known.keep("ann", "messages", memoryview(body), Match(), of(body))
    for n in range(50):
        match = known.find("ann", "messages", memoryview(body))
        assert match.size == len(body)
        assert sum(segment.facts.bytes for segment in match.segments) == len(body)
        assert len(match.segments) <= 8
        turn = b',{"n":%d}' % n
        body += turn
        known.keep("ann", "messages", memoryview(body), match, of(turn))


def test_keep_bounds_conversations_of_one_beginning() -> None:
    known: KnownTurns[Count] = KnownTurns(most=2)
    bodies = [FIRST + b',{"n":%d}' % n for n in range(20)]
    for body in bodies:
        known.keep("ann", "messages", memoryview(body), Match(), of(body))
    assert [body for body in bodies if found(known, "ann", body)] == bodies[-8:]
    for who in ("bob", "eve"):
        known.keep(who, "messages", memoryview(BODY), Match(), of(BODY))
    assert found(known, "ann", bodies[-1]) == 0
    assert found(known, "eve", BODY) == len(BODY)


def test_marks_search_each_segment_once() -> None:
    raw = msgspec.Raw(b'[{"a":"pk1-"},{"b":1},{"c":2}]')
    segments = of(b'{"a":"pk1-"}', b',{"b":1}')
    marks = TurnMarks(raw, segments)
    assert marks.found(b"pk1-")
    assert not marks.found(b'"d"')
    assert marks.found(b'"c"')
    assert [segment.marks for segment in segments] == [
        {b"pk1-": True, b'"d"': False, b'"c"': False},
        {b'"d"': False, b'"c"': False},
    ]
    searched: list[bytes] = []

    def search(piece: bytes) -> bool:
        searched.append(piece)
        return False

    assert not marks.found(b"key\n", search)
    assert not marks.found(b"key\n", search)
    assert searched == [b'{"a":"pk1-"}', b',{"b":1}', b',{"c":2}', b',{"c":2}']
    both = segments[0] + segments[1]
    assert both.marks == {b'"d"': False, b'"c"': False, b"key\n": False}
    assert both.size == len(raw) - len(b'[,{"c":2}]')


def test_has_mark_searches_what_is_not_of_the_marks() -> None:
    raw = msgspec.Raw(b'[{"a":"pk1-"}]')
    marks = TurnMarks(msgspec.Raw(b"[{}]"))
    assert has_mark(raw, b"pk1-", marks)
    assert has_mark(raw, b"pk1-", None)
    assert not has_mark(marks.raw, b"pk1-", marks)
