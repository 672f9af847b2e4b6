"""Videos: what they have, and frames of them. Runs in a sandbox process."""

from collections.abc import Iterator
from time import process_time
from typing import BinaryIO

from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from .images import encoded
from .tasks import Frame, Frames, TaskFailed, VideoInfo
from .tracks import Timeline, has_sound, opened, packets, picture_track, timeline

_CPU = 12.0
"""Seconds of processor time for exact frames; then the nearest keyframes are taken."""
_RIGHT_ANGLES = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
_THUMBNAIL = (96, 54)
_DIFFERENT = 12
"""Difference of brightness, of 255, that a thumbnail's cell may have in an equal picture."""
_SAME_PART = 0.002
"""Part of the cells that may differ in an equal picture."""


def probe(file: BinaryIO) -> VideoInfo:
    """See `ProbeVideo`. Raises TaskFailed."""
    with opened(file) as container:
        track = picture_track(container)
        return _info(container, track, timeline(container, track))


def _info(container: InputContainer, track: VideoStream, times: Timeline) -> VideoInfo:
    context = track.codec_context
    if not times.seconds:
        raise TaskFailed("unreadable", "no packets")
    return VideoInfo(
        times.seconds,
        context.width,
        context.height,
        float(track.average_rate or 0),
        context.codec.canonical_name,
        container.format.name.partition(",")[0],
        has_sound(container),
    )


def frames(file: BinaryIO, every: float, least: int, most: int, longest: int) -> Frames:
    """See `SampleFrames`. Raises TaskFailed."""
    with opened(file) as container:
        track = picture_track(container)
        times = timeline(container, track)
        info = _info(container, track, times)
        wanted = round(min(max(info.seconds / every, least), most))
        taken: list[Frame] = []
        thumbnail: bytes | None = None
        for frame in _sampled(container, track, times, wanted):
            image = _upright(frame)
            image.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=2.0)
            small = image.convert("L").resize(_THUMBNAIL, Image.Resampling.BOX).tobytes()
            if thumbnail is None or _differ(thumbnail, small):
                at = ((frame.pts or 0) - times.first) * float(track.time_base or 0)
                taken.append(Frame(max(0.0, at), encoded(image, photo=True)))
                thumbnail = small
    if not taken:
        raise TaskFailed("unreadable", "no frames")
    return Frames(tuple(taken), info)


def _sampled(
    container: InputContainer, track: VideoStream, times: Timeline, wanted: int
) -> Iterator[VideoFrame]:
    """`wanted` frames in the middle of equal parts of the video, fewer where it is broken.

    A keyframe in the same part is as good, and needs no other frame. Where there is none, all
    frames since the last keyframe are decoded, or since the frame before if that is later.
    """
    ends = process_time() + _CPU
    part = times.seconds / wanted / float(track.time_base or 1)
    container.seek(times.first, stream=track)
    stream, position = _decoded(container, track), times.first - 1
    for number in range(wanted):
        moment = times.first + (number + 0.5) * part
        near = min(times.keyframes, key=lambda pts: abs(pts - moment), default=times.first)
        aim = moment
        if abs(near - moment) <= part / 2 or process_time() > ends:
            aim = near
        before = max((pts for pts in times.keyframes if pts <= aim), default=times.first)
        if before > position:
            container.seek(before, stream=track)
            stream = _decoded(container, track)
        found = None
        for frame in stream:
            if frame.pts is None or frame.pts <= position:
                continue
            found, position = frame, frame.pts
            if position >= int(aim) or process_time() > ends:
                break
        if found is not None:
            yield found


def _decoded(container: InputContainer, track: VideoStream) -> Iterator[VideoFrame]:
    """Frames from where the container stands. Packets that cannot be decoded are left out."""
    for packet in packets(container, track):
        try:
            yield from (frame for frame in packet.decode() if isinstance(frame, VideoFrame))
        except (FFmpegError, ValueError):
            continue


def _upright(frame: VideoFrame) -> Image.Image:
    image: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
    turn = _RIGHT_ANGLES.get(round(frame.rotation) % 360)
    return image if turn is None else image.transpose(turn)


def _differ(one: bytes, other: bytes) -> bool:
    cells = sum(abs(a - b) > _DIFFERENT for a, b in zip(one, other, strict=True))
    return cells > len(one) * _SAME_PART
