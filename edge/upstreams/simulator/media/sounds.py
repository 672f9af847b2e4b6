"""Small valid sounds in the formats of speech, and the words and length of one.

A sound is as long as its words take to be spoken. The words are in it as text: a `simT` chunk of a
WAV, an ID3 tag of MP3 and AAC, comments of FLAC and Opus. PCM has no place for them.
"""

import io
import struct
import wave
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from math import sin, tau

RATE = 24_000
"""Samples a second of WAV, PCM and FLAC, one channel of 16 bits."""

_CHARACTERS = 15
"""Characters spoken in a second."""
_CHUNK = b"simT"
_COMMENT = b"simT="
_BLOCK = 4096
_MP3_SAMPLES = 1152
_MP3_HEAD = b"\xff\xfb\x54\xc4"  # MPEG 1 layer III, 64 kbit/s, 48 kHz, mono
_MP3_FRAME = _MP3_HEAD.ljust(192, b"\0")
_AAC_SAMPLES = 1024
_AAC_SILENCE = b"\x01\x18\x20\x07"  # one channel
_AAC_FRAME_SIZE = 7 + len(_AAC_SILENCE)
_AAC_HEAD = (
    (0xFFF << 44)  # AAC LC, 24 kHz, one channel, no CRC
    | (1 << 40)
    | (1 << 38)
    | (6 << 34)
    | (1 << 30)
    | (_AAC_FRAME_SIZE << 13)
    | 0x1FFC
).to_bytes(7, "big")
_OPUS_SILENCE = b"\x08\xff\xfe"
_OPUS_GAP = 960


def seconds_of_words(text: str, speed: float = 1.0) -> float:
    """How long `text` is spoken, at least a fifth of a second."""
    return max(0.2, round(len(text) / _CHARACTERS / speed, 2))


