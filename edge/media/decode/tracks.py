"""Files of sound and video: their container, tracks and bounds. Runs in a sandbox process.

FFmpeg reads a file object, never a name, so no protocol of its own is opened. The container is
given by the first bytes of the file, and only the codecs listed here are opened, also while FFmpeg
inspects a file. Playlists (HLS, DASH, concat) and everything else that names other files is thus
out of reach.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple, NoReturn

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from .tasks import TaskFailed

OLDEST = (8, 1, 2)
"""FFmpeg without the memory corruption of CVE-2026-8461 and of its parser of IAMF."""
_MAX_STREAMS = 8
_MAX_SIDE = 4096
_MAX_FPS = 60.5
"""Frames per second: 60, and what clocks add to it."""
_RATES = range(4_000, 384_001)

_AUDIO = (
    *("aac", "mp3", "mp3float", "opus", "libopus", "vorbis", "flac"),
    *("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s32le", "pcm_u8", "pcm_f32le", "pcm_f64le"),
    *("pcm_alaw", "pcm_mulaw"),
)
_VIDEO = ("h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4", "mjpeg")
_OPTIONS = {
    "codec_whitelist": ",".join((*_AUDIO, *_VIDEO)),
    "max_streams": str(_MAX_STREAMS),
}
_NO_REFERENCES = {"enable_drefs": "0", "use_absolute_path": "0"}
"""QuickTime: tracks in other files."""


def check_version() -> None:
    """Raise TaskFailed if FFmpeg is older than `OLDEST`."""
    version = av.ffmpeg_version_info.lstrip("n")
    numbers = []
    for part in version.split("-")[0].split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    if not numbers or tuple(numbers) < OLDEST:
        raise TaskFailed("outdated", f"FFmpeg {version}")


@contextmanager
def opened(file: BinaryIO) -> Iterator[InputContainer]:
    """The container in `file`. Raises TaskFailed."""
    check_version()
    name = container_of(file.read(64))
    if name is None:
        raise TaskFailed("unsupported", "container")
    file.seek(0)
    options = {**_OPTIONS, "format_whitelist": name}
    if name == "mov":
        options.update(_NO_REFERENCES)
    try:
        with av.open(
            file, "r", format=name, container_options=options, io_open=_refuse_other_files
        ) as container:
            if len(container.streams) > _MAX_STREAMS:
                raise TaskFailed("too_large", "streams")
            yield container
    except FFmpegError as error:
        raise TaskFailed("unreadable", type(error).__name__) from None


def _refuse_other_files(*_: object) -> NoReturn:
    raise TaskFailed("unsupported", "a reference to another file")


def container_of(head: bytes) -> str | None:
    """FFmpeg's name of the container that begins with `head`, or None."""
    if head[:4] in (b"RIFF", b"RF64", b"BW64"):
        return {b"WAVE": "wav", b"AVI ": "avi"}.get(head[8:12])
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    for magic, name in (
        (b"\x1aE\xdf\xa3", "matroska"),
        (b"OggS", "ogg"),
        (b"fLaC", "flac"),
        (b"ID3", "mp3"),
    ):
        if head.startswith(magic):
            return name
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        # MPEG sync word: layer 0 is AAC in ADTS.
        return "mp3" if head[1] & 0x06 else "aac"
    return None


def sound_track(container: InputContainer) -> AudioStream:
    """The first sound track that can be decoded. Raises TaskFailed."""
    if not container.streams.audio:
        raise TaskFailed("unsupported", "no sound track")
    found = next((track for track in container.streams.audio if _codec(track) in _AUDIO), None)
    if found is None:
        raise TaskFailed("unsupported", "codec of the sound track")
    if found.codec_context.sample_rate not in _RATES:
        raise TaskFailed("unreadable", "sample rate")
    found.codec_context.thread_count = 1
    return found


def picture_track(container: InputContainer) -> VideoStream:
    """The first picture track, within bounds. Raises TaskFailed."""
    if not container.streams.video:
        raise TaskFailed("unsupported", "no picture track")
    found = next((track for track in container.streams.video if _codec(track) in _VIDEO), None)
    if found is None:
        raise TaskFailed("unsupported", "codec of the picture track")
    width, height = found.codec_context.width, found.codec_context.height
    if not width or not height:
        raise TaskFailed("unreadable", "size")
    if max(width, height) > _MAX_SIDE:
        raise TaskFailed("too_large", "pixels")
    if (found.average_rate or 0) > _MAX_FPS:
        raise TaskFailed("too_large", "frames per second")
    found.codec_context.thread_count = 1
    return found


def has_sound(container: InputContainer) -> bool:
    """Whether `sound_track` finds one."""
    try:
        sound_track(container)
    except TaskFailed:
        return False
    return True


def _codec(track: Stream) -> str:
    try:
        return track.codec_context.codec.canonical_name
    except (AttributeError, ValueError):  # FFmpeg has no decoder for it
        return ""


def packets(container: InputContainer, track: Stream) -> "Iterator[Packet[Any]]":
    """Packets of `track`, up to the end or to the first place that cannot be read."""
    stream = container.demux(track)
    while True:
        try:
            packet = next(stream)
        except (StopIteration, FFmpegError):
            return
        yield packet


class Timeline(NamedTuple):
    """Times of a track, counted from its packets. What the header states does not count.

    first: timestamp of the first packet. keyframes: their timestamps, in order.
    """

    seconds: float
    first: int
    keyframes: list[int]


def timeline(container: InputContainer, track: Stream) -> Timeline:
    """Read all packets of `track`, without decoding them."""
    unit = float(track.time_base or 0)
    first: int | None = None
    last = summed = 0
    keyframes = []
    for packet in packets(container, track):
        length = packet.duration or 0
        summed += length
        if packet.pts is not None:
            first = packet.pts if first is None else min(first, packet.pts)
            last = max(last, packet.pts + length)
            if packet.is_keyframe:
                keyframes.append(packet.pts)
    first = first or 0
    return Timeline(max(0.0, max(summed, last - first) * unit), first, sorted(keyframes))
