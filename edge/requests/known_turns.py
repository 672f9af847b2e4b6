"""What earlier requests have shown of the turns that a body begins with.

Theory of operation. A coding agent sends its whole conversation with each turn, so most of a large
body was checked and weighed with the request before it. The inside of the array of turns is cut
into segments of whole turns, and facts of each segment are kept, with its length and a tag over all
bytes up to its end. A body whose bytes have the same tags begins with the same segments.

    [turn,turn,turn,turn,turn,turn,turn,turn,turn]
     └────── segment ───────┘└─ segment ─┘└ new ┘

The tag is AES-GMAC (NIST SP 800-38D) under a random key of this object; no tag leaves it, so no
caller can make two texts of one tag. Bytes of a body are not kept, only what they were translated
to (`edge.proxy.written_turns`). The segments of one caller are never compared with a body of
another. Clients change the last turns (cache marks, reminders), so these are a segment of their
own.
"""

import os
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, Protocol, Self, TypeVar

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from middlewares.bounded_map import BoundedMap

from .kept_values import KeptValues

MOST_BEGINNINGS = 2048
"""Callers and beginnings of turns of which segments are kept; each has 2 kB, or 30 kB at most."""
_MOST_CHAINS = 8
"""Conversations of one caller whose first bytes are the same."""
_MOST_SEGMENTS, _MERGED = 8, 5
"""Segments of a conversation; of more, the first are merged."""
_BEGINNING = 4096
"""Bytes of turns that choose the conversations to compare with."""
_SAMPLE = 16
"""Bytes before the end of a segment that are compared before its tag is computed."""
_FIRST, _NEXT = b"first" + bytes(7), b"next" + bytes(8)


class Facts(Protocol):
    """Facts of a segment. The sum is that of both segments together."""

    def __add__(self, other: Self, /) -> Self: ...


F = TypeVar("F", bound=Facts)


class Segment(msgspec.Struct, Generic[F], eq=False):
    """Some turns of a body. size: bytes, with the comma before the first turn.

    marks: whether it has certain bytes, filled as that is asked (`TurnMarks`).
    sums: what its turns were read as, filled in the same way; each value can be added to another.
    """

    size: int
    facts: F
    marks: dict[bytes, bool] = {}
    sums: dict[Hashable, Any] = {}

    def __add__(self, other: "Segment[F]") -> "Segment[F]":
        """Both together."""
        marks = {
            mark: self.marks[mark] or other.marks[mark]
            for mark in self.marks.keys() & other.marks.keys()
        }
        sums = {
            read: self.sums[read] + other.sums[read]
            for read in self.sums.keys() & other.sums.keys()
        }
        return Segment(self.size + other.size, self.facts + other.facts, marks, sums)


class _Chain(msgspec.Struct, Generic[F], frozen=True, eq=False):
    """The segments of one conversation, with the tag and the last bytes up to each end."""

    segments: Sequence[Segment[F]] = ()
    tags: Sequence[bytes] = ()
    samples: Sequence[bytes] = ()


class Match(msgspec.Struct, Generic[F], frozen=True, eq=False):
    """The segments that a body begins with. size: their bytes."""

    segments: Sequence[Segment[F]] = ()
    tags: Sequence[bytes] = ()
    samples: Sequence[bytes] = ()
    size: int = 0


