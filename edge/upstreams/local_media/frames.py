"""Frames between a worker and its process of local models. No I/O.

Each frame is its length in four bytes, and MessagePack. A request is `Open`, any number of `Body`
and `Sent`; its answer is `Head`, any number of `Data` and `Done`. An answer may have `WINDOW` data
frames under way: each `More` allows one more. `Cancel` ends an answer; what was under way may still
arrive. The first frame of the program is `Ready`.
"""

from collections.abc import Iterator

import msgspec

WINDOW = 8
PIECE = 64 << 10
"""Bytes of a body or data frame."""
_LONGEST = 1 << 20
_LENGTH = 4


class Frame(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """id: number of the request, from 1 on."""

    id: int = 0


class Open(Frame, frozen=True, tag="open"):
    """A request begins. path: without the version, such as `/audio/speech`."""

    path: str = ""
    content_type: str = ""


class Body(Frame, frozen=True, tag="body"):
    """A piece of the body of a request."""

    data: bytes = b""


class Sent(Frame, frozen=True, tag="sent"):
    """The body of a request is complete."""


class More(Frame, frozen=True, tag="more"):
    """A data frame was read."""


class Cancel(Frame, frozen=True, tag="cancel"):
    """The answer is not wanted any more."""


class Ready(Frame, frozen=True, tag="ready"):
    """The program serves requests."""


class Head(Frame, frozen=True, tag="head"):
    """An answer begins."""

    status: int = 200
    content_type: str = ""


class Data(Frame, frozen=True, tag="data"):
    """A piece of an answer."""

    data: bytes = b""


class Done(Frame, frozen=True, tag="done"):
    """An answer is complete. failed: it broke off."""

    failed: bool = False


AnyFrame = Open | Body | Sent | More | Cancel | Ready | Head | Data | Done

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(AnyFrame).decode


def encode(frame: AnyFrame) -> bytes:
    """The bytes of a frame."""
    content = _encode(frame)
    return len(content).to_bytes(_LENGTH, "big") + content


class FrameReader:
    """Takes bytes as they come, and gives whole frames."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def read(self, data: bytes) -> Iterator[AnyFrame]:
        """The frames that `data` completes. Raises ValueError for what is no frame."""
        rest = self._rest
        rest += data
        at = 0
        while len(rest) - at >= _LENGTH:
            size = int.from_bytes(rest[at : at + _LENGTH], "big")
            if size > _LONGEST:
                raise ValueError(f"a frame of {size} bytes")
            end = at + _LENGTH + size
            if len(rest) < end:
                break
            frame = _decode(memoryview(rest)[at + _LENGTH : end].tobytes())
            at = end
            yield frame
        del rest[:at]
