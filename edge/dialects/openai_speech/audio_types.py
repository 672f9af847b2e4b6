"""Content types of audio: by the requested format, by the first bytes, and as an upstream says.

Many servers label every format `audio/mpeg`, or none. Clients choose a decoder by the label, so the
first bytes decide where they can.
"""

import re

from edge.dialects.passthrough import UpstreamError

BY_FORMAT = {
    "mp3": b"audio/mpeg",
    "opus": b"audio/ogg",
    "aac": b"audio/aac",
    "flac": b"audio/flac",
    "wav": b"audio/wav",
    "pcm": b"audio/pcm",
}
"""Content type of each format of OpenAI's API."""
_UNKNOWN = b"application/octet-stream"

_SAME = {
    b"audio/mpeg": (b"audio/mpeg", b"audio/mp3", b"audio/mpeg3", b"audio/x-mpeg"),
    b"audio/ogg": (b"audio/ogg", b"audio/opus", b"audio/x-opus+ogg"),
    b"audio/aac": (b"audio/aac", b"audio/x-aac", b"audio/aacp"),
    b"audio/flac": (b"audio/flac", b"audio/x-flac"),
    b"audio/wav": (b"audio/wav", b"audio/x-wav", b"audio/wave", b"audio/vnd.wave"),
}
"""Labels in use for the types that the first bytes tell."""
_LABEL = re.compile(rb"audio/[a-z0-9.+-]{1,40}(?:\s*;\s*[a-z]{1,16}=[a-z0-9.+-]{1,32}){0,4}")
_NO_AUDIO = (b"text/", b"application/json", b"application/xml", b"application/problem")
_OPENINGS = (b"{", b"<")
_BOM = b"\xef\xbb\xbf"


def content_type(label: bytes, asked: str, head: bytes) -> bytes:
    """The content type of audio whose first bytes are `head`.

    label: the upstream's, or b"". asked: the requested format.

    Raises UpstreamError for JSON, HTML or other text: an error that came with status 200.
    """
    label = label.strip().lower()
    if label.startswith(_NO_AUDIO):
        raise UpstreamError(f"audio was asked for and {label[:80]!r} came: {head[:200]!r}")
    labelled = _LABEL.fullmatch(label) is not None
    if (not labelled or asked != "pcm") and head.removeprefix(_BOM).lstrip().startswith(_OPENINGS):
        raise UpstreamError(f"audio was asked for and text came: {head[:200]!r}")
    by_format = BY_FORMAT.get(asked, _UNKNOWN)
    if asked == "pcm":  # bare samples may begin like anything
        return label if labelled and label != b"audio/mpeg" else by_format
    seen = _types_of(head)
    if not seen:
        return label if labelled else by_format
    if labelled and any(label.partition(b";")[0].rstrip() in _SAME[kind] for kind in seen):
        return label if len(seen) == 1 or by_format not in seen else by_format
    return by_format if by_format in seen else seen[0]


def _types_of(head: bytes) -> tuple[bytes, ...]:
    """The content types that the first bytes allow, likeliest first; () if they tell none."""
    if head.startswith(b"RIFF"):
        return (b"audio/wav",)
    if head.startswith(b"OggS"):
        return (b"audio/ogg",)
    if head.startswith(b"fLaC"):
        return (b"audio/flac",)
    if head.startswith(b"ID3"):
        return (b"audio/mpeg", b"audio/aac")
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        # The layer is 0 in ADTS only (ISO 13818-7), and never in MPEG audio.
        return (b"audio/aac" if head[1] & 0xF6 == 0xF0 else b"audio/mpeg",)
    return ()
