"""Token estimates for images, documents and audio, by the most expensive published vendor rule.

Only the first bytes of an image are decoded, which contain its size. Unreadable media, and media
that are not in the request (a URL, a file id), count as the largest.
"""

import re
from binascii import a2b_base64
from collections.abc import Iterator
from math import ceil

from edge.requests.regex_windows import OVERLAP, WINDOW, matches, run_end

LARGEST_IMAGE = 4784
"""Anthropic, models of high resolution: 2576 pixels on the long edge."""
_LONG_EDGE = 2576
_PER_TOKEN = 750  # Anthropic: pixels
_TILE, _TILE_TOKENS, _BASE_TOKENS = 512, 170, 85  # OpenAI: GPT-4o and its kin
_FIT, _SHORT_EDGE = 2048, 768
_PATCH, _MAX_PATCHES, _PATCH_TOKENS = 32, 1536, 2.46  # OpenAI: GPT-4.1 nano, the dearest
_HEAD = 64
"""Bytes that contain the size of a PNG, GIF or WebP."""
_JPEG_HEAD = 256 << 10
"""Bytes that contain the size of a JPEG, after metadata and thumbnail."""

_FILL = re.compile(rb"\xff*")
_SEGMENTS = 256
"""Segments before a JPEG's frame header; cameras write about twenty."""

_PAGE = 4500
"""Tokens of a PDF page. Anthropic: up to 3,000 of text, and the image of the page."""
_PAGE_BYTES = 20_000
"""Bytes of a small page, for files whose pages cannot be counted."""
_MAX_PAGES = 1000

_PAGES, _TREES = (b"/Type/Page", b"/Type /Page"), (b"/Type/Pages", b"/Type /Pages")
_LONGEST_MARK = len(b"/Type /Pages")
AT_ONCE = 1 << 20
"""Characters of base64 decoded per call."""
_JOINTS = b"\\\r\n ="

_PER_SECOND = 32
_SLOWEST = 4000
"""Minimum bytes per second of compressed speech."""


def image_tokens(data: str) -> int:
    """Tokens of a base64 image; the largest if its size is unknown."""
    size = image_size(data)
    if size is None or 0 in size:
        return LARGEST_IMAGE
    return max(_by_area(*size), _by_tiles(*size), _by_patches(*size))


def _by_area(width: int, height: int) -> int:
    scale = min(1.0, _LONG_EDGE / max(width, height))
    return min(LARGEST_IMAGE, ceil(width * height * scale * scale / _PER_TOKEN))


def _by_tiles(width: int, height: int) -> int:
    scale = min(1.0, _FIT / max(width, height))
    scale = min(scale, _SHORT_EDGE / min(width, height))
    tiles = ceil(width * scale / _TILE) * ceil(height * scale / _TILE)
    return _BASE_TOKENS + _TILE_TOKENS * tiles


def _by_patches(width: int, height: int) -> int:
    patches = min(_MAX_PATCHES, ceil(width / _PATCH) * ceil(height / _PATCH))
    return ceil(patches * _PATCH_TOKENS)


def image_size(data: str) -> tuple[int, int] | None:
    """Width and height in pixels of a base64 PNG, JPEG, GIF or WebP; None if unreadable.

    Sources: PNG (Third), 11.2.1; GIF89a, 18; RFC 9649; ITU-T T.81, B.2.2.
    """
    head = _decoded(data, _HEAD)
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    if head.startswith((b"GIF87a", b"GIF89a")) and len(head) >= 10:
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP" and len(head) >= 30:
        return _webp(head)
    if head.startswith(b"\xff\xd8\xff"):
        return _jpeg(_decoded(data, _JPEG_HEAD))
    return None


