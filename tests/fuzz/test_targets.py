"""A hundred changed inputs for each target, always the same: it holds, and the target works."""

from random import Random

import pytest

from .mutate import mutated
from .targets import TARGETS

_RUNS = 120


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_breaks(name: str) -> None:
    target = TARGETS[name]
    pool, random = target.seeds(), Random(name)
    assert pool
    for _ in range(_RUNS):
        target.run(mutated(random.choice(pool), random, pool))
