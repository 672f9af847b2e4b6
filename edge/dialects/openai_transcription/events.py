"""Streams of a transcription: events with its text, then one with the whole and the usage."""

from edge.dialects.passthrough import Fields, encode
from edge.dialects.typed_events import TypedEventRelay, text_of
from middlewares import sse
from middlewares.exchange import Dialect

from .measured import Measured
from .transcript import raw, read_transcript, text_size

_DELTA, _DONE = "transcript.text.delta", "transcript.text.done"
_CONTENT = frozenset((_DELTA, "transcript.text.segment"))
_PASSED = frozenset(("logprobs", "languages", "usage"))


class TranscriptRelay(TypedEventRelay):
    """The relay of a transcription. model: the caller's name of it."""

    def __init__(self, model: str, *, disclose: bool = False) -> None:
        super().__init__(_CONTENT, frozenset((_DONE,)), model, disclose=disclose)
        self.measured = Measured()
        """What the upstream counted."""
        self._sizes: dict[str, int] = {}

    @property
    def text_size(self) -> int:
        """Bytes of the text that came. The types of events repeat it, so one of them counts."""
        return max(self._sizes.values(), default=0)

    def take_content(self, kind: str, fields: Fields) -> None:
        """See `TypedEventRelay`."""
        text = text_of(fields.get("delta" if kind == _DELTA else "text"))
        self._sizes[kind] = self._sizes.get(kind, 0) + text_size(text)

    def end_part(self, fields: Fields) -> None:
        """See `TypedEventRelay`."""
        super().end_part(fields)
        self.take_content(_DONE, fields)
        self.measured = Measured.of(fields)


def stream_of_transcript(body: bytes, dialect: Dialect) -> bytes:
    """The events of a whole answer, from an upstream that streams none. Raises UpstreamError."""
    transcript = read_transcript(body, "", disclose=True)
    done: Fields = {"type": raw(_DONE), "text": raw(transcript.text)}
    done |= {name: each for name, each in transcript.fields.items() if name in _PASSED}
    if "usage" not in done and transcript.seconds is not None:
        done["usage"] = raw({"type": "duration", "seconds": transcript.seconds})
    events = []
    if transcript.text:
        events.append(sse.encode(encode({"type": _DELTA, "delta": transcript.text})))
    events += [sse.encode(encode(done)), sse.encode(b"[DONE]")]
    return b"".join(events)
