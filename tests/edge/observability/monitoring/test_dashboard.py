"""The dashboard: what Grafana needs to import it, and queries that Prometheus takes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edge.observability.monitoring.dashboard import dashboard_document
from edge.observability.monitoring.panels import SECTIONS

from .chosen import chosen
from .promtool import content, promtool

DOCUMENT = dashboard_document()
GRAPHS = [panel for panel in DOCUMENT["panels"] if panel["type"] != "row"]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def squares(panel: Mapping[str, Any]) -> set[tuple[int, int]]:
    """The places of the grid that a panel covers."""
    at = panel["gridPos"]
    return {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}


def test_document_can_be_imported_anywhere() -> None:
    assert DOCUMENT["id"] is None
    assert DOCUMENT["uid"] == "penstock"
    assert DOCUMENT["schemaVersion"] >= 39
    assert len(GRAPHS) <= 24
    names = [variable["name"] for variable in DOCUMENT["templating"]["list"]]
    assert names == ["datasource", "namespace", "job", "model"]
    json.dumps(DOCUMENT)


def test_document_names_no_data_source_of_its_own() -> None:
    parts = [*GRAPHS, *(target for panel in GRAPHS for target in panel["targets"])]
    parts += [v for v in DOCUMENT["templating"]["list"] if v["type"] == "query"]
    parts += DOCUMENT["annotations"]["list"]
    assert all(part["datasource"] == SOURCE for part in parts)


def test_rows_have_the_sections() -> None:
    rows = [panel["title"] for panel in DOCUMENT["panels"] if panel["type"] == "row"]
    assert rows == [section.title for section in SECTIONS]


def test_panels_have_their_own_number_and_place() -> None:
    numbers = [panel["id"] for panel in DOCUMENT["panels"]]
    assert len(set(numbers)) == len(numbers)
    covered: set[tuple[int, int]] = set()
    for panel in DOCUMENT["panels"]:
        place = squares(panel)
        assert not covered & place, panel["title"]
        assert all(x < 24 for x, _ in place), panel["title"]
        covered |= place


@pytest.mark.parametrize("panel", GRAPHS, ids=lambda panel: panel["title"])
def test_panels_say_what_they_show(panel: dict[str, Any]) -> None:
    assert panel["title"] and panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for target in panel["targets"]:
        assert target["legendFormat"]
        if "rate(" in target["expr"]:
            assert "[$__rate_interval]" in target["expr"]


def test_titles_are_unique() -> None:
    """The runbook names panels by title."""
    titles = [panel["title"] for panel in GRAPHS]
    assert len(set(titles)) == len(titles)


def test_queries_are_valid(tmp_path: Path) -> None:
    expressions = [target["expr"] for panel in GRAPHS for target in panel["targets"]]
    expressions += [one["expr"] for one in DOCUMENT["annotations"]["list"]]
    rules = [
        {"record": f"panel:query:{number}", "expr": chosen(expression)}
        for number, expression in enumerate(expressions)
    ]
    document = {"groups": [{"name": "panels", "rules": rules}]}
    (tmp_path / "panels.json").write_text(json.dumps(document))
    said = content(promtool("check", "rules", "panels.json", cwd=tmp_path))
    assert f"{len(expressions)} rules found" in said
