"""Audio formats, encoded as the samples come."""

import io
from array import array
from fractions import Fraction
from typing import Any, Protocol

import av

FORMATS = {
    "mp3": ("mp3", "libmp3lame", "audio/mpeg"),
    "opus": ("ogg", "libopus", "audio/ogg"),
    "aac": ("adts", "aac", "audio/aac"),
    "flac": ("flac", "flac", "audio/flac"),
}
"""Container, codec and content type of the compressed formats."""
_EARLY = {"ogg": {"page_duration": "200000"}}
"""Options that let a container write early; in microseconds."""
_BUFFER = 2048
_OPUS_RATE = 48_000
_BYTES = 2


class Encoder(Protocol):
    """Samples of 16 bits, one channel, to bytes of a file."""

    content_type: str

    def encode(self, samples: bytes) -> bytes:
        """The bytes that are ready."""
        ...

    def end(self) -> bytes:
        """The last bytes."""
        ...


def encoder(format_: str, rate: int) -> Encoder:
    """An encoder for a `response_format`. Raises KeyError for one that is unknown."""
    if format_ in ("wav", "pcm"):
        return _Plain(format_, rate)
    container, codec, type_ = FORMATS[format_]
    return _Compressed(container, codec, type_, rate)


class _Plain:
    """WAV of unknown length, or bare samples."""

    def __init__(self, format_: str, rate: int) -> None:
        self.content_type = f"audio/{format_}"
        self._head = _wav_head(rate) if format_ == "wav" else b""

    def encode(self, samples: bytes) -> bytes:
        head, self._head = self._head, b""
        return head + samples

    def end(self) -> bytes:
        return self.encode(b"")


def _wav_head(rate: int) -> bytes:
    """The head of a WAV that is streamed: its lengths are unknown, all bits set."""
    unknown = b"\xff" * 4
    fmt = (
        *((16).to_bytes(4, "little"), (1).to_bytes(2, "little"), (1).to_bytes(2, "little")),
        *(rate.to_bytes(4, "little"), (rate * _BYTES).to_bytes(4, "little")),
        *(_BYTES.to_bytes(2, "little"), (8 * _BYTES).to_bytes(2, "little")),
    )
    return b"".join((b"RIFF", unknown, b"WAVEfmt ", *fmt, b"data", unknown))


class _Sink(io.RawIOBase):
    """A file that only grows; its bytes are taken as they come."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


class _Compressed:
    """One of `FORMATS`, by FFmpeg."""

    def __init__(self, container: str, codec: str, content_type: str, rate: int) -> None:
        self.content_type = content_type
        self._rate = rate
        self._at = 0
        self._sink = _Sink()
        self._file: Any = av.open(
            self._sink,
            "w",
            format=container,
            container_options={"flush_packets": "1", **_EARLY.get(container, {})},
            buffer_size=_BUFFER,
        )
        out_rate = _OPUS_RATE if codec == "libopus" else rate
        self._stream: Any = self._file.add_stream(codec, rate=out_rate, layout="mono")

    def encode(self, samples: bytes) -> bytes:
        if samples:
            count = len(samples) // _BYTES
            frame = av.AudioFrame(format="s16", layout="mono", samples=count)
            frame.sample_rate, frame.pts = self._rate, self._at
            frame.time_base = Fraction(1, self._rate)
            plane = frame.planes[0]
            plane.update(samples.ljust(plane.buffer_size, b"\0"))
            self._at += count
            self._mux(frame)
        return self._sink.take()

    def end(self) -> bytes:
        self._mux(None)
        self._file.close()
        return self._sink.take()

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._file.mux(packet)


def to_samples(wave: Any) -> bytes:
    """16-bit samples of a numpy array of floats from -1 to 1."""
    return bytes((wave.clip(-1, 1) * 32767).astype("<i2").tobytes())


def silence(seconds: float, rate: int) -> bytes:
    """Samples without sound."""
    return array("h", [0]).tobytes() * int(seconds * rate)
