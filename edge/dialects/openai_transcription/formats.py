"""The six forms of a transcript, each made from the richest one that the upstream has."""

from collections.abc import Iterator

from edge.dialects.passthrough import Fields, encode

from .transcript import Segment, Transcript, raw

_JSON, _TEXT = b"application/json", b"text/plain; charset=utf-8"
_OF_JSON = frozenset(("text", "logprobs", "languages", "usage"))
"""Members of the form `json`."""
_UNKNOWN_LANGUAGE = "unknown"


def content_type(form: str) -> bytes:
    """The content type of an answer of this form."""
    return _JSON if form.endswith("json") else _TEXT


def encoded(
    transcript: Transcript, form: str, *, task: str, seconds: float, language: str = ""
) -> bytes:
    """The body of an answer of this form.

    task: "transcribe" or "translate". seconds, language: of the audio, if the upstream said
    neither.
    """
    match form:
        case "text":
            return f"{transcript.text}\n".encode()
        case "srt":
            return "".join(_srt(transcript, seconds)).encode()
        case "vtt":
            return "".join(_vtt(transcript, seconds)).encode()
        case "json":
            found = {name: each for name, each in transcript.fields.items() if name in _OF_JSON}
            return encode(found)
        case "verbose_json":
            return encode(_verbose(transcript, task, seconds, language))
    return encode(transcript.fields)


def _verbose(transcript: Transcript, task: str, seconds: float, language: str) -> Fields:
    """The members of the form `verbose_json`; of an upstream that has none, with one segment."""
    made: Fields = dict(transcript.fields)
    made.setdefault("task", raw(task))
    made.setdefault("language", raw(language or _UNKNOWN_LANGUAGE))
    made["duration"] = raw(_seconds(transcript, seconds))
    if not transcript.segments and "words" not in made:
        (whole,) = _segments(transcript, seconds)
        made["segments"] = raw(
            [
                {
                    "id": 0,
                    "seek": 0,
                    "start": whole.start,
                    "end": whole.end,
                    "text": whole.text,
                    "tokens": [],
                    "temperature": 0.0,
                    "avg_logprob": 0.0,
                    "compression_ratio": 1.0,
                    "no_speech_prob": 0.0,
                }
            ]
        )
    return made


def _srt(transcript: Transcript, seconds: float) -> Iterator[str]:
    for number, each in enumerate(_segments(transcript, seconds), 1):
        yield f"{number}\n{_clock(each.start, ',')} --> {_clock(each.end, ',')}\n{_line(each)}\n\n"


def _vtt(transcript: Transcript, seconds: float) -> Iterator[str]:
    yield "WEBVTT\n\n"
    for each in _segments(transcript, seconds):
        yield f"{_clock(each.start, '.')} --> {_clock(each.end, '.')}\n{_line(each)}\n\n"


def _segments(transcript: Transcript, seconds: float) -> list[Segment]:
    if transcript.segments:
        return transcript.segments
    return [Segment(transcript.text, 0.0, _seconds(transcript, seconds))]


def _seconds(transcript: Transcript, seconds: float) -> float:
    return seconds if transcript.seconds is None else transcript.seconds


def _line(segment: Segment) -> str:
    """The text of a segment in one line, without the arrow that separates times."""
    return " ".join(segment.text.split()).replace("-->", "->")


def _clock(seconds: float, point: str) -> str:
    thousandths = max(0, round(seconds * 1000))
    minutes, rest = divmod(thousandths, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
