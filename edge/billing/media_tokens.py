"""Tokens of pictures, documents and sound, by the dearest of the vendors' published rules.

Only the first bytes of a picture are decoded, as far as its size stands there. What cannot be read,
or is not sent along (a URL, a file id), counts as the largest.
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
"""Bytes in which PNG, GIF and WebP have their size."""
_JPEG_HEAD = 256 << 10
"""Bytes in which a JPEG has its size, after its metadata and thumbnail."""

_FILL = re.compile(rb"\xff*")
_SEGMENTS = 256
"""Segments before a JPEG's frame header; a camera writes about twenty."""

_PAGE = 4500
"""Anthropic: up to 3,000 of text and the picture of the page."""
_PAGE_BYTES = 20_000
"""A page has seldom less, where the file does not show its pages."""
_MAX_PAGES = 1000

_PAGES, _TREES = (b"/Type/Page", b"/Type /Page"), (b"/Type/Pages", b"/Type /Pages")
_LONGEST_MARK = len(b"/Type /Pages")
AT_ONCE = 1 << 20
"""Characters of base64 that are decoded in one call."""
_JOINTS = b"\\\r\n ="

_PER_SECOND = 32
_SLOWEST = 4000
"""Bytes in a second of compressed speech, at the least."""


def image_tokens(data: str) -> int:
    """Tokens of a picture given as base64; the largest for one whose size is not known."""
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
    """Width and height in pixels of a PNG, JPEG, GIF or WebP in base64; None when not to be read.

    Sources: PNG 3rd edition, 11.2.1; GIF89a, 18; RFC 9649; ITU-T T.81, B.2.2.
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
    """Walk from segment to segment to the frame header."""
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
    """The first bytes of base64 data; b"" for what is none."""
    length = (most + 2) // 3 * 4
    piece = data[:length]
    try:
        return a2b_base64(piece[: len(piece) // 4 * 4])
    except ValueError:
        return b""


def file_tokens(size: int) -> int:
    """Tokens of a file of so many bytes of which nothing else is known."""
    return _PAGE * min(_MAX_PAGES, max(1, ceil(size / _PAGE_BYTES)))


def pdf_tokens(data: str) -> int:
    """Tokens of a PDF given as base64: by its pages, where they are not compressed away."""
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
    """The bytes that base64 data stands for; of much of it a piece at a time, so that no step takes
    long. Raises ValueError for what is none."""
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
    """Tokens of sound given as base64. A WAV tells its bytes in a second (RIFF, `fmt `), and of
    what they are the product: players go by the parts, so a caller cannot well lie about both.
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
"""Bytes of base64 that make a medium."""
_MAX_MEDIA = 1000
"""Media of one request; no vendor takes as many."""
# With the backslash that some put before each slash, or that begins a line's end.
_BASE64 = re.compile(rb"[A-Za-z0-9+/=_\\-]*+")
_EMBEDDED = re.compile(
    rb'"(?:url|image_url|video_url|audio_url|file_url|file_data|data)"\s*:\s*'
    rb'"data:[^"]{0,200}?base64,|"(?:data|b64_json)"\s*:\s*"'
)
"""What stands before base64 in the bodies of all dialects. In a text the quotes would be escaped.
Nothing is looked at twice, whatever a body is made of."""
_REMOTE = re.compile(
    rb'(?:"(?:image_url|video_url|audio_url|file_url)"\s*:\s*(?:\{[^{}]{0,200}?"url"\s*:\s*)?'
    rb'|"source"\s*:\s*\{[^{}]{0,200}?"url"\s*:\s*)"https?:()'
)
"""Media that are linked. Other addresses, as of sources and search results, are text."""


def media_in(body: bytes) -> tuple[int, int]:
    """Bytes of `body` that are base64 media, and the tokens of all media, linked ones included.

    A media block without base64 is taken for the largest picture. A text that only looks like one
    stays text: what would pass for a picture would hardly be paid for.
    """
    media_bytes = 0
    tokens = 0
    if b'"http' in body:
        tokens = sum(1 for _ in matches(_REMOTE, body)) * LARGEST_IMAGE
    for n, run in enumerate(_embedded(body)):
        media_bytes += len(run)
        if n < _MAX_MEDIA:
            tokens += _run_tokens(run)
        else:
            tokens += max(LARGEST_IMAGE, file_tokens(len(run) * 3 // 4))
    return media_bytes, tokens


def _embedded(body: bytes) -> Iterator[bytes]:
    """The base64 of each medium that stands in `body`."""
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
    """Tokens of one run of base64, by what its first bytes say it is."""
    if run.startswith(b"UklGR") and run[12:16] != b"RUJQ":  # RIFF, and not WebP: WAV
        return audio_tokens(run.decode("latin-1"), "wav")
    if run.startswith((b"iVBORw0KGgo", b"/9j/", b"R0lGOD", b"UklGR")):
        return image_tokens(run.decode("latin-1"))
    if run.startswith(b"JVBERi"):
        return pdf_tokens(run.decode("latin-1"))
    return file_tokens(len(run) * 3 // 4)
