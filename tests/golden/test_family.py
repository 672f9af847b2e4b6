"""A target named freely is asked as the model its family names, in all cases and pairs."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from edge.proxy import translate
from middlewares.problem import Problem

from .case import CASES, Case, parse
from .play import cross_of

PAIRS = sorted(path.name for path in CASES.iterdir() if path.is_dir())
DEPLOYMENT = "prod-1"


def asked(case: Case, model: str, family: str) -> dict[str, Any] | str:
    """The upstream's request without the model's name; of a refused one its message."""
    limits: dict[str, Any] = case.limits
    body = {**case.request, "stream": True}
    try:
        # What an earlier turn sealed is its maker's, whose name is another question.
        with patch.object(translate, "fingerprint", lambda *_: "0" * 12):
            _, way = cross_of(case.endpoint, body, case.dialect, model, family=family, **limits)
    except Problem as problem:
        return str(problem)
    sent: dict[str, Any] = json.loads(way.take_body())
    assert sent.pop("model") == model
    return sent


@pytest.mark.parametrize("pair", PAIRS)
def test_family_decides_as_the_name_would(pair: str) -> None:
    for path in sorted(Path(CASES / pair).glob("*.txt")):
        case = parse(path.read_text("utf-8"))
        assert asked(case, DEPLOYMENT, case.model) == asked(case, case.model, ""), path.name


def test_family_goes_before_a_name_that_says_something_else() -> None:
    path = next(CASES.glob("messages-openai/*.txt"))
    case = parse(path.read_text("utf-8"))
    by_name = asked(case, "gpt-5", "")
    assert by_name == asked(case, "mistral-large", "gpt-5")
    assert by_name != asked(case, "mistral-large", "")
