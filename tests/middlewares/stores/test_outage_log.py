"""Outages are logged once when they begin and once when they end."""

import logging

import pytest

from middlewares.stores import StoreUnavailable
from middlewares.stores.outage import Outage

_log = logging.getLogger(__name__)


@pytest.fixture
def outage(caplog: pytest.LogCaptureFixture) -> Outage:
    caplog.set_level(logging.WARNING)
    return Outage(_log, "rows are not taken", "rows are taken")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, bool]]:
    """Messages, and whether they have a traceback."""
    return [(record.getMessage(), record.exc_info is not None) for record in caplog.records]


def test_outage_that_goes_on_is_logged_once(
    outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    outage.worked()
    outage.failed(StoreUnavailable("gone"))
    outage.failed(TimeoutError())
    outage.worked()
    outage.worked()
    assert lines(caplog) == [("rows are not taken: gone", False), ("rows are taken", False)]
    levels = [record.levelno for record in caplog.records]
    assert levels == [logging.ERROR, logging.WARNING]


def test_outage_without_a_reason_is_no_answer(
    outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    outage.failed(TimeoutError())
    assert lines(caplog) == [("rows are not taken: no answer", False)]


def test_unforeseen_error_has_its_traceback(
    outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    outage.failed(RuntimeError())
    outage.failed(StoreUnavailable("gone"))
    assert lines(caplog) == [("rows are not taken: RuntimeError", True)]


def test_level_is_the_owners(caplog: pytest.LogCaptureFixture) -> None:
    Outage(_log, "bad", "good", level=logging.WARNING).failed(OSError("full"))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
