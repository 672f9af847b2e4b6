"""Tasks of the media sandbox and their results.

Worker and child share these types; they import no decoder. Times are seconds from the start of the
media, sizes pixels.
"""

from typing import ClassVar, Generic, Literal, TypeVar

import msgspec

Result = TypeVar("Result")
Kind = Literal["image", "audio", "video", "document"]
Library = Literal["PIL", "av", "pypdfium2"]

LONGEST_SIDE = 1568
"""Pixels of the longest side of an image that a model reads; more adds no detail for it."""
LONGEST_SIDE_LOW = 768
"""The same for the detail class `low`."""
MAX_PIXELS = 50_000_000
"""Pixels of an image; more are refused before they are decoded."""
SPEECH_RATE = 16_000
"""Samples per second of converted audio: what transcribers use inside."""
MAX_SOUND = 1800.0
"""Seconds of audio that one task converts: 58 MB of WAV."""
MAX_PAGES = 100


class Task(msgspec.Struct, Generic[Result], frozen=True, kw_only=True):
    """Work on one media file. kind: of the file, for errors. libraries: what it needs."""

    kind: ClassVar[Kind]
    libraries: ClassVar[tuple[Library, ...]]
    result: ClassVar[type]


# Images


class ImageInfo(msgspec.Struct, frozen=True):
    """What the header of an image says. format: "png", "jpeg", "webp", "gif" or "avif"."""

    format: str
    width: int
    height: int
    animated: bool


class InspectImage(Task[ImageInfo], frozen=True, tag="inspect-image"):
    """Read the header of an image, without decoding its pixels."""

    kind = "image"
    libraries = ("PIL",)
    result = ImageInfo


class Picture(msgspec.Struct, frozen=True):
    """An encoded image. type: "image/png" or "image/jpeg"."""

    data: bytes
    type: str
    width: int
    height: int


class NormalisedImage(msgspec.Struct, frozen=True):
    """A `picture` for a model, and the `original` it was made of."""

    picture: Picture
    original: ImageInfo


class NormaliseImage(Task[NormalisedImage], frozen=True, tag="normalise-image"):
    """Apply the orientation, reduce to `longest` pixels on the longest side, take the first frame
    of an animation, drop metadata, and encode as PNG or JPEG."""

    kind = "image"
    libraries = ("PIL",)
    result = NormalisedImage
    longest: int = LONGEST_SIDE


class Colour(msgspec.Struct, frozen=True):
    """A colour as `#rrggbb`, and the part of the image that it covers, of 1."""

    hex: str
    share: float


class Colours(msgspec.Struct, frozen=True):
    """Dominant colours, the most frequent one first."""

    colours: tuple[Colour, ...]
    original: ImageInfo


class DominantColours(Task[Colours], frozen=True, tag="dominant-colours"):
    """Find at most `most` colours that cover most of an image."""

    kind = "image"
    libraries = ("PIL",)
    result = Colours
    most: int = 5


# Audio


class AudioInfo(msgspec.Struct, frozen=True):
    """seconds: counted from the packets, so a false header does not change it. container, codec:
    FFmpeg's names, such as "mp3", "mov", "matroska", "ogg", "wav", "flac", "aac"."""

    seconds: float
    container: str
    codec: str
    channels: int
    rate: int


class MeasureAudio(Task[AudioInfo], frozen=True, tag="measure-audio"):
    """Measure the duration of the first sound track of a file, without decoding its samples."""

    kind = "audio"
    libraries = ("av",)
    result = AudioInfo


class Sound(msgspec.Struct, frozen=True):
    """A WAV file: 16 bits, one channel, `SPEECH_RATE`. peak: the loudest sample, of 1.

    start: seconds of its first sample in the media.
    """

    data: bytes
    start: float
    seconds: float
    peak: float


class ConvertAudio(Task[Sound], frozen=True, tag="convert-audio"):
    """Convert a sound track, or `start` to `end` of it, to WAV. end: None is the end of the track.

    More than `MAX_SOUND` seconds are refused.
    """

    kind = "audio"
    libraries = ("av",)
    result = Sound
    start: float = 0.0
    end: float | None = None


