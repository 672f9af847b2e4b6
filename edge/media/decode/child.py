"""The sandbox process: one task, then its end.

Usage: `python -I -m edge.media.decode.child TASK`. TASK is the task as MessagePack in hexadecimal.
Standard input is the media, which can be searched. Standard output gets b"\\0" and the result, or
b"\\1" and the failure, as MessagePack. The limits are set before a decoder is imported.
"""

import io
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

import msgspec

from .tasks import (
    AnyTask,
    ConvertAudio,
    DominantColours,
    ExtractSound,
    Failure,
    InspectImage,
    MeasureAudio,
    NormaliseImage,
    ProbeVideo,
    ReadDocument,
    RenderPages,
    SampleFrames,
    SplitAudio,
    TaskFailed,
)

MEMORY = 1536 << 20
CPU = 20
FILE_SIZE = 64 << 20
DESCRIPTORS = 32
NICENESS = 10
ALARM = 40
"""Seconds after which the process ends by itself, where its parent could not end it."""
_BUFFER = 64 << 10


def limit() -> None:
    """Bound what this process may use."""
    os.nice(NICENESS)
    for kind, most in (
        (resource.RLIMIT_CPU, CPU),
        (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_NOFILE, DESCRIPTORS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, MEMORY),
    ):
        with suppress(ValueError):  # the hard limit is lower already
            resource.setrlimit(kind, (most, most))
    with suppress(OSError):  # where memory is short, this process goes first
        _oom_score().write_text("1000")
    signal.alarm(ALARM)


def _oom_score() -> Any:
    from pathlib import Path

    return Path("/proc/self/oom_score_adj")


class InheritedFile(io.RawIOBase):
    """A descriptor as a file of its own position. Others may share the descriptor's position."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = os.pread(self._descriptor, len(buffer), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("expected a position of 0 or more")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at


def perform(task: AnyTask, file: BinaryIO) -> msgspec.Struct | Failure:
    """The result of a task, or why it has none. Never raises."""
    try:
        return _DECODERS[type(task)](task, file)
    except TaskFailed as failed:
        return failed.failure
    except ImportError as error:
        return Failure("missing", error.name or "")
    except MemoryError:
        return Failure("too_large", "memory")
    except Exception as error:  # whatever a decoder raises for broken media
        return Failure("unreadable", type(error).__name__)


# Each imports its decoder when it runs: a process needs one of them.


def _inspect_image(task: InspectImage, file: BinaryIO) -> msgspec.Struct:
    from .images import inspect

    return inspect(file)


def _normalise_image(task: NormaliseImage, file: BinaryIO) -> msgspec.Struct:
    from .images import normalise

    return normalise(file, task.longest)


def _dominant_colours(task: DominantColours, file: BinaryIO) -> msgspec.Struct:
    from .images import colours

    return colours(file, task.most)


def _measure_audio(task: MeasureAudio, file: BinaryIO) -> msgspec.Struct:
    from .audio import measure

    return measure(file)


def _convert_audio(task: ConvertAudio | ExtractSound, file: BinaryIO) -> msgspec.Struct:
    from .audio import convert

    return convert(file, task.start, task.end)


def _split_audio(task: SplitAudio, file: BinaryIO) -> msgspec.Struct:
    from .audio import split

    return split(file, task.target, task.tolerance)


def _probe_video(task: ProbeVideo, file: BinaryIO) -> msgspec.Struct:
    from .video import probe

    return probe(file)


def _sample_frames(task: SampleFrames, file: BinaryIO) -> msgspec.Struct:
    from .video import frames

    return frames(file, task.every, task.least, task.most, task.longest)


def _read_document(task: ReadDocument, file: BinaryIO) -> msgspec.Struct:
    from .documents import text

    return text(file, task.pages, task.characters)


def _render_pages(task: RenderPages, file: BinaryIO) -> msgspec.Struct:
    from .documents import render

    return render(file, task.numbers, task.dpi, task.longest)


_DECODERS: dict[type, Callable[[Any, BinaryIO], msgspec.Struct]] = {
    InspectImage: _inspect_image,
    NormaliseImage: _normalise_image,
    DominantColours: _dominant_colours,
    MeasureAudio: _measure_audio,
    ConvertAudio: _convert_audio,
    SplitAudio: _split_audio,
    ProbeVideo: _probe_video,
    SampleFrames: _sample_frames,
    ExtractSound: _convert_audio,
    ReadDocument: _read_document,
    RenderPages: _render_pages,
}


def main(argument: str) -> None:
    """Perform the task of the command line, and end the process."""
    limit()
    task = msgspec.msgpack.decode(bytes.fromhex(argument), type=AnyTask)
    result = perform(task, io.BufferedReader(InheritedFile(sys.stdin.fileno()), _BUFFER))
    left = memoryview(bytes((isinstance(result, Failure),)) + msgspec.msgpack.encode(result))
    while left:
        left = left[os.write(sys.stdout.fileno(), left) :]
    os._exit(0)  # decoders have nothing to save


if __name__ == "__main__":
    main(sys.argv[1])
