"""Duration of uncompressed audio from its header, without decoding.

Prices need a duration that a caller cannot understate. The bytes of the file are counted, not the
length that its header states: decoders read on to the end of a file when that length is 0 or
unknown, and recorders that stream write such headers.
"""

WAV_HEAD = 64 << 10
"""Bytes of a file in which the `data` chunk of nearly every WAV begins."""

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_CHUNKS = 64
"""Chunks before the samples; recorders write about five."""
_MAX_CHANNELS = 64


def wav_seconds(head: bytes, size: int) -> float | None:
    """Seconds of a WAV file of `size` bytes, at most a little more than it has.

    head: its first bytes, `WAV_HEAD` of them. None: it is no WAV, or its samples are compressed, so
    only a decoder knows. Sources: RIFF MCI 1.0; EBU Tech 3306 (RF64); RFC 2361.
    """
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:12] != b"WAVE":
        return None
    at, per_second = 12, 0
    for _ in range(_CHUNKS):
        name, content = head[at : at + 4], at + 8
        if name == b"data" or len(head) < content:
            break
        length = int.from_bytes(head[at + 4 : content], "little")
        if name == b"fmt ":
            per_second = _bytes_per_second(head[content : content + length])
        at = content + length + length % 2
    if not per_second:
        return None
    # Where the samples were not found, all bytes after the last chunk seen count.
    return max(0, size - min(at + 8, len(head))) / per_second


def _bytes_per_second(fmt: bytes) -> int:
    """Bytes of a second of samples; 0 for compressed samples and an unreadable `fmt ` chunk."""
    if len(fmt) < 16:
        return 0
    tag, channels = int.from_bytes(fmt[:2], "little"), int.from_bytes(fmt[2:4], "little")
    rate, bits = int.from_bytes(fmt[4:8], "little"), int.from_bytes(fmt[14:16], "little")
    if tag == _EXTENSIBLE:
        tag = int.from_bytes(fmt[24:26], "little")
    if tag not in (_PCM, _FLOAT, _ALAW, _MULAW) or not 1 <= channels <= _MAX_CHANNELS:
        return 0
    return rate * channels * -(-bits // 8)
