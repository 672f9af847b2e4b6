"""Describers: models of the catalog that are asked for the text of media."""

from base64 import b64encode
from collections.abc import Mapping
from functools import partial
from math import ceil
from typing import Any

import msgspec

from edge.endpoints import BY_NAME
from edge.media.decode.tasks import Sound
from edge.media.forms import Form, FormField, FormFile, Spool
from edge.media.part import MediaKind
from edge.proxy.subrequests import SubrequestFailed, Subrequests
from edge.routing.catalog import Model
from edge.runtime.worker_thread import run_in_thread
from middlewares.exchange import Exchange

from .prompts import AUDIO, MAX_TOKENS
from .recordings import NO_SPEECH, clock
from .wording import CUT

PURPOSE = "describe"
_PIECE = 3 << 18
"""Bytes that are encoded as base64 in one call; a multiple of three."""

Part = dict[str, Any]


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class _Segment(msgspec.Struct):
    text: str = ""
    start: float = 0.0


class _Transcript(msgspec.Struct):
    text: str
    segments: list[_Segment] | None = None


_encode = msgspec.json.Encoder().encode
_decode_transcript = msgspec.json.Decoder(_Transcript).decode
_decode = msgspec.json.Decoder(_Completion).decode


class Describers:
    """Asks the describer of each kind of media.

    models: by kind; a kind without one is not described.
    """

    def __init__(self, subrequests: Subrequests, models: Mapping[MediaKind, Model]) -> None:
        self._subrequests = subrequests
        self._models = models

    def of(self, kind: MediaKind) -> Model | None:
        """The describer of a kind."""
        return self._models.get(kind)

    def takes(self, kind: MediaKind, modality: str) -> bool:
        """Whether the describer of `kind` takes another modality too."""
        model = self._models.get(kind)
        return model is not None and modality in model.modalities

    async def ask(self, parent: Exchange, model: Model, prompt: str, parts: list[Part]) -> str:
        """The answer of `model` about `parts` of a chat. Raises SubrequestFailed."""
        messages = [{"role": "system", "content": prompt}, {"role": "user", "content": parts}]
        # Encoding of a film takes longer than the event loop may stop.
        encoded = await run_in_thread(partial(_encode, messages))
        fields = {
            "model": msgspec.Raw(_encode(model.id)),
            "messages": msgspec.Raw(encoded),
            "max_tokens": msgspec.Raw(_encode(MAX_TOKENS)),
            "temperature": msgspec.Raw(b"0"),
        }
        row = BY_NAME["chat.completions"]
        body = await self._subrequests.ask(parent, row, model, fields, purpose=PURPOSE)
        return _text_of(body)

    async def transcribe(self, parent: Exchange, model: Model, sound: Sound) -> str:
        """The words of a recording, with times where the transcriber knows them. Raises
        SubrequestFailed.

        A model that takes text too is asked in a chat; one that takes audio alone is a transcriber.
        """
        if "text" in model.modalities:
            return await self.ask(parent, model, AUDIO, [audio(sound.data, "wav")])
        spool = Spool()
        try:
            await spool.write(sound.data)
            await spool.finish()
            form = Form(
                [
                    FormField("model", model.id),
                    FormField("response_format", "verbose_json"),
                    FormFile("file", "audio.wav", "audio/wav", spool),
                ]
            )
            body = await self._subrequests.ask(
                parent,
                BY_NAME["audio.transcriptions"],
                model,
                form.members(),
                purpose=PURPOSE,
                form=form,
                audio_ms=ceil(sound.seconds * 1000),
            )
        finally:
            spool.close()
        return _transcript_of(body, sound.start)


def _transcript_of(body: bytes, start: float) -> str:
    try:
        found = _decode_transcript(body)
    except msgspec.DecodeError:
        raise SubrequestFailed("upstream_error", {}) from None
    segments = [segment for segment in found.segments or () if segment.text.strip()]
    if len(segments) < 2:
        return found.text.strip() or NO_SPEECH
    return "\n".join(
        f"[{clock(start + segment.start)}] {segment.text.strip()}" for segment in segments
    )


def _text_of(body: bytes) -> str:
    try:
        choice = _decode(body).choices[0]
    except (msgspec.DecodeError, IndexError):
        raise SubrequestFailed("upstream_error", {}) from None
    text = (choice.message.content or "").strip()
    if not text or choice.finish_reason == "content_filter":
        raise SubrequestFailed("upstream_error", {})
    return text + CUT if choice.finish_reason == "length" else text


def text(words: str) -> Part:
    """A text part of a chat."""
    return {"type": "text", "text": words}


def image(content: bytes, media_type: str) -> Part:
    """An image part of a chat."""
    return {"type": "image_url", "image_url": {"url": _data_url(content, media_type)}}


def audio(content: bytes, format_: str) -> Part:
    """An audio part of a chat. format_: "wav" or "mp3"."""
    return {"type": "input_audio", "input_audio": {"data": _base64(content), "format": format_}}


def video(content: bytes, media_type: str) -> Part:
    """A video part of a chat, as many servers take it."""
    return {"type": "video_url", "video_url": {"url": _data_url(content, media_type)}}


def _data_url(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{_base64(content)}"


def _base64(content: bytes) -> str:
    pieces = range(0, len(content), _PIECE)
    return b"".join(b64encode(content[at : at + _PIECE]) for at in pieces).decode()
