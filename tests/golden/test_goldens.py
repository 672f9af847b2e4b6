"""Every golden case comes to what stands in its file, however the upstream's bytes are cut."""

from pathlib import Path

import pytest

from .case import CASES, parse, render
from .play import play

FILES = sorted(CASES.glob("*/*.txt"))
CALLERS = ("chat.completions", "completions", "messages", "responses")
UPSTREAMS = ("openai", "anthropic", "responses")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_golden(path: Path) -> None:
    text = path.read_text("utf-8")
    case = parse(text)
    assert path.parent.name == f"{case.endpoint}-{case.dialect}"
    assert case.recorded, "not recorded"
    assert play(case) == case.recorded
    assert render(case) == text, "not as the recorder writes it"


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("caller", CALLERS)
def test_each_pair_of_dialects_has_its_cases(caller: str, upstream: str) -> None:
    assert list((CASES / f"{caller}-{upstream}").glob("*.txt"))
