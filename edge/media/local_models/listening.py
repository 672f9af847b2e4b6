"""`/audio/transcriptions`: audio to text, as a whole or as events."""

import io
from collections.abc import Iterator
from typing import Any

import msgspec
import multipart

from edge.media.decode.sandbox import Sandbox
from edge.media.decode.tasks import ConvertAudio

from .call import WHISPER, Call, Refusal, check_model, send_json
from .engines import in_turn, steps, whisper
from .transcripts import FORMATS, Segment, Word, srt, text_of, usage, verbose, vtt

_WAV_HEAD = 44
_LANGUAGE = "english"
_NO_SPEECH = "[no speech]"
_QUIET = 0.003
"""Loudest sample, of 1, of what holds no speech."""

_encode = msgspec.json.Encoder().encode


class _Asked(msgspec.Struct):
    audio: bytes
    format: str
    stream: bool
    granularities: frozenset[str]
    prompt: str


async def transcribe(call: Call, sandbox: Sandbox) -> None:
    """Answer a request for a transcript. Raises Refusal, and Problem for unreadable audio."""
    asked = _read(call)
    sound = await sandbox.run(ConvertAudio(), asked.audio, param="file")
    segments: list[Segment] = []
    if asked.stream:
        await call.head("text/event-stream")
    if sound.peak > _QUIET:
        samples = sound.data[_WAV_HEAD:]
        words = "word" in asked.granularities
        await in_turn(whisper)
        async for segment in steps(lambda: _segments(samples, asked.prompt, words)):
            segments.append(segment)
            if asked.stream:
                event = {"type": "transcript.text.delta", "delta": segment.text}
                await call.send(b"data: %s\n\n" % _encode(event))
    if asked.stream:
        done = {
            "type": "transcript.text.done",
            "text": text_of(segments),
            "usage": usage(sound.seconds),
        }
        await call.send(b"data: %s\n\n" % _encode(done))
    elif asked.format == "json":
        await send_json(call, {"text": text_of(segments), "usage": usage(sound.seconds)})
    elif asked.format == "verbose_json":
        wanted = asked.granularities or frozenset(("segment",))
        await send_json(call, verbose(segments, sound.seconds, _LANGUAGE, wanted))
    else:
        await call.head("text/plain; charset=utf-8")
        text = {"srt": srt, "vtt": vtt}.get(asked.format)
        whole = text(segments) if text is not None else text_of(segments) + "\n"
        await call.send(whole.encode())


async def heard(sandbox: Sandbox, data: bytes, path: str) -> str:
    """The words of a sound, a line for each sentence or two with its time. Raises Problem."""
    sound = await sandbox.run(ConvertAudio(), data, param=path)
    if sound.peak <= _QUIET:
        return _NO_SPEECH
    samples = sound.data[_WAV_HEAD:]
    await in_turn(whisper)
    lines = [
        f"[{int(segment.start) // 60:02d}:{int(segment.start) % 60:02d}] {segment.text.strip()}"
        async for segment in steps(lambda: _segments(samples, "", words=False))
    ]
    return "\n".join(lines) or _NO_SPEECH


def _read(call: Call) -> _Asked:
    type_, options = multipart.parse_options_header(call.content_type)
    if type_ != "multipart/form-data" or not options.get("boundary"):
        raise Refusal(415, "Expected a form (multipart/form-data).")
    try:
        parts = list(
            multipart.MultipartParser(
                io.BytesIO(call.body),
                options["boundary"],
                content_length=len(call.body),
                memory_limit=len(call.body) + (1 << 20),
            )
        )
    except multipart.MultipartError as error:
        raise Refusal(400, f"The form is not valid: {error}") from None
    files = [part for part in parts if part.name == "file"]
    fields: dict[str, list[str]] = {}
    for part in parts:
        if part.name != "file":
            fields.setdefault(part.name.removesuffix("[]"), []).append(part.value)
    if len(files) != 1:
        raise Refusal(400, "Expected one part `file`.", param="file")
    check_model(fields.get("model", [""])[0], WHISPER)
    format_ = fields.get("response_format", ["json"])[0]
    if format_ not in FORMATS:
        raise Refusal(
            400,
            f"`response_format`: expected one of {', '.join(FORMATS)}.",
            code="unsupported_value",
            param="response_format",
        )
    return _Asked(
        audio=files[0].raw,
        format=format_,
        stream=fields.get("stream", [""])[0].lower() in ("true", "1"),
        granularities=frozenset(fields.get("timestamp_granularities", ())),
        prompt=fields.get("prompt", [""])[0],
    )


def _segments(samples: bytes, prompt: str, words: bool) -> Iterator[Segment]:
    """Segments of samples at 16 kHz, as Whisper finds them."""
    import numpy as np

    audio: Any = np.frombuffer(samples, "<i2").astype(np.float32) / 32768
    found, _ = whisper().transcribe(
        audio,
        language="en",
        beam_size=1,
        condition_on_previous_text=False,
        initial_prompt=prompt or None,
        vad_filter=True,  # it hears words in silence otherwise
        word_timestamps=words,
    )
    for each in found:
        yield Segment(
            each.text,
            round(float(each.start), 2),
            round(float(each.end), 2),
            tuple(
                Word(word.word, round(float(word.start), 2), round(float(word.end), 2))
                for word in each.words or ()
            ),
            float(each.avg_logprob),
            float(each.no_speech_prob),
            float(each.compression_ratio),
            float(each.temperature or 0),
            tuple(each.tokens),
        )
