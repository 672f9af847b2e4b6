"""Words that this project retired for the field's own, in code, pages and messages."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ELSEWHERE = (
    *("tests/golden/cases/", "tests/fuzz/kept/", "bench/results/", "tests/test_words.py"),
    "edge/upstreams/simulator/reply.py",
)
"""What others wrote, what was measured under older names, this list, and an answer's bytes."""

WORDS = (
    *("told", "anew", "whoever", "whomever", "nobody", "heed", "of late", "what becomes of"),
    *("bond", "bonds", "house", "misfit", "misfits"),
)
"""Mannered, or no word of the field; in any case of letters."""

NAMES = (
    *("Board", "Posted", "Edition", "Durable", "Told", "Passage", "NoContent", "ClientGone"),
    *("ClientLeft", "Crossing", "Undo", "Bill", "Appraiser", "Bond", "Bonds", "Book", "House"),
    *("Standing", "Terms", "Shelf", "Asked", "Spot", "Looker", "Looks"),
    *("header_hold", "hear_out", "drain_notice", "longest_pause", "open_durable", "terms_of"),
)
"""Identifiers that have another name now."""


def texts() -> list[tuple[str, str, str]]:
    """Path and content of every text of the project, and its content in small letters."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [
        (name, text := (ROOT / name).read_text(), text.lower())
        for name in listed
        if name.endswith((".py", ".md", ".toml", ".lua", ".html"))
        and not name.startswith(ELSEWHERE)
        and (ROOT / name).exists()
    ]


TEXTS = texts()


def found(
    word: str, pattern: re.Pattern[str], suffixes: tuple[str, ...], folders: tuple[str, ...] = ("",)
) -> list[str]:
    """The lines in which a pattern is found; only texts with the word, in any case, have any."""
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text, lowered in TEXTS
        if name.endswith(suffixes) and name.startswith(folders) and word.lower() in lowered
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize("word", WORDS)
def test_a_retired_word_stands_nowhere(word: str) -> None:
    pattern = re.compile(rf"\b{word}\b", re.IGNORECASE)
    assert not found(word, pattern, (".py", ".md", ".toml", ".lua", ".html"))


@pytest.mark.parametrize("name", NAMES)
def test_a_retired_name_names_nothing(name: str) -> None:
    """As a word of code: what stands in quotes, in backticks and in comments is not looked at."""
    code = re.compile(rf"^[^#\"]*(?<![\w.`\"'-]){name}(?![\w-])")
    assert not found(name, code, (".py",), ("edge/", "middlewares/", "bench/"))
