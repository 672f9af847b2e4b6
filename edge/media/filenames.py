"""Names of files as callers give them, made safe to store, list and send in a header."""

import unicodedata
from urllib.parse import quote

LONGEST = 255
"""Characters of a name."""
_DROPPED = frozenset(("Cc", "Cs", "Zl", "Zp"))
"""Unicode categories that no name keeps: controls, lone surrogates, line separators."""

EXTENSIONS = {
    "application/json": ".json",
    "application/pdf": ".pdf",
    "audio/aac": ".aac",
    "audio/flac": ".flac",
    "audio/mp4": ".m4a",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "image/avif": ".avif",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "text/plain": ".txt",
    "video/mp4": ".mp4",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
}
"""Extension of a type that was read from content."""


def safe_filename(name: str, mime: str) -> str:
    """The last component of a path, without control characters, as NFC.

    A longer name than `LONGEST` loses characters in front of its extension. An empty one, or one of
    dots alone, becomes "unnamed" and the extension of `mime`.
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(each for each in last if unicodedata.category(each) not in _DROPPED)
    kept = unicodedata.normalize("NFC", kept).strip()
    if not kept.strip("."):
        return f"unnamed{EXTENSIONS.get(mime, '')}"
    if len(kept) > LONGEST:
        stem, dot, extension = kept.rpartition(".")
        end = f"{dot}{extension}" if stem and len(extension) <= 16 else ""
        kept = f"{kept[: LONGEST - len(end)]}{end}"
    return kept


def with_extension(name: str, mime: str) -> str:
    """`name` with the extension of `mime` if it has none: some upstreams tell audio by it."""
    stem, _, extension = name.rpartition(".")
    if stem and extension:
        return name
    return name.removesuffix(".")[: LONGEST - 8] + EXTENSIONS.get(mime, "")


def attachment(name: str) -> bytes:
    """The value of `content-disposition` for a file of this name (RFC 6266, RFC 8187)."""
    ascii_name = "".join(
        each if " " <= each <= "~" and each not in '"\\%' else "_" for each in name
    )
    return (
        f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}".encode()
    )
