"""Reasons to stop in the words of all vendors."""

import re
from pathlib import Path

import pytest

from edge.dialects.stop_reasons import WORDS, interrupted, is_known, stop_of

DIALECTS = Path(__file__).parents[3] / "docs/dialects.md"


def test_words_all_stand_in_the_documentation() -> None:
    section = DIALECTS.read_text().partition("\n## Reasons to stop\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    actual = {row[0]: tuple(re.findall(r"`([^`]+)`", row[-1])) for row in rows[2:]}
    assert actual == WORDS


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        (None, None),
        ("", None),
        (" ", None),
        ("FINISH_REASON_UNSPECIFIED", None),
        ("stop", "end"),
        ("STOP", "end"),
        ("end_turn", "end"),
        ("compaction", "end"),
        ("a word of next year", "end"),
        ("stop_sequence", "stop_sequence"),
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("model_context_window_exceeded", "length"),
        ("repetition_truncation", "length"),
        ("FINISH_REASON_MAX_TOKENS", "length"),
        ("tool-calls", "tool_use"),
        ("function_call", "tool_use"),
        ("pause_turn", "pause"),
        ("content_filter", "refusal"),
        ("sensitive", "refusal"),
        ("SAFETY", "refusal"),
        ("PROHIBITED_CONTENT", "refusal"),
        ("guardrail_intervened", "refusal"),
        ("abort", "failed"),
        ("network_error", "failed"),
        ("insufficient_system_resource", "failed"),
        ("MALFORMED_FUNCTION_CALL", "failed"),
        ("error", "failed"),
    ],
)
def test_stop_of_a_word_is_what_its_vendor_means(word: str | None, meaning: str | None) -> None:
    assert stop_of(word) == meaning


def test_is_known_tells_words_of_the_table() -> None:
    assert is_known("SAFETY")
    assert not is_known("a word of next year")
    assert not is_known("")


@pytest.mark.parametrize("word", ["network_error", "insufficient_system_resource", None])
def test_interrupted_is_an_error_of_the_upstream(word: str | None) -> None:
    failed = interrupted(word)
    assert failed.kind == "upstream_error"
    assert (word or "") in failed.reason
