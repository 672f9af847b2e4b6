"""The table of metrics is whole, and metrics are made from it."""

import re

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from edge.observability.metric_memory import MetricMemory
from edge.observability.reload_metrics import ReloadMetrics
from middlewares import Metrics
from middlewares.metric_rows import CounterRow, HistogramRow, MetricRow, Row
from middlewares.metric_table import METRICS_MISSING, TABLE, rows

FORBIDDEN_LABELS = {"key", "owner", "address", "client", "request_id", "team", "tag", "path", "le"}


def made_by(holder: object) -> dict[str, MetricWrapperBase]:
    """The metrics among the attributes of an object, by name."""
    found = {}
    for value in vars(holder).values():
        if isinstance(value, MetricWrapperBase):
            (described,) = value.describe()
            found[described.name] = value
    return found


@pytest.mark.parametrize("maker", ["worker", "parent"])
def test_table_each_row_is_made_once_as_it_says(maker: str) -> None:
    holder = Metrics() if maker == "worker" else ReloadMetrics()
    made = made_by(holder)
    wanted = {row.exposed().removesuffix("_total"): row for row in TABLE if row.maker == maker}
    assert made.keys() == wanted.keys()
    for name, row in wanted.items():
        (described,) = made[name].describe()
        assert (described.type, described.documentation) == (row.type, row.help)


def test_table_scrape_makes_the_last_row() -> None:
    assert [row.name for row in rows("scrape")] == [METRICS_MISSING.name]
    names = [metric.name for metric in MetricMemory(1).collect()]
    assert names == [METRICS_MISSING.exposed()]


def test_rows_without_makers_are_all() -> None:
    assert tuple(rows()) == TABLE
    assert {*rows("worker"), *rows("parent"), *rows("scrape")} == set(TABLE)


def test_table_names_are_unique_and_well_formed() -> None:
    names = [row.name for row in TABLE]
    assert len(names) == len(set(names))
    for row in TABLE:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", row.name), row.name
        assert row.help.endswith("."), row.name
        assert not row.name.endswith(("_total", "_count", "_sum", "_bucket", "_created"))
        for label in row.labels:
            assert re.fullmatch("[a-z]+", label), row.name


def test_table_has_no_label_that_a_client_chooses() -> None:
    assert not [row.name for row in TABLE if FORBIDDEN_LABELS & set(row.labels)]


@pytest.mark.parametrize("row", [row for row in TABLE if isinstance(row, HistogramRow)])
def test_histogram_buckets_rise(row: HistogramRow) -> None:
    assert list(row.buckets) == sorted(set(row.buckets))
    assert row.buckets[0] > 0


def exposed(row: MetricRow) -> tuple[str, str]:
    return row.exposed(), row.exposed("shop")


def test_exposed_has_namespace_and_suffix() -> None:
    counter = CounterRow("spins", "Spins.")
    histogram = HistogramRow("spin_seconds", "Seconds of a spin.", buckets=(1.0,))
    assert exposed(counter) == ("penstock_spins_total", "shop_spins_total")
    assert exposed(histogram) == ("penstock_spin_seconds", "shop_spin_seconds")


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_make_registers_the_name_that_is_exposed(row: Row) -> None:
    registry = CollectorRegistry()
    metric = row.make(registry, "shop")
    if row.labels:
        metric.labels(*row.labels)
    suffix = "_count" if isinstance(row, HistogramRow) else ""
    labels = {name: name for name in row.labels}
    assert registry.get_sample_value(row.exposed("shop") + suffix, labels) == 0
