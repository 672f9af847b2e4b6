"""`/audio/speech`: text to audio, sentence by sentence."""

from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .call import VOICE, Call, Refusal, check_model
from .encoding import FORMATS, encoder, silence, to_samples
from .engines import in_turn, steps, voice

_PAUSE = 0.25
"""Seconds of silence after a sentence."""
_SPEEDS = (0.5, 2.0)
_LONGEST = 4096
"""Characters of a text, as at OpenAI."""

_encode = msgspec.json.Encoder().encode


class _Speech(msgspec.Struct):
    input: Annotated[str, Meta(min_length=1, max_length=_LONGEST)]
    model: str
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: msgspec.Raw = msgspec.Raw(b"1.0")
    stream_format: Literal["audio", "sse"] = "audio"


_decode = msgspec.json.Decoder(_Speech).decode
_decode_speed = msgspec.json.Decoder(Annotated[float, Meta(ge=0.25, le=4)]).decode


async def speak(call: Call) -> None:
    """Answer a request for speech. Any `voice` is the one there is. Raises Refusal."""
    try:
        asked = _decode(call.body)
        speed = _decode_speed(asked.speed)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(400, f"The request is not valid: {error}") from None
    check_model(asked.model, VOICE)
    parts = _encoded(asked, speed)
    if asked.stream_format == "sse":
        await call.head("text/event-stream")
        async for part in parts:
            event = {"type": "speech.audio.delta", "audio": b64encode(part).decode()}
            await call.send(b"data: %s\n\n" % _encode(event))
        words = len(asked.input)
        usage = {"input_tokens": words, "output_tokens": 0, "total_tokens": words}
        await call.send(b"data: %s\n\n" % _encode({"type": "speech.audio.done", "usage": usage}))
        return
    await call.head(_TYPES[asked.response_format])
    async for part in parts:
        await call.send(part)


_TYPES = {name: type_ for name, (_, _, type_) in FORMATS.items()} | {
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


async def _encoded(asked: _Speech, speed: float) -> AsyncIterator[bytes]:
    speed = min(max(speed, _SPEEDS[0]), _SPEEDS[1])
    rate: int = (await in_turn(voice)).sample_rate
    out = encoder(asked.response_format, rate)

    def sentences() -> Iterator[bytes]:
        for wave in voice().stream(asked.input, speed):
            yield out.encode(to_samples(wave) + silence(_PAUSE, rate))
        yield out.end()

    async for part in steps(sentences):
        if part:
            yield part
