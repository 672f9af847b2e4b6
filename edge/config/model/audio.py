"""The table of audio."""

from typing import Annotated

from msgspec import Meta, Struct

from edge.config.units import Size


class AudioConfig(Struct, frozen=True, kw_only=True):
    """Audio that callers send to be transcribed or translated."""

    max_size: Annotated[
        Size,
        Meta(description="Bytes of one file; OpenAI takes 25 MiB. Larger files are answered 413."),
    ] = Size(25 << 20)