class KnownTurns(Generic[F]):
    """Segments of the last bodies of each caller. Bounded; the least recently used are dropped.

    Used by the event loop and by one worker thread: each call replaces whole values.
    """

    __slots__ = ("_chains", "_cipher")

    def __init__(self, most: int = MOST_BEGINNINGS) -> None:
        self._cipher = AESGCM(os.urandom(16))
        self._chains: BoundedMap[tuple[str, str, bytes], tuple[_Chain[F], ...]] = BoundedMap(most)

    def find(self, caller: str, member: str, inside: memoryview) -> Match[F]:
        """The longest known beginning. inside: a body from the first turn on."""
        best: Match[F] = Match()
        chains = self._chains.get((caller, member, self._tag(b"", inside[:_BEGINNING])), ())
        for chain in chains:
            matched, end, tag = 0, 0, b""
            for segment, kept, sample in zip(
                chain.segments, chain.tags, chain.samples, strict=True
            ):
                start, end = end, end + segment.size
                if inside[end - len(sample) : end] != sample:
                    break
                tag = self._tag(tag, inside[start:end])
                if tag != kept:
                    break
                matched += 1
            size = sum(segment.size for segment in chain.segments[:matched])
            if size > best.size:
                of = slice(matched)
                best = Match(chain.segments[of], chain.tags[of], chain.samples[of], size)
        return best

    def keep(
        self,
        caller: str,
        member: str,
        inside: memoryview,
        match: Match[F],
        new: Sequence[Segment[F]],
    ) -> None:
        """Keep the segments of a body: those of `match`, and the `new` ones behind them."""
        if not new:
            return
        segments = [*match.segments, *new]
        tags, samples = list(match.tags), list(match.samples)
        if len(segments) > _MOST_SEGMENTS:
            merged = segments[0]
            for segment in segments[1:_MERGED]:
                merged = merged + segment
            segments[:_MERGED] = [merged]
            tags, samples = [], []
        end = sum(segment.size for segment in segments[: len(tags)])
        for segment in segments[len(tags) :]:
            start, end = end, end + segment.size
            tags.append(self._tag(tags[-1] if tags else b"", inside[start:end]))
            samples.append(bytes(inside[max(start, end - _SAMPLE) : end]))
        key = (caller, member, self._tag(b"", inside[:_BEGINNING]))
        chains = self._chains.get(key, ())
        others = [chain for chain in chains if not _continues(chain, match)]
        made = _Chain(tuple(segments), tuple(tags), tuple(samples))
        self._chains.put(key, (made, *others[: _MOST_CHAINS - 1]))

    def _tag(self, before: bytes, piece: memoryview) -> bytes:
        """The tag up to the end of `piece`. before: the tag up to its start."""
        if before:
            return self._cipher.encrypt(_NEXT, b"", before + bytes(piece))
        return self._cipher.encrypt(_FIRST, b"", piece)


def _continues(chain: _Chain[F], match: Match[F]) -> bool:
    """Whether the body of `match` is a later one of the conversation of `chain`."""
    count = len(match.tags)
    return 0 < count >= len(chain.tags) - 2 and list(chain.tags[:count]) == list(match.tags)


class TurnMarks(msgspec.Struct, frozen=True, eq=False):
    """Which bytes stand in the turns of a body. Segments that were searched before are not again.

    raw: the array of turns. segments: of its first turns. known: how many of them an earlier body
    had. written: keeps the bytes that turns were written as.
    """

    raw: msgspec.Raw
    segments: Sequence[Segment[Any]] = ()
    known: int = 0
    written: KeptValues[Any] | None = None

    def found(self, mark: bytes, search: Callable[[bytes], bool] | None = None) -> bool:
        """Whether the turns have `mark`, which has no comma.

        search: finds what `mark` stands for in some turns, which a comma may precede.
        """
        text = memoryview(self.raw)
        at = 1
        for segment in self.segments:
            end = at + segment.size
            known = segment.marks.get(mark)
            if known is None:
                piece = bytes(text[at:end])
                known = mark in piece if search is None else search(piece)
                segment.marks[mark] = known
            if known:
                return True
            at = end
        piece = bytes(text[at:-1])
        return mark in piece if search is None else search(piece)


def has_mark(raw: msgspec.Raw, mark: bytes, marks: TurnMarks | None) -> bool:
    """Whether `raw` has `mark`. marks: of the turns of its body."""
    if marks is None or marks.raw is not raw:
        return mark in bytes(raw)
    return marks.found(mark)