class Pieces(msgspec.Struct, frozen=True):
    """Pieces of a sound track: (start, end) of each, without gaps."""

    pieces: tuple[tuple[float, float], ...]


class SplitAudio(Task[Pieces], frozen=True, tag="split-audio"):
    """Find where to cut a sound track into pieces of about `target` seconds: in the quietest moment
    within `tolerance` seconds of each multiple."""

    kind = "audio"
    libraries = ("av",)
    result = Pieces
    target: float = 600.0
    tolerance: float = 60.0


# Video


class VideoInfo(msgspec.Struct, frozen=True):
    """A video with its first picture track. sound: whether it has a sound track that can be read.
    fps: 0 if unknown."""

    seconds: float
    width: int
    height: int
    fps: float
    codec: str
    container: str
    sound: bool


class ProbeVideo(Task[VideoInfo], frozen=True, tag="probe-video"):
    """Read what a video has, without decoding its frames."""

    kind = "video"
    libraries = ("av",)
    result = VideoInfo


class Frame(msgspec.Struct, frozen=True):
    """One frame of a video as JPEG."""

    at: float
    picture: Picture


class Frames(msgspec.Struct, frozen=True):
    """Frames in the order of time, without those that hardly differ from the one before."""

    frames: tuple[Frame, ...]
    video: VideoInfo


class SampleFrames(Task[Frames], frozen=True, tag="sample-frames"):
    """Take frames at equal distances: one for each `every` seconds, `least` to `most` of them."""

    kind = "video"
    libraries = ("av", "PIL")
    result = Frames
    every: float = 5.0
    least: int = 4
    most: int = 16
    longest: int = LONGEST_SIDE


class ExtractSound(Task[Sound], frozen=True, tag="extract-sound"):
    """Convert the sound track of a video as `ConvertAudio` does. One without sound is refused."""

    kind = "video"
    libraries = ("av",)
    result = Sound
    start: float = 0.0
    end: float | None = None


# Documents


class DocumentText(msgspec.Struct, frozen=True):
    """Text of the first pages of a PDF, and how many it has. cut: whether a page's text was cut."""

    pages: tuple[str, ...]
    total: int
    cut: bool


class ReadDocument(Task[DocumentText], frozen=True, tag="read-document"):
    """Read the text of a PDF by page: at most `pages` pages and `characters` characters."""

    kind = "document"
    libraries = ("pypdfium2",)
    result = DocumentText
    pages: int = MAX_PAGES
    characters: int = 2_000_000


class Pages(msgspec.Struct, frozen=True):
    """Rendered pages, in the order asked for."""

    pages: tuple[Picture, ...]


class RenderPages(Task[Pages], frozen=True, tag="render-pages"):
    """Render pages of a PDF, numbered from 0, at `dpi`, reduced to `longest` pixels."""

    kind = "document"
    libraries = ("pypdfium2", "PIL")
    result = Pages
    numbers: tuple[int, ...]
    dpi: int = 150
    longest: int = LONGEST_SIDE


AnyTask = (
    InspectImage
    | NormaliseImage
    | DominantColours
    | MeasureAudio
    | ConvertAudio
    | SplitAudio
    | ProbeVideo
    | SampleFrames
    | ExtractSound
    | ReadDocument
    | RenderPages
)

# What a child writes: b"\0" and the result, or b"\1" and the failure.

Reason = Literal["unreadable", "too_large", "unsupported", "missing", "outdated"]


class Failure(msgspec.Struct, frozen=True):
    """Why a task has no result.

    unreadable: the media are broken. too_large: over a bound. unsupported: a format or codec that
    is not decoded here. missing: a library is not installed. outdated: a library has known holes.
    detail: for the log: the type of the decoder's error, or the name of the library.
    """

    reason: Reason
    detail: str = ""


class TaskFailed(Exception):
    """A task that ends with a `Failure`."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.failure = Failure(reason, detail)
