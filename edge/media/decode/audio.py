"""Sound tracks: duration, conversion to WAV, and places to cut. Runs in a sandbox process."""

from array import array
from collections.abc import Iterator
from typing import BinaryIO

from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError

from .tasks import MAX_SOUND, SPEECH_RATE, AudioInfo, Pieces, Sound, TaskFailed
from .tracks import opened, packets, sound_track, timeline

_BYTES = 2
_PEAK = 32768
_WINDOW = SPEECH_RATE // 10
"""Samples of a moment; a pause between sentences has several."""
_RUN = 3
"""Moments that must be quiet together for a cut."""
_MAX_PIECES = 200


def measure(file: BinaryIO) -> AudioInfo:
    """See `MeasureAudio`. Raises TaskFailed."""
    with opened(file) as container:
        track = sound_track(container)
        seconds = timeline(container, track).seconds
        if not seconds:
            raise TaskFailed("unreadable", "no packets")
        context = track.codec_context
        return AudioInfo(
            seconds,
            container.format.name.partition(",")[0],
            context.codec.canonical_name,
            context.channels,
            context.sample_rate,
        )


def convert(file: BinaryIO, start: float, end: float | None) -> Sound:
    """See `ConvertAudio`. Raises TaskFailed."""
    with opened(file) as container:
        return _converted(container, sound_track(container), start, end)


def _converted(
    container: InputContainer, track: AudioStream, start: float, end: float | None
) -> Sound:
    first = round(max(0.0, start) * SPEECH_RATE)
    limit = None if end is None else max(first, round(end * SPEECH_RATE))
    if limit is not None and limit - first > MAX_SOUND * SPEECH_RATE:
        raise TaskFailed("too_large", "seconds")
    samples = array("h")
    at = 0
    for piece in _samples(container, track):
        begin = max(0, first - at)
        stop = len(piece) if limit is None else max(0, limit - at)
        if begin < len(piece):
            samples.extend(piece[begin:stop])
        at += len(piece)
        if len(samples) > MAX_SOUND * SPEECH_RATE:
            raise TaskFailed("too_large", "seconds")
        if limit is not None and at >= limit:
            break
    if not at:
        raise TaskFailed("unreadable", "no samples")
    seconds = len(samples) / SPEECH_RATE
    return Sound(wav(samples.tobytes()), first / SPEECH_RATE, seconds, _loudest(samples) / _PEAK)


def _samples(container: InputContainer, track: AudioStream) -> Iterator["array[int]"]:
    """Samples of a track at SPEECH_RATE, in pieces. Packets that cannot be decoded are left out."""
    resampler = AudioResampler(format="s16", layout="mono", rate=SPEECH_RATE)
    for packet in packets(container, track):
        try:
            for frame in packet.decode():
                frame.pts = None
                yield from _resampled(resampler, frame)
        except (FFmpegError, ValueError):
            continue
    try:
        yield from _resampled(resampler, None)
    except (FFmpegError, ValueError):
        return


def _resampled(resampler: AudioResampler, frame: object) -> Iterator["array[int]"]:
    for piece in resampler.resample(frame):  # type: ignore[arg-type]
        samples = array("h")
        samples.frombytes(bytes(piece.planes[0])[: piece.samples * _BYTES])
        yield samples


def _loudest(samples: "array[int]") -> int:
    return abs(max(min(samples), max(samples), key=abs)) if samples else 0


def wav(samples: bytes) -> bytes:
    """A WAV file of 16-bit samples, one channel, at SPEECH_RATE."""
    return b"".join(
        (
            b"RIFF",
            (36 + len(samples)).to_bytes(4, "little"),
            b"WAVEfmt ",
            (16).to_bytes(4, "little"),
            (1).to_bytes(2, "little"),
            (1).to_bytes(2, "little"),
            SPEECH_RATE.to_bytes(4, "little"),
            (SPEECH_RATE * _BYTES).to_bytes(4, "little"),
            _BYTES.to_bytes(2, "little"),
            (8 * _BYTES).to_bytes(2, "little"),
            b"data",
            len(samples).to_bytes(4, "little"),
            samples,
        )
    )


def split(file: BinaryIO, target: float, tolerance: float) -> Pieces:
    """See `SplitAudio`. Raises TaskFailed."""
    if not 0 <= tolerance <= target / 3:
        raise TaskFailed("unsupported", "tolerance")
    with opened(file) as container:
        track = sound_track(container)
        levels = _levels(container, track)
    if not levels:
        raise TaskFailed("unreadable", "no samples")
    moment = _WINDOW / SPEECH_RATE
    total = len(levels) * moment
    cuts = [0.0]
    while total - cuts[-1] > target + tolerance:
        if len(cuts) >= _MAX_PIECES:
            raise TaskFailed("too_large", "seconds")
        low = int((cuts[-1] + target - tolerance) / moment)
        high = int((cuts[-1] + target + tolerance) / moment)
        cuts.append(_quietest(levels, low, high) * moment)
    return Pieces(tuple(zip(cuts, [*cuts[1:], total], strict=True)))


def _levels(container: InputContainer, track: AudioStream) -> "array[int]":
    """The loudest sample of each moment."""
    levels, rest = array("i"), array("h")
    for piece in _samples(container, track):
        rest.extend(piece)
        whole = len(rest) - len(rest) % _WINDOW
        for at in range(0, whole, _WINDOW):
            levels.append(_loudest(rest[at : at + _WINDOW]))
        del rest[:whole]
    if rest:
        levels.append(_loudest(rest))
    return levels


def _quietest(levels: "array[int]", low: int, high: int) -> int:
    """The middle of the quietest moments between `low` and `high`, the one nearest to the middle of
    the range if several are as quiet."""
    middle = (low + high) / 2
    loudness = (
        (max(levels[at : at + _RUN]), abs(at + _RUN / 2 - middle), at)
        for at in range(low, max(low + 1, high - _RUN))
    )
    return min(loudness)[2] + _RUN // 2
