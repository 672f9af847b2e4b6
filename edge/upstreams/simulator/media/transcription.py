"""POST /audio/transcriptions and /audio/translations: the words that a simulated sound contains."""

import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import msgspec

from edge.upstreams.simulator.answer import FaultFrames, SimulatedAnswer, plain, seconds_for, stream
from edge.upstreams.simulator.chat import Frame
from edge.upstreams.simulator.form import SimulatedPart
from edge.upstreams.simulator.prompt import PromptRejected
from edge.upstreams.simulator.refusals import error_event
from edge.upstreams.simulator.request import SimulatorRequest, refused, vendor_headers
from edge.upstreams.simulator.stats import Used
from edge.upstreams.simulator.tokens import count, pieces

from .fields import MediaFields, read_fields
from .sight import kind_of, seconds_in, words_in

_LARGEST = 26_214_400
_ENDINGS = ("flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm")
_FORMATS = ("json", "text", "srt", "verbose_json", "vtt", "diarized_json")
_TEXT = b"text/plain; charset=utf-8"
_SENTENCE = re.compile(r"[^.!?]*[.!?]+\s*|[^.!?]+")
_AUDIO_TOKENS_A_SECOND = 10
_encode = msgspec.json.Encoder().encode


class _Transcript(msgspec.Struct, frozen=True):
    fields: MediaFields
    task: str
    text: str
    seconds: float

    @property
    def language(self) -> str:
        return str(self.fields.values.get("language") or "english")

    @property
    def parts(self) -> list[tuple[float, float, str]]:
        """Start, end and text of each sentence, by its share of the characters."""
        return _timed(_SENTENCE.findall(self.text), self.seconds)

    @property
    def words(self) -> list[tuple[float, float, str]]:
        return _timed(self.text.split(), self.seconds)

    @property
    def tokens(self) -> tuple[int, int, int]:
        """Tokens of the sound, of the prompt and of the text."""
        heard = max(1, round(self.seconds * _AUDIO_TOKENS_A_SECOND))
        return heard, count(self.fields.text), count(self.text)

    def usage(self, kind: str) -> dict[str, Any]:
        """The member `usage`, or nothing."""
        kind = self.fields.controls.usage or kind
        if kind == "none":
            return {}
        if kind == "duration":
            return {"usage": {"type": "duration", "seconds": self.seconds}}
        heard, prompt, said = self.tokens
        return {
            "usage": {
                "type": "tokens",
                "input_tokens": heard + prompt,
                "input_token_details": {"audio_tokens": heard, "text_tokens": prompt},
                "output_tokens": said,
                "total_tokens": heard + prompt + said,
            }
        }


def transcribe(request: SimulatorRequest) -> SimulatedAnswer:
    """POST /audio/transcriptions."""
    return _answered(request, "transcribe")


def translate(request: SimulatorRequest) -> SimulatedAnswer:
    """POST /audio/translations: the same text, since no simulated voice speaks another language."""
    return _answered(request, "translate")


def _answered(request: SimulatorRequest, task: str) -> SimulatedAnswer:
    request, fields = read_fields(request, "prompt", takes="form", required=False)
    if not fields.model:
        raise PromptRejected(
            400, "you must provide a model parameter", "model", "missing_required_parameter"
        )
    heard = _sound(request)
    form = fields.choice("response_format", _FORMATS, "json")
    if fields.texts("timestamp_granularities") and form != "verbose_json":
        raise PromptRejected(
            400,
            "timestamp_granularities requires 'response_format' to be 'verbose_json'.",
            "timestamp_granularities",
        )
    if refusal := refused(request):
        return refusal
    data = heard.data or b""
    said = words_in(data)
    if said is None:
        said = f"A sound of {heard.size} bytes with the digest {heard.sha256[:12]}."
    made = _Transcript(fields, task, said, seconds_in(data))
    controls = request.controls
    sound, prompt, output = made.tokens
    used = Used(fields.model, sound + prompt, 0, 0, output)
    headers = vendor_headers(request)
    if fields.switch("stream"):
        fault_frames = FaultFrames(
            b'data: {"type":"transcript\n\n', error_event("openai", request.identity)
        )
        found = stream(_events(made, form), controls, fault_frames, headers=headers, used=used)
    else:
        body, kind = _body(made, form)
        seconds = seconds_for(output, controls)
        found = plain(body, controls, headers=headers, seconds=seconds, used=used, kind=kind)
    return msgspec.structs.replace(found, model=fields.model, counts=(("transcriptions", 1),))


