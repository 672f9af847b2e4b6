"""Small media of every kind that the sandbox reads, encoded here."""

import io
import math
import wave
from array import array
from fractions import Fraction
from typing import Any

import av
from PIL import Image

RATE = 24_000
from_image: Any = av.VideoFrame.from_image


def image(
    format_: str = "PNG",
    size: tuple[int, int] = (40, 30),
    colour: str = "#3366cc",
    mode: str = "RGB",
    **options: Any,
) -> bytes:
    """A picture of one colour, the left half red."""
    picture = Image.new("RGBA", size, colour)
    picture.paste((255, 0, 0, 255), (0, 0, size[0] // 2, size[1]))
    out = io.BytesIO()
    picture.convert(mode).save(out, format_, **options)
    return out.getvalue()


def animation(format_: str = "GIF", frames: int = 3) -> bytes:
    """An animation of which the first frame is red."""
    pictures = [Image.new("RGB", (32, 32), (255 - 80 * n, 80 * n, 0)) for n in range(frames)]
    out = io.BytesIO()
    pictures[0].save(out, format_, save_all=True, append_images=pictures[1:])
    return out.getvalue()


def tone(
    seconds: float, *, quiet: tuple[tuple[float, float], ...] = (), rate: int = RATE
) -> "array[int]":
    """A tone with pauses."""
    loud = array("h", (int(9000 * math.sin(n * 440 * math.tau / rate)) for n in range(rate)))
    samples = array("h")
    while len(samples) < seconds * rate:
        samples.extend(loud)
    del samples[int(seconds * rate) :]
    for start, end in quiet:
        first, last = int(start * rate), int(end * rate)
        samples[first:last] = array("h", bytes(2 * (last - first)))
    return samples


def wav(samples: "array[int]", rate: int = RATE) -> bytes:
    """Samples as a WAV file of one channel."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return out.getvalue()


SOUNDS = {
    "wav": ("wav", "pcm_s16le", RATE),
    "mp3": ("mp3", "libmp3lame", RATE),
    "aac": ("adts", "aac", RATE),
    "m4a": ("mp4", "aac", RATE),
    "flac": ("flac", "flac", RATE),
    "ogg": ("ogg", "libopus", 48_000),
    "webm": ("webm", "libopus", 48_000),
}
"""Container, codec and rate by file extension."""


def sound(kind: str, seconds: float, **options: Any) -> bytes:
    """A tone in a file of `kind`."""
    container, codec, rate = SOUNDS[kind]
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        _add_sound(file, codec, tone(seconds, rate=rate, **options), rate)
    return out.getvalue()


def _add_sound(file: Any, codec: str, samples: "array[int]", rate: int) -> None:
    stream = file.add_stream(codec, rate=rate, layout="mono")
    _encode_sound(file, stream, samples, rate)


def _encode_sound(file: Any, stream: Any, samples: "array[int]", rate: int) -> None:
    size = 960
    for at in range(0, len(samples), size):
        part = samples[at : at + size]
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(part))
        frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
        frame.planes[0].update(part.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
        for packet in stream.encode(frame):
            file.mux(packet)
    for packet in stream.encode(None):
        file.mux(packet)


def video(
    seconds: int = 4,
    *,
    fps: int = 10,
    keyframes: int = 12,
    size: tuple[int, int] = (160, 96),
    scenes: int = 4,
    codec: str = "libx264",
    container: str = "mp4",
    sound: "array[int] | None" = None,
) -> bytes:
    """A video of `scenes` pictures of one brightness each, of equal length."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size = keyframes
        if codec == "libx264":
            stream.options = {"sc_threshold": "0"}
        track: Any = None
        if sound is not None:
            name, rate = ("aac", RATE) if container == "mp4" else ("libopus", 48_000)
            track = file.add_stream(name, rate=rate, layout="mono")
        for number in range(seconds * fps):
            scene = number * scenes // (seconds * fps)
            grey = 255 * scene // max(1, scenes - 1)
            frame = from_image(Image.new("RGB", size, (grey, grey, grey)))
            for packet in stream.encode(frame):
                file.mux(packet)
        for packet in stream.encode(None):
            file.mux(packet)
        if track is not None and sound is not None:
            _encode_sound(file, track, sound, track.rate)
    return out.getvalue()


def pdf(*pages: str, width: int = 595, height: int = 842) -> bytes:
    """A PDF with a line of text on each page; "" is an empty page."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode())
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    for number, text in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Contents "
            f"{5 + 2 * number} 0 R /Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        content = f"BT /F1 24 Tf 72 700 Td ({text}) Tj ET".encode() if text else b""
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    out = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        start,
    )
    return bytes(out)
