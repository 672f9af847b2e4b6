"""Pauses between tries."""

import pytest

from middlewares.backoff import Backoff, doubled


def test_doubled_is_bounded_however_often() -> None:
    assert [doubled(0.5, 3.0, times) for times in range(4)] == [0.5, 1.0, 2.0, 3.0]
    assert doubled(0.5, 3.0, 10**9) == 3.0
    assert doubled(5.0, 3.0, 0) == 3.0


def test_backoff_doubles_to_its_longest_and_begins_again_after_reset() -> None:
    backoff = Backoff(0.05, 0.3)
    assert [backoff.pause() for _ in range(5)] == [0.05, 0.1, 0.2, 0.3, 0.3]
    backoff.reset()
    assert backoff.pause() == 0.05


def test_backoff_grows_by_its_factor() -> None:
    backoff = Backoff(1.0, 2.0, factor=1.5)
    assert [backoff.pause() for _ in range(3)] == [1.0, 1.5, 2.0]


@pytest.mark.parametrize(("first", "longest"), [(0.0, 1.0), (2.0, 1.0)])
def test_backoff_without_sense_is_refused(first: float, longest: float) -> None:
    with pytest.raises(ValueError, match="expected 0 < first <= longest"):
        Backoff(first, longest)
