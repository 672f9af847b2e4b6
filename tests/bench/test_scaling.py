"""The simulation of many replicas, and the page that has its table."""

from pathlib import Path

import pytest

from bench.scaling import MEASURED, load, lookups, redis_limit, table

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def test_the_page_has_the_table_and_the_limits_of_the_program() -> None:
    page = PAGE.read_text()
    assert table() in page
    for limit in (redis_limit(), redis_limit(team=True)):
        assert f"{limit:,.0f} requests/s" in page or f"{limit:,.0f} where" in page
    assert f"{lookups(1000, 100_000, sticky=False):,}" in page
    assert f"{MEASURED.row_disk:,} bytes a row" in page


def test_what_requests_cost_grows_with_the_replicas() -> None:
    one, ten = load(1, 20, 50), load(10, 20, 50)
    for name in ("requests", "redis_cores", "connections", "polls", "series", "log_megabytes"):
        assert getattr(ten, name) == pytest.approx(10 * getattr(one, name)), name


def test_flushes_that_wait_for_each_other_become_larger() -> None:
    some, many = load(100, 20, 50), load(1000, 20, 50)
    assert some.lag == MEASURED.flush_period
    assert many.flushes == pytest.approx(1 / MEASURED.lock_seconds)
    assert many.lag == pytest.approx(1000 * MEASURED.lock_seconds)


def test_rare_requests_have_a_flush_each() -> None:
    assert load(10, 0.1, 50).flushes == pytest.approx(1.0)
