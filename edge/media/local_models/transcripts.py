"""Formats of a transcript. No I/O."""

from collections.abc import Iterable
from typing import Any

import msgspec

FORMATS = ("json", "text", "srt", "vtt", "verbose_json")


class Word(msgspec.Struct, frozen=True):
    """A word with its times in seconds."""

    word: str
    start: float
    end: float


class Segment(msgspec.Struct, frozen=True):
    """A sentence or two with their times in seconds."""

    text: str
    start: float
    end: float
    words: tuple[Word, ...] = ()
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0
    compression_ratio: float = 0.0
    temperature: float = 0.0
    tokens: tuple[int, ...] = ()


def text_of(segments: Iterable[Segment]) -> str:
    """The words of all segments."""
    return "".join(segment.text for segment in segments).strip()


def verbose(
    segments: list[Segment], seconds: float, language: str, granularities: frozenset[str]
) -> dict[str, Any]:
    """The body of `verbose_json`. granularities: "segment", "word"."""
    body: dict[str, Any] = {
        "task": "transcribe",
        "language": language,
        "duration": round(seconds, 2),
        "text": text_of(segments),
    }
    if "segment" in granularities:
        body["segments"] = [_segment(n, segment) for n, segment in enumerate(segments)]
    if "word" in granularities:
        body["words"] = [
            {"word": word.word.strip(), "start": word.start, "end": word.end}
            for segment in segments
            for word in segment.words
        ]
    return {**body, "usage": usage(seconds)}


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "seek": 0,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": segment.temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.no_speech_prob,
    }


def usage(seconds: float) -> dict[str, Any]:
    """What a transcript is billed by, in whole seconds, rounded up."""
    return {"type": "duration", "seconds": -int(-seconds // 1)}


def srt(segments: Iterable[Segment]) -> str:
    """SubRip."""
    blocks = (
        f"{n}\n{_time(each.start, ',')} --> {_time(each.end, ',')}\n{each.text.strip()}\n"
        for n, each in enumerate(segments, 1)
    )
    return "\n".join(blocks)


def vtt(segments: Iterable[Segment]) -> str:
    """WebVTT."""
    blocks = (
        f"{_time(each.start, '.')} --> {_time(each.end, '.')}\n{each.text.strip()}\n"
        for each in segments
    )
    return "WEBVTT\n\n" + "\n".join(blocks)


def _time(seconds: float, mark: str) -> str:
    whole, rest = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}{mark}{rest:03d}"
