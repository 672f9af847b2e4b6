"""Formats of a transcript."""

from edge.media.local_models.transcripts import Segment, Word, srt, text_of, usage, verbose, vtt

SEGMENTS = [
    Segment(" Open the gate.", 0.0, 2.5, (Word(" Open", 0.0, 0.4),)),
    Segment(" The water runs.", 3661.04, 3662.999),
]


def test_text_is_joined() -> None:
    assert text_of(SEGMENTS) == "Open the gate. The water runs."
    assert text_of([]) == ""


def test_srt_numbers_and_commas() -> None:
    assert srt(SEGMENTS) == (
        "1\n00:00:00,000 --> 00:00:02,500\nOpen the gate.\n\n"
        "2\n01:01:01,040 --> 01:01:02,999\nThe water runs.\n"
    )


def test_vtt_head_and_points() -> None:
    assert vtt(SEGMENTS[:1]) == "WEBVTT\n\n00:00:00.000 --> 00:00:02.500\nOpen the gate.\n"


def test_verbose_has_what_was_asked_for() -> None:
    body = verbose(SEGMENTS, 3663.2, "english", frozenset(("word",)))
    assert body["words"] == [{"word": "Open", "start": 0.0, "end": 0.4}]
    assert "segments" not in body
    body = verbose(SEGMENTS, 3663.2, "english", frozenset(("segment",)))
    assert [segment["id"] for segment in body["segments"]] == [0, 1]
    assert body["usage"] == {"type": "duration", "seconds": 3664}


def test_usage_is_whole_seconds_rounded_up() -> None:
    assert [usage(each)["seconds"] for each in (0, 0.1, 1.0, 1.01)] == [0, 1, 1, 2]
