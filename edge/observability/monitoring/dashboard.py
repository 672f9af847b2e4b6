"""The Grafana dashboard as the JSON that Grafana imports.

Theory of operation. Sections are rows of the grid, which is 24 wide; the panels of a section share
its width evenly. The data source and the chosen namespaces, jobs and models are variables, so that
one dashboard fits every installation.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from .panels import JOB, SECTIONS, Panel, Query

UID = "penstock"
"""Identifies the dashboard in Grafana: importing it again replaces it."""

_WIDTH = 24
_HEIGHT = 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard_document() -> dict[str, Any]:
    """The dashboard."""
    return {
        "uid": UID,
        "id": None,
        "title": "Penstock",
        "description": "Requests, latency, money, upstreams, limits and processes of Penstock.",
        "tags": ["penstock", "llm"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "links": [],
        "annotations": {"list": [_reloads()]},
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }


def _reloads() -> dict[str, Any]:
    """Marks the times of configuration changes in each graph."""
    return {
        "name": "Configuration",
        "datasource": _SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "blue",
        "expr": f'sum by (job) (changes(penstock_config_reloads_total{{{JOB},result="applied"}}'
        "[$__interval])) > 0",
        "titleFormat": "{{job}}: configuration changed",
        "step": "30s",
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "options": [],
        "refresh": 1,
        "regex": "",
        "hide": 0,
        "includeAll": False,
        "multi": False,
    }
    yield _choice("namespace", "Namespace", "penstock_workers_wanted")
    yield _choice("job", "Job", 'penstock_workers_wanted{namespace=~"$namespace"}')
    yield _choice("model", "Model", f"penstock_requests_total{{{JOB}}}")


def _choice(name: str, label: str, series: str) -> dict[str, Any]:
    """A variable with the values of a label. All means also series without the label."""
    query = f"label_values({series}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{name}"},
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "hide": 0,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
    }


def _panels() -> Iterator[Mapping[str, Any]]:
    number, y = 1, 0
    for section in SECTIONS:
        yield {
            "id": number,
            "type": "row",
            "title": section.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": y, "w": _WIDTH, "h": 1},
            "panels": [],
        }
        number, y = number + 1, y + 1
        width = _WIDTH // len(section.panels)
        for column, panel in enumerate(section.panels):
            place = {"x": column * width, "y": y, "w": width, "h": _HEIGHT}
            yield {"id": number, "gridPos": place, **_graph(panel)}
            number += 1
        y += _HEIGHT


def _graph(panel: Panel) -> dict[str, Any]:
    """A graph over time."""
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "color": {"mode": "palette-classic"},
        "custom": {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stacked else 0,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        },
    }
    if panel.highest is not None:
        defaults["max"] = panel.highest
    named = [(chr(ord("A") + n), query) for n, query in enumerate(panel.queries)]
    overrides = [
        {
            "matcher": {"id": "byFrameRefID", "options": name},
            "properties": [
                {"id": "unit", "value": query.unit},
                {"id": "custom.axisPlacement", "value": "right"},
            ],
        }
        for name, query in named
        if query.unit
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [_target(query, name) for name, query in named],
    }


def _target(query: Query, name: str) -> dict[str, Any]:
    return {
        "refId": name,
        "datasource": _SOURCE,
        "editorMode": "code",
        "expr": query.expression,
        "legendFormat": query.legend,
        "range": True,
        "exemplar": query.exemplars,
    }
