"""Base class of the answer decoders: splits blocks into events until the answer ends."""

from middlewares import sse

from .events import Event


class SseReader:
    """Decodes one streamed answer. See `codec.AnswerDecoder`. A dialect adds `_read_event`.

    _over: the answer has ended or failed; further input is ignored.
    """

    __slots__ = ("_over",)

    def __init__(self) -> None:
        self._over = False

    def decode(self, block: bytes) -> list[Event]:
        """The events in a block of whole SSE events."""
        out: list[Event] = []
        if self._over:
            return out
        if block.find(b"\n\n") == len(block) - 2 and sse.CR not in block:
            self._read_event(block, out)
            return out
        for event in sse.split(block):
            if not self._over:
                self._read_event(event, out)
        return out

    def decode_text(self, block: bytes) -> str:
        """See `codec.AnswerDecoder`."""
        return ""

    def _read_event(self, event: bytes, out: list[Event]) -> None:
        """Append the events of one SSE event."""
        raise NotImplementedError
