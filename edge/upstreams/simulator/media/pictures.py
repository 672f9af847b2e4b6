"""Small valid pictures: PNG, JPEG, WebP, GIF and SVG of any size, and the size of one.

A picture shows eight by eight fields in two colours, which follow from a seed, or in one colour
where the format would need a compressor. Its prompt is in it as text, where the format has a place.
"""

import struct
import zlib
from collections.abc import Callable, Mapping
from html import escape

Picture = Callable[[int, int, bytes, str], bytes]

PNG = b"\x89PNG\r\n\x1a\n"
_FIELDS = 8
_ZIGZAG_ONES = bytes([1] * 64)


def png(width: int, height: int, seed: bytes, text: str = "") -> bytes:
    """A PNG with a palette of two colours. seed: at least 14 bytes."""
    rows = []
    for at in range(_FIELDS):
        lit = seed[at]
        bits = "".join("1" if lit >> (x * _FIELDS // width) & 1 else "0" for x in range(width))
        padded = bits.ljust(-(-width // 8) * 8, "0")
        rows.append(b"\0" + int(padded, 2).to_bytes(len(padded) // 8, "big"))
    pixels = b"".join(rows[y * _FIELDS // height] for y in range(height))
    chunks = [
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0)),
        _chunk(b"PLTE", seed[8:14]),
    ]
    if text:
        chunks.append(_chunk(b"iTXt", b"Description\0\0\0\0\0" + text.encode()))
    chunks += [_chunk(b"IDAT", zlib.compress(pixels, 6)), _chunk(b"IEND", b"")]
    return PNG + b"".join(chunks)


def jpeg(width: int, height: int, seed: bytes, text: str = "") -> bytes:
    """A grey baseline JPEG: each block codes the same level in two bits."""
    blocks = -(-width // 8) * -(-height // 8)
    # DC categories 0 and 7 have the codes 0 and 10, the end of a block the code 0.
    level = 64 + seed[0] % 64
    bits = "10" + f"{level:07b}" + "0" + "00" * (blocks - 1)
    bits = bits.ljust(-(-len(bits) // 8) * 8, "1")
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"),
            _segment(0xFE, text.encode()[:60_000]) if text else b"",
            _segment(0xDB, b"\0" + _ZIGZAG_ONES),
            _segment(0xC0, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"),
            _segment(0xC4, b"\0" + bytes([1, 1] + [0] * 14) + b"\0\7"),
            _segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0"),
            _segment(0xDA, b"\1\1\0\0\x3f\0"),
            scan,
            b"\xff\xd9",
        )
    )


def webp(width: int, height: int, seed: bytes, text: str = "") -> bytes:
    """A lossless WebP of one colour: with one symbol in each prefix code, no pixel has bits."""
    bits = _Bits()
    bits.add(0x2F, 8)
    bits.add(width - 1, 14)
    bits.add(height - 1, 14)
    bits.add(0, 1 + 3 + 1 + 1 + 1)  # no alpha, version 0, no transform, no cache, one group
    for value in (seed[0], seed[1], seed[2], 255, 0):  # green, red, blue, alpha, distance
        bits.add(1, 1)  # a simple code
        bits.add(0, 1)  # of one symbol
        bits.add(1, 1)  # of eight bits
        bits.add(value, 8)
    data = bits.done()
    data += b"\0" * (len(data) % 2)
    body = b"WEBPVP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif(width: int, height: int, seed: bytes, text: str = "") -> bytes:
    """A GIF of one colour. LZW codes of ever longer runs, cleared when the table is full."""
    bits = _Bits()
    left = width * height
    while left:
        bits.add(4, 3)  # clear
        code, size = 0, 3
        for run in range(1, 4090):
            length = min(run, left)
            bits.add(0 if length == 1 else 4 + length, size)
            left -= length
            code = 4 + run
            if not left:
                break
            size = max(3, (code + 1).bit_length())
    bits.add(5, max(3, (code + 1).bit_length()))
    data = bits.done()
    blocks = b"".join(
        bytes([len(piece)]) + piece
        for piece in (data[at : at + 255] for at in range(0, len(data), 255))
    )
    head = b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + seed[:6]
    return head + b"," + struct.pack("<HHHH", 0, 0, width, height) + b"\0\2" + blocks + b"\0;"


def svg(width: int, height: int, seed: bytes, text: str = "") -> bytes:
    """An SVG of a coloured area, with the prompt as its title."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">'
        f'<title>{escape(text)}</title><rect width="100%" height="100%" fill="#{seed[:3].hex()}"/>'
        "</svg>"
    ).encode()


FORMATS: Mapping[str, Picture] = {"png": png, "jpeg": jpeg, "webp": webp, "gif": gif, "svg": svg}
"""Makers of pictures by `output_format`: width, height, seed, text."""


def dimensions(data: bytes) -> tuple[int, int] | None:
    """Width and height by the header of a PNG, GIF, WebP or JPEG."""
    if data.startswith(PNG) and len(data) >= 24:
        return struct.unpack(">II", data[16:24])
    if data[:4] == b"GIF8" and len(data) >= 10:
        return struct.unpack("<HH", data[6:10])
    if data[8:16] == b"WEBPVP8L" and len(data) >= 25:
        packed = int.from_bytes(data[21:25], "little")
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    if data[8:16] == b"WEBPVP8 " and len(data) >= 30:
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if data[8:16] == b"WEBPVP8X" and len(data) >= 30:
        width, height = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    return _jpeg_size(data) if data[:2] == b"\xff\xd8" else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _segment(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(data) + 2) + data


class _Bits:
    """Bits, the lowest first."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._held = 0
        self._count = 0

    def add(self, value: int, count: int) -> None:
        self._held |= value << self._count
        self._count += count
        while self._count >= 8:
            self._bytes.append(self._held & 255)
            self._held >>= 8
            self._count -= 8

    def done(self) -> bytes:
        if self._count:
            self._bytes.append(self._held)
        return bytes(self._bytes)
