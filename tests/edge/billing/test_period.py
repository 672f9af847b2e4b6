"""Periods and moments, as text."""

from edge.billing.period import reset_moment


def test_reset_moment_is_rounded_up_to_the_second() -> None:
    assert reset_moment(1_700_000_000.001) == "2023-11-14T22:13:21.000Z"
    assert reset_moment(1_700_000_000.0) == "2023-11-14T22:13:20.000Z"
    assert reset_moment(None) is None