def _sound(request: SimulatorRequest) -> SimulatedPart:
    files = request.form.files("file") if request.form else []
    if len(files) != 1:
        raise PromptRejected(
            400, f"Expected one file, got {len(files)}.", "file", "missing_required_parameter"
        )
    file = files[0]
    if file.size > _LARGEST:
        message = f"Maximum content size limit ({_LARGEST}) exceeded ({file.size} bytes read)"
        raise PromptRejected(413, message)
    if PurePath(file.filename or "").suffix.lower().removeprefix(".") not in _ENDINGS:
        raise PromptRejected(
            400, f"Unrecognized file format. Supported formats: {list(_ENDINGS)}", "file"
        )
    if not file.size or kind_of(file.data or b"").startswith(("text/", "image/", "application/p")):
        raise PromptRejected(
            400, "The audio file could not be decoded or its format is not supported.", "file"
        )
    return file


def _body(made: _Transcript, form: str) -> tuple[bytes, bytes]:
    if form == "text":
        return f"{made.text}\n".encode(), _TEXT
    if form in ("srt", "vtt"):
        return _subtitles(made, form).encode(), _TEXT
    body: dict[str, Any] = {"text": made.text}
    if form == "verbose_json":
        wanted = made.fields.texts("timestamp_granularities")
        body = {
            "task": made.task,
            "language": made.language,
            "duration": made.seconds,
            "text": made.text,
            **made.usage("duration"),
        }
        if not wanted or "segment" in wanted:
            body["segments"] = [_segment(n, part) for n, part in enumerate(made.parts)]
        if "word" in wanted:
            body["words"] = [
                {"word": word, "start": start, "end": end} for start, end, word in made.words
            ]
        return _encode(body), b"application/json"
    if form == "diarized_json":
        body = {
            "task": made.task,
            "duration": made.seconds,
            "text": made.text,
            "segments": list(_spoken(made)),
        }
    elif "logprobs" in made.fields.texts("include"):
        body["logprobs"] = [
            {"token": each, "bytes": list(each.encode()), "logprob": -0.25}
            for each in pieces(made.text)
        ]
    return _encode({**body, **made.usage("tokens")}), b"application/json"


def _subtitles(made: _Transcript, form: str) -> str:
    comma = "," if form == "srt" else "."
    lines = [] if form == "srt" else ["WEBVTT", ""]
    for number, (start, end, text) in enumerate(made.parts, 1):
        lines += [str(number)] if form == "srt" else []
        lines += [f"{_clock(start, comma)} --> {_clock(end, comma)}", text.strip(), ""]
    return "\n".join(lines) + "\n"


def _clock(seconds: float, comma: str) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{comma}{rest % 1000:03d}"


def _segment(number: int, part: tuple[float, float, str]) -> dict[str, Any]:
    start, end, text = part
    return {
        "id": number,
        "seek": 0,
        "start": start,
        "end": end,
        "text": text,
        "tokens": list(range(count(text))),
        "temperature": 0.0,
        "avg_logprob": -0.25,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.01,
    }


def _spoken(made: _Transcript) -> Iterator[dict[str, Any]]:
    names = made.fields.texts("known_speaker_names") or ["A", "B"]
    for number, (start, end, text) in enumerate(made.parts):
        yield {
            "id": f"seg_{number:03d}",
            "type": "transcript.text.segment",
            "start": start,
            "end": end,
            "speaker": names[number % len(names)],
            "text": text,
        }


def _events(made: _Transcript, form: str) -> Iterator[Frame]:
    for each in pieces(made.text):
        yield _event({"type": "transcript.text.delta", "delta": each}), True
    if form == "diarized_json":
        for segment in _spoken(made):
            yield _event(segment), False
    done = {"type": "transcript.text.done", "text": made.text, **made.usage("tokens")}
    yield _event(done), False
    yield b"data: [DONE]\n\n", False


def _event(members: dict[str, Any]) -> bytes:
    return b"data: %s\n\n" % _encode(members)


def _timed(texts: list[str], seconds: float) -> list[tuple[float, float, str]]:
    whole = sum(map(len, texts)) or 1
    found, at = [], 0
    for text in texts:
        start, at = at, at + len(text)
        found.append((round(seconds * start / whole, 3), round(seconds * at / whole, 3), text))
    return found