def _webp(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = head[26:28], head[28:30]
        return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF
    return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    """Size in the frame header of a JPEG."""
    at = 2
    for _ in range(_SEGMENTS):
        marked = _FILL.match(head, at).end()  # type: ignore[union-attr]  # it always matches
        if marked == at or marked + 8 > len(head):
            break
        marker, behind = head[marked], head[marked + 1 : marked + 8]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(behind[5:7], "big"), int.from_bytes(behind[3:5], "big")
        at = marked + 1 + int.from_bytes(behind[:2], "big")
    return None


def _decoded(data: str, most: int) -> bytes:
    """The first bytes of base64 data; b"" if it is invalid."""
    length = (most + 2) // 3 * 4
    piece = data[:length]
    try:
        return a2b_base64(piece[: len(piece) // 4 * 4])
    except ValueError:
        return b""


def file_tokens(size: int) -> int:
    """Tokens of a file of which only the size in bytes is known."""
    return _PAGE * min(_MAX_PAGES, max(1, ceil(size / _PAGE_BYTES)))


def pdf_tokens(data: str) -> int:
    """Tokens of a base64 PDF: by its pages if they are visible, else by its size."""
    size = pages = 0
    rest = b""
    try:
        for content in _unpacked(data):
            size += len(content)
            content = rest + content
            pages += _pages(content) - _pages(rest)
            rest = content[-_LONGEST_MARK:]
    except ValueError:
        return file_tokens(len(data) * 3 // 4)
    return _PAGE * min(_MAX_PAGES, pages) if pages > 0 else file_tokens(size)


def _pages(content: bytes) -> int:
    return sum(map(content.count, _PAGES)) - sum(map(content.count, _TREES))


def _unpacked(data: str) -> Iterator[bytes]:
    """The decoded bytes of base64 data, in pieces if it is long. Raises ValueError if invalid."""
    if len(data) <= AT_ONCE:
        yield a2b_base64(data)
        return
    rest = b""
    for at in range(0, len(data), AT_ONCE):
        piece = data[at : at + AT_ONCE].encode("latin-1", "replace").translate(None, _JOINTS)
        piece = rest + piece
        whole = len(piece) // 4 * 4
        rest = piece[whole:]
        yield a2b_base64(piece[:whole])
    if len(rest) > 1:
        yield a2b_base64(rest + b"=" * (4 - len(rest)))


def audio_tokens(data: str, kind: str) -> int:
    """Tokens of base64 audio.

    A WAV states its bytes per second (RIFF, `fmt `) and the factors of that number. The smaller of
    both counts: players use the factors, so a caller cannot understate the duration.
    """
    rate = _SLOWEST
    if kind == "wav":
        head = _decoded(data, _HEAD)
        rate = int.from_bytes(head[28:32], "little") or _SLOWEST
        samples, block = (
            int.from_bytes(head[24:28], "little"),
            int.from_bytes(head[32:34], "little"),
        )
        rate = min(rate, samples * block or rate)
    return ceil(len(data) * 3 / 4 / rate * _PER_SECOND)


_LEAST_RUN = 1024
"""Minimum bytes of base64 of a media block."""
_SAMPLED = 64
"""One byte of so many is looked up first: a run of `_LEAST_RUN` has fifteen of these in a row."""
_LONG_RUN = re.compile(rb"[A-Za-z0-9+/=_\\-]{15}")
MAX_MEDIA = 1000
"""Media of one request that are measured; no vendor accepts as many."""
# Includes the backslash of an escaped slash or newline.
_BASE64 = re.compile(rb"[A-Za-z0-9+/=_\\-]*+")
_EMBEDDED = re.compile(
    rb'"(?:url|image_url|video_url|audio_url|file_url|file_data|data)"\s*:\s*'
    rb'"data:[^"]{0,200}?base64,|"(?:data|b64_json)"\s*:\s*"'
)
"""The JSON before base64 in the bodies of all dialects. In a text the quotes would be escaped.

It scans each byte once, whatever the body.
"""
_REMOTE = re.compile(
    rb'(?:"(?:image_url|video_url|audio_url|file_url)"\s*:\s*(?:\{[^{}]{0,200}?"url"\s*:\s*)?'
    rb'|"source"\s*:\s*\{[^{}]{0,200}?"url"\s*:\s*)"https?:()'
)
"""Linked media. Other URLs, such as those of sources and search results, are text."""


def media_in(body: bytes) -> tuple[int, int, int]:
    """Embedded media in `body`, bytes of their base64, and the tokens of all media, linked ones
    included.

    A media block without base64 counts as the largest image. A text that only resembles a media
    block counts as text, or it would cost too little.
    """
    media = media_bytes = tokens = 0
    if b'"http' in body:
        tokens = sum(1 for _ in matches(_REMOTE, body)) * LARGEST_IMAGE
    if _has_long_run(body):
        for run in _embedded(body):
            media_bytes += len(run)
            if media < MAX_MEDIA:
                tokens += _run_tokens(run)
            else:
                tokens += max(LARGEST_IMAGE, file_tokens(len(run) * 3 // 4))
            media += 1
    return media, media_bytes, tokens


def _has_long_run(body: bytes) -> bool:
    """Whether `body` may have base64 of `_LEAST_RUN` bytes."""
    sampled = body[::_SAMPLED]
    at = 0
    while (run := _LONG_RUN.search(sampled, at)) is not None:
        start = run.start() * _SAMPLED
        end = _BASE64.match(body, start, start + _LEAST_RUN).end()  # type: ignore[union-attr]
        if end - start >= 14 * _SAMPLED:
            return True
        at = max(run.start() + 1, end // _SAMPLED)
    return False


def _embedded(body: bytes) -> Iterator[bytes]:
    """The base64 of each media block in `body`."""
    at, size = 0, len(body)
    while at < size:
        head = _EMBEDDED.search(body, at, at + WINDOW + OVERLAP)
        if head is None or head.start() >= at + WINDOW:
            at += WINDOW
            continue
        start = head.end()
        at = run_end(_BASE64, body, start)
        if at - start >= _LEAST_RUN and body[at : at + 1] == b'"':
            yield body[start:at]


def _run_tokens(run: bytes) -> int:
    """Tokens of one base64 run, by the file type in its first bytes."""
    if run.startswith(b"UklGR") and run[12:16] != b"RUJQ":  # RIFF, and not WebP: WAV
        return audio_tokens(run.decode("latin-1"), "wav")
    if run.startswith((b"iVBORw0KGgo", b"/9j/", b"R0lGOD", b"UklGR")):
        return image_tokens(run.decode("latin-1"))
    if run.startswith(b"JVBERi"):
        return pdf_tokens(run.decode("latin-1"))
    return file_tokens(len(run) * 3 // 4)
