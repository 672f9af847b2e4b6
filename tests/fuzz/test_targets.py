"""A hundred changed inputs for each target, always the same: it holds, and the target works."""

from pathlib import Path
from random import Random

import pytest

from .targets import TARGETS

_KEPT = sorted((Path(__file__).parent / "kept").glob("*/*"))
"""Inputs that broke a target once."""


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_breaks(name: str) -> None:
    target = TARGETS[name]
    pool, random = target.seeds(), Random(name)
    assert pool
    for _ in range(target.runs):
        target.run(target.change(random.choice(pool), random, pool))


@pytest.mark.parametrize("path", _KEPT, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_broke_once_does_not_again(path: Path) -> None:
    TARGETS[path.parent.name].run(path.read_bytes())
