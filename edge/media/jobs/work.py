"""What a job asks of an upstream, whatever its dialect."""

from typing import Any, Literal

import msgspec

from edge.untyped_json import number
from middlewares.pricing import Price
from middlewares.stores.jobs.base import Kind


class Media(msgspec.Struct, frozen=True, omit_defaults=True):
    """Images of a request, as http(s) or data URLs."""

    image: str = ""
    last_image: str = ""
    reference_images: tuple[str, ...] = ()


class Work(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The caller's request, checked. seconds is always set, so that what is rendered is what is
    priced; 0 where the vendor decides.

    size: "1280x720". remix: the upstream's id of the video
    to change. extra: members that the model's entry lists in `passes`.
    """

    kind: Kind
    prompt: str = ""
    seconds: float = 0.0
    size: str = ""
    resolution: str = ""
    aspect_ratio: str = ""
    media: Media = Media()
    seed: int | None = None
    negative_prompt: str = ""
    generate_audio: bool | None = None
    fps: int | None = None
    lyrics: str = ""
    instrumental: bool = False
    style: str = ""
    title: str = ""
    format: Literal["mp3", "wav", "flac", "ogg", "pcm"] = "mp3"
    composition_plan: dict[str, Any] | None = None
    remix: str = ""
    extra: dict[str, Any] = {}

    @property
    def width(self) -> int:
        """Pixels, 0 where no size was given."""
        return int(self.size.partition("x")[0] or 0)

    @property
    def height(self) -> int:
        """Pixels, 0 where no size was given."""
        return int(self.size.partition("x")[2] or 0)


class Place(msgspec.Struct, frozen=True):
    """A target that may do the work. vendor: name of the adapter."""

    upstream: str
    model: str
    vendor: str


class JobTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was fixed when the job was created.

    places: targets, best first. price: of the model then. factor: of the cost that the vendor
    reports, in billionths; 0 where the price of job and seconds counts. seconds: the most that is
    paid for. entry: the model's id as configured, for metric labels; "" in rows from before it.
    """

    places: tuple[Place, ...]
    price: Price
    factor: int = 0
    seconds: float = 0.0
    entry: str = ""


_decode_work = msgspec.json.Decoder(Work, float_hook=number).decode
_decode_media = msgspec.json.Decoder(Media).decode
decode_terms = msgspec.json.Decoder(JobTerms).decode
encode = msgspec.json.Encoder().encode


def split(work: Work) -> tuple[bytes, bytes]:
    """A request as it is kept: without its images, which may be large, and those."""
    bare = msgspec.structs.replace(work, media=Media())
    return encode(bare), b"" if work.media == Media() else encode(work.media)


def joined(request: bytes, media: bytes) -> Work:
    """The reverse of `split`."""
    work = _decode_work(request)
    return msgspec.structs.replace(work, media=_decode_media(media)) if media else work
