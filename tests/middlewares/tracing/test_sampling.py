"""Which requests are traced."""

from math import sqrt
from typing import Any

import pytest

from middlewares import Sampling
from middlewares.tracing.ids import new_trace_id
from middlewares.tracing.sampling import Bucket

REQUESTS, RATIO = 20_000, 0.01
SIGMA = sqrt(REQUESTS * RATIO * (1 - RATIO))


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_of_new_takes_its_share_within_three_sigma() -> None:
    """Of fixed ids spread by a full-period step, so that the result is the same in each run."""
    sampling = Sampling(RATIO)
    ids = [(n * 0x9E3779B97F4A7C15) & ((1 << 64) - 1) for n in range(REQUESTS)]
    taken = sum(sampling.of_new(one) for one in ids)
    assert abs(taken - REQUESTS * RATIO) <= 3 * SIGMA


def test_of_parent_takes_its_share_of_random_ids() -> None:
    sampling = Sampling(RATIO)
    taken = sum(sampling.of_parent(new_trace_id(), flag=False) for _ in range(REQUESTS))
    assert abs(taken - REQUESTS * RATIO) <= 6 * SIGMA  # once in five hundred million runs more


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_a_ratio_of_nothing_or_all_is_exact(ratio: float) -> None:
    sampling = Sampling(ratio)
    for one in (1, (1 << 64) - 1, (1 << 128) - 1, *(new_trace_id() for _ in range(100))):
        assert sampling.of_new(one) is bool(ratio)
        assert sampling.of_parent(one, flag=False) is bool(ratio)


def test_a_caller_cannot_choose_an_id_that_the_ratio_takes() -> None:
    """Ids with low bits of 0 are all below the threshold; of callers they count like others."""
    sampling = Sampling(0.5)
    low = [sampling.of_parent((n << 64) | n, flag=False) for n in range(1, 2001)]
    assert 0 < sum(low) < 2000


def test_the_decision_about_one_trace_is_the_same_each_time() -> None:
    first, second = Sampling(0.5), Sampling(0.5)
    for _ in range(200):
        one = new_trace_id()
        assert first.of_parent(one, flag=False) is second.of_parent(one, flag=False)


def test_the_flag_of_callers_counts_up_to_its_rate() -> None:
    clock = Clock()
    sampling = Sampling(0.0, parent_rate=10.0, clock=clock)
    assert sum(sampling.of_parent(1, flag=True) for _ in range(100)) == 10
    clock.now += 0.5
    assert sum(sampling.of_parent(1, flag=True) for _ in range(100)) == 5
    clock.now += 1000
    assert sum(sampling.of_parent(1, flag=True) for _ in range(100)) == 10


def test_failures_count_up_to_one_each_second() -> None:
    clock = Clock()
    sampling = Sampling(0.0, clock=clock)
    assert [sampling.of_failure() for _ in range(3)] == [True, False, False]
    clock.now += 1.0
    assert [sampling.of_failure() for _ in range(3)] == [True, False, False]


def test_a_rate_of_zero_takes_none_and_a_slow_one_takes_whole_ones() -> None:
    clock = Clock()
    assert not Bucket(0.0, clock).take()
    slow = Bucket(0.1, clock)
    assert slow.take()
    clock.now += 9.0
    assert not slow.take()
    clock.now += 1.5
    assert slow.take()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ratio": 1.5}, "ratio 1.5"),
        ({"ratio": -0.1}, "ratio -0.1"),
        ({"parent_rate": -1}, "parent_rate -1"),
        ({"failure_rate": float("inf")}, "failure_rate inf"),
        ({"ratio": float("nan")}, "ratio nan"),
    ],
)
def test_figures_out_of_range_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Sampling(**given)