def pcm(text: str, seconds: float) -> bytes:
    """Samples of a quiet tone whose pitch follows the length of the text."""
    period = 60 + len(text) % 60
    one = struct.pack(f"<{period}h", *(int(2000 * sin(tau * n / period)) for n in range(period)))
    count = round(seconds * RATE)
    return (one * (count // period + 1))[: 2 * count]


def wav(text: str, seconds: float) -> bytes:
    """A WAV with the words in front of the samples."""
    target = io.BytesIO()
    with wave.open(target, "wb") as writer:
        writer.setparams((1, 2, RATE, 0, "NONE", ""))
        writer.writeframes(pcm(text, seconds))
    made = target.getvalue()
    words = text.encode()
    words += b"\0" * (len(words) % 2)
    chunk = _CHUNK + struct.pack("<I", len(text.encode())) + words
    riff = made[8:36] + chunk + made[36:]
    return b"RIFF" + struct.pack("<I", len(riff)) + riff


def mp3(text: str, seconds: float) -> bytes:
    """Silent frames behind an ID3 tag."""
    return _id3(text) + _MP3_FRAME * _frames(seconds, 48_000, _MP3_SAMPLES)


def aac(text: str, seconds: float) -> bytes:
    """Silent ADTS frames behind an ID3 tag."""
    frame = _AAC_HEAD + _AAC_SILENCE
    return _id3(text) + frame * _frames(seconds, RATE, _AAC_SAMPLES)


def flac(text: str, seconds: float) -> bytes:
    """Constant blocks behind the stream's description and comments."""
    samples = max(_BLOCK, round(seconds * RATE) // _BLOCK * _BLOCK)
    packed = (RATE << 44) | (0 << 41) | (15 << 36) | samples
    info = struct.pack(">HH", _BLOCK, _BLOCK) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    comments = _comments(text)
    head = b"fLaC\0" + len(info).to_bytes(3, "big") + info
    head += b"\x84" + len(comments).to_bytes(3, "big") + comments
    return head + b"".join(_flac_frames(samples // _BLOCK))


def opus(text: str, seconds: float) -> bytes:
    """Silent packets in an Ogg stream."""
    head = b"OpusHead\1\1" + struct.pack("<HIhB", 0, RATE, 0, 0)
    pages = [_page(0, 0, 2, [head]), _page(1, 0, 0, [b"OpusTags" + _comments(text)])]
    left, position, number = _frames(seconds, 48_000, _OPUS_GAP), 0, 2
    while left:
        count = min(left, 50)
        left -= count
        position += count * _OPUS_GAP
        pages.append(_page(number, position, 0 if left else 4, [_OPUS_SILENCE] * count))
        number += 1
    return b"".join(pages)


FORMATS: Mapping[str, tuple[Callable[[str, float], bytes], bytes]] = {
    "mp3": (mp3, b"audio/mpeg"),
    "opus": (opus, b"audio/ogg"),
    "aac": (aac, b"audio/aac"),
    "flac": (flac, b"audio/flac"),
    "wav": (wav, b"audio/wav"),
    "pcm": (pcm, b"audio/pcm"),
}
"""Makers and content types by `response_format`."""


def words_of(data: bytes) -> str | None:
    """The words in a sound of this module; None for any other."""
    if data[:4] == b"RIFF":
        return next(
            (body.decode("utf-8", "replace") for name, body in _chunks(data) if name == _CHUNK),
            None,
        )
    if data[:3] == b"ID3":
        if data[20:26] != b"\3simT\0":
            return None
        return data[26 : 20 + _synchsafe(data[14:18])].decode("utf-8", "replace")
    at = data.find(_COMMENT, 0, 1 << 10)
    if data[:4] not in (b"OggS", b"fLaC") or at < 0:
        return None
    size = int.from_bytes(data[at - 4 : at], "little")
    return data[at + len(_COMMENT) : at + size].decode("utf-8", "replace")


def seconds_of(data: bytes) -> float:
    """The length of a WAV or of a sound of this module; of others a guess by their size."""
    if data[:4] == b"RIFF":
        rate = size = 0
        for name, body in _chunks(data):
            if name == b"fmt ":
                rate = int.from_bytes(body[8:12], "little")
            elif name == b"data":
                size = len(body)
        return round(size / rate, 3) if rate else 0.0
    if data[:4] == b"fLaC":
        packed = int.from_bytes(data[18:26], "big")
        return round((packed & 0xFFFFFFFFF) / (packed >> 44), 3)
    if data[:4] == b"OggS" and (last := data.rfind(b"OggS")) >= 0:
        return round(int.from_bytes(data[last + 6 : last + 14], "little") / 48_000, 3)
    frames = data[10 + _synchsafe(data[6:10]) :] if data[:3] == b"ID3" and len(data) > 9 else data
    if frames[:4] == _MP3_HEAD:
        return round(len(frames) // len(_MP3_FRAME) * _MP3_SAMPLES / 48_000, 3)
    if frames[:3] == _AAC_HEAD[:3]:
        return round(len(frames) // _AAC_FRAME_SIZE * _AAC_SAMPLES / RATE, 3)
    return round(len(data) / 16_000, 3)


def _frames(seconds: float, rate: int, samples: int) -> int:
    return max(1, round(seconds * rate / samples))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _id3(text: str) -> bytes:
    body = b"\3simT\0" + text.encode()
    frame = b"TXXX" + _as_synchsafe(len(body)) + b"\0\0" + body
    return b"ID3\4\0\0" + _as_synchsafe(len(frame)) + frame


def _synchsafe(four: bytes) -> int:
    return four[0] << 21 | four[1] << 14 | four[2] << 7 | four[3]


def _as_synchsafe(size: int) -> bytes:
    return bytes(size >> shift & 127 for shift in (21, 14, 7, 0))


def _comments(text: str) -> bytes:
    comment = _COMMENT + text.encode()
    return b"\3\0\0\0sim" + struct.pack("<II", 1, len(comment)) + comment


def _flac_frames(count: int) -> Iterator[bytes]:
    for number in range(count):
        # 4096 samples, rate and size as the stream says, one channel, constant level 0.
        head = b"\xff\xf8\xc0\0" + chr(number).encode()
        frame = head + bytes([_crc(head, 0x07, 8)]) + b"\0\0\0"
        yield frame + _crc(frame, 0x8005, 16).to_bytes(2, "big")


def _page(number: int, position: int, flags: int, packets: list[bytes]) -> bytes:
    sizes = b"".join(b"\xff" * (len(p) // 255) + bytes([len(p) % 255]) for p in packets)
    head = struct.pack("<BBqII", 0, flags, position, 1, number)
    rest = bytes([len(sizes)]) + sizes + b"".join(packets)
    crc = _crc(b"OggS" + head + bytes(4) + rest, 0x04C11DB7, 32)
    return b"OggS" + head + struct.pack("<I", crc) + rest


def _crc(data: bytes, polynomial: int, width: int) -> int:
    table = _table(polynomial, width)
    mask, shift, found = (1 << width) - 1, width - 8, 0
    for byte in data:
        found = (found << 8 & mask) ^ table[(found >> shift ^ byte) & 255]
    return found


@cache
def _table(polynomial: int, width: int) -> tuple[int, ...]:
    top, mask = 1 << (width - 1), (1 << width) - 1
    found = []
    for byte in range(256):
        value = byte << (width - 8)
        for _ in range(8):
            value = (value << 1 & mask) ^ (polynomial if value & top else 0)
        found.append(value)
    return tuple(found)
