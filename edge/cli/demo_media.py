"""The part of `penstock demo --local` that shows media, all of it on this machine."""

import io
import time
from base64 import b64encode
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import httpx

from edge.upstreams.local_media.demo import ECHO, VOICE, WHISPER

_SENTENCE = "Penstock opens the gate and the water runs."
_SIGN = ("Gate 7 is closed", "Call 555-0199")
_SCENES = (("The gate is shut", "09:00"), ("The gate is open", "09:05"))
_SIZE = (640, 240)
_FPS = 5
_SCENE_SECONDS = 3
_RATE = 24_000
_FONT = 40


def media_tour(client: httpx.Client, url: str, model: str) -> Iterator[str]:
    """Pieces of what is printed. client: sends the key. model: the one that answers a question."""
    yield f'\nSpeech, by {VOICE}, streamed:  "{_SENTENCE}"\n\n'
    samples, report = _speech(client, url)
    yield f"  {report}\n"
    wav = _wav(samples)
    yield f"\nThe same sound as text again, by {WHISPER}:\n\n  "
    yield f"{_transcript(client, url, wav)}\n"
    picture = _picture(_SIGN)
    yield f"\nA PNG with words ({len(picture) >> 10} KiB), as {ECHO} gets it (text only):\n"
    part = {"type": "image_url", "image_url": {"url": _data_url("image/png", picture)}}
    yield _indented(_answer(client, url, ECHO, "What does the sign say?", part))
    yield f"\nAnd what {model} says to it, which is small and often wrong:\n"
    yield _indented(_answer(client, url, model, "What does the sign say?", part))
    film = _film(samples)
    yield f"\nAn MP4 ({len(film) >> 10} KiB: two pictures and the sound), as {ECHO} gets it:\n"
    part = {"type": "video_url", "video_url": {"url": _data_url("video/mp4", film)}}
    yield _indented(_answer(client, url, ECHO, "What happens?", part))


def _speech(client: httpx.Client, url: str) -> tuple[bytes, str]:
    """Samples of a sentence, and a line about how they came."""
    body = {"model": VOICE, "voice": "alloy", "input": _SENTENCE, "response_format": "pcm"}
    began, first, samples = time.monotonic(), 0.0, bytearray()
    with client.stream("POST", f"{url}/v1/audio/speech", json=body) as response:
        if response.status_code != 200:
            return b"", response.read().decode()
        for piece in response.iter_bytes():
            first = first or time.monotonic() - began
            samples += piece
    seconds = len(samples) / 2 / _RATE
    return bytes(samples), f"{seconds:.1f} s of sound, the first of it after {first:.1f} s"


def _transcript(client: httpx.Client, url: str, wav: bytes) -> str:
    response = client.post(
        f"{url}/v1/audio/transcriptions",
        data={"model": WHISPER, "response_format": "text"},
        files={"file": ("speech.wav", wav, "audio/wav")},
    )
    return response.text.strip()


def _answer(client: httpx.Client, url: str, model: str, question: str, part: dict[str, Any]) -> str:
    content = [{"type": "text", "text": question}, part]
    body = {
        "model": model,
        "max_tokens": 400 if model == ECHO else 60,
        "messages": [{"role": "user", "content": content}],
    }
    response = client.post(f"{url}/v1/chat/completions", json=body)
    if response.status_code != 200:
        return response.text
    text: str = response.json()["choices"][0]["message"]["content"]
    return text.strip()


def _indented(text: str) -> str:
    return "".join(f"\n  {line}".rstrip() for line in text.splitlines()) + "\n"


def _data_url(type_: str, data: bytes) -> str:
    return f"data:{type_};base64,{b64encode(data).decode()}"


def _wav(samples: bytes) -> bytes:
    import wave

    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(samples)
    return out.getvalue()


def _picture(lines: tuple[str, ...]) -> bytes:
    out = io.BytesIO()
    _drawn(lines).save(out, "PNG")
    return out.getvalue()


def _drawn(lines: tuple[str, ...]) -> Any:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", _SIZE, "#fff8dc")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(_FONT)
    for number, line in enumerate(lines):
        draw.text((40, 50 + 80 * number), line, font=font, fill="#102040")
    return image


def _film(samples: bytes) -> bytes:
    """An MP4 of the scenes, one after the other, with the samples as sound."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        pictures: Any = file.add_stream("mpeg4", rate=_FPS)
        pictures.width, pictures.height = _SIZE
        pictures.pix_fmt = "yuv420p"
        pictures.bit_rate = 2_000_000
        sound: Any = file.add_stream("aac", rate=_RATE, layout="mono")
        from_image: Any = av.VideoFrame.from_image
        for scene in _SCENES:
            image = _drawn(scene)
            for _ in range(_FPS * _SCENE_SECONDS):
                for packet in pictures.encode(from_image(image)):
                    file.mux(packet)
        frame = av.AudioFrame(format="s16", layout="mono", samples=len(samples) // 2)
        frame.sample_rate, frame.pts, frame.time_base = _RATE, 0, Fraction(1, _RATE)
        frame.planes[0].update(samples.ljust(frame.planes[0].buffer_size, b"\0"))
        for stream, last in ((sound, frame), (sound, None), (pictures, None)):
            for packet in stream.encode(last):
                file.mux(packet)
    return out.getvalue()
