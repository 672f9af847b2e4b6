"""Alerts, panels and the runbook name only what a scrape has."""

import re
from pathlib import Path

import pytest

from edge.observability.monitoring.alerts import ALERTS
from edge.observability.monitoring.dashboard import dashboard_document
from edge.observability.monitoring.panels import SECTIONS
from edge.routing import router

from .vocabulary import faults


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_alerts_name_metrics_and_labels_of_the_table(alert: object) -> None:
    assert not faults(getattr(alert, "expression"))  # noqa: B009


def test_panels_name_metrics_and_labels_of_the_table() -> None:
    expressions = [query.expression for s in SECTIONS for p in s.panels for query in p.queries]
    assert expressions
    assert not [(text, found) for text in expressions if (found := faults(text))]


def test_variables_name_metrics_and_labels_of_the_table() -> None:
    document = dashboard_document()
    queries = [
        variable["definition"]
        for variable in document["templating"]["list"]
        if variable["type"] == "query"
    ]
    queries += [one["expr"] for one in document["annotations"]["list"]]
    assert len(queries) == 4
    assert not [(text, found) for text in queries if (found := faults(text))]
    for query in queries[:3]:
        *_, label = re.findall(r"\w+", query)
        assert label in ("namespace", "job", "model")


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("penstock_request_total", ["penstock_request_total"]),
        ("penstock_sql_up{model='a'}", ["penstock_sql_up: model"]),
        ("sum by (model) (penstock_sql_up)", ["model"]),
        ("penstock_overhead_seconds", ["penstock_overhead_seconds"]),
        ("sum by (endpoint, le) (rate(penstock_overhead_seconds_bucket[5m]))", []),
    ],
)
def test_faults_are_found(expression: str, wrong: list[str]) -> None:
    assert faults(expression) == wrong


def test_endpoints_that_are_no_calls_are_the_routers() -> None:
    """Alerts and panels leave them out by name."""
    source = Path(router.__file__).read_text()
    for query in (SECTIONS[0].panels[0].queries[0].expression,):
        (names,) = re.findall(r'endpoint!~"([^"]+)"', query)
        assert all(f'"{name}"' in source for name in names.split("|"))
