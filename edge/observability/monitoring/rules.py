"""The alert rules as a document that Prometheus loads."""

from collections.abc import Mapping
from typing import Any

from .alerts import ALERTS, Alert

RUNBOOK = "docs/runbook.md"
"""The page with a section for each alert, relative to the repository."""


def rules_document(runbook: str = RUNBOOK) -> dict[str, Any]:
    """The rule file. runbook: URL of the runbook, for the annotations `runbook_url`."""
    return {
        "groups": [{"name": "penstock", "rules": [dict(_rule(one, runbook)) for one in ALERTS]}]
    }


def _rule(alert: Alert, runbook: str) -> Mapping[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.wait,
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{runbook}#{anchor(alert.name)}",
        },
    }


def anchor(name: str) -> str:
    """The anchor of an alert's section in the runbook."""
    return name.lower()
