"""The alert rules in promtool: each fires on what it is for, and on nothing that is well."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from edge.observability.monitoring.alerts import ALERTS
from edge.observability.monitoring.rules import RUNBOOK, anchor, rules_document

from .cases import CASES, Case
from .promtool import content, promtool

ROOT = Path(__file__).parents[4]
BY_NAME = {alert.name: alert for alert in ALERTS}


def rendered(template: str, labels: Mapping[str, str], value: str) -> str:
    """A text as Prometheus makes it."""
    text = re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels[found[1]], template)
    return re.sub(r"{{ \$value[^}]*}}", value, text)


def expected(case: Case) -> list[dict[str, Any]]:
    """The alerts that a case expects."""
    if case.labels is None:
        return []
    alert = BY_NAME[case.alert]
    annotations = {
        "summary": rendered(alert.summary, case.labels, case.value),
        "description": rendered(alert.description, case.labels, case.value),
        "runbook_url": f"{RUNBOOK}#{anchor(case.alert)}",
    }
    labels = {**case.labels, "severity": alert.severity}
    return [{"exp_labels": labels, "exp_annotations": annotations}]


def written(folder: Path, cases: Iterable[Case], every: int = 1) -> str:
    """The name of a file of unit tests for promtool, beside the rules. every: minutes between
    scrapes, and between evaluations."""
    (folder / "rules.json").write_text(json.dumps(rules_document()))
    tests = [
        {
            "name": f"{case.alert}: {case.name}",
            "interval": f"{every}m",
            "input_series": [
                {"series": series, "values": values} for series, values in case.series.items()
            ],
            "alert_rule_test": [
                {
                    "eval_time": f"{case.at}m",
                    "alertname": case.alert,
                    "exp_alerts": expected(case),
                }
            ],
        }
        for case in cases
    ]
    document = {
        "rule_files": ["rules.json"],
        "evaluation_interval": f"{every}m",
        "tests": tests,
    }
    (folder / "tests.json").write_text(json.dumps(document))
    return "tests.json"


def test_rules_are_valid(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(json.dumps(rules_document()))
    assert "16 rules found" in content(promtool("check", "rules", "rules.json", cwd=tmp_path))


def test_each_alert_fires_and_does_not_fire(tmp_path: Path) -> None:
    for fires in (True, False):
        covered = {case.alert for case in CASES if (case.labels is not None) is fires}
        assert covered == set(BY_NAME)
    for every in {case.every for case in CASES}:
        name = written(tmp_path, [case for case in CASES if case.every == every], every)
        content(promtool("test", "rules", name, cwd=tmp_path))


def test_a_wrong_expectation_is_noticed(tmp_path: Path) -> None:
    """Or the test above would prove nothing."""
    case = next(case for case in CASES if case.labels is not None)
    name = written(tmp_path, [replace(case, labels=None)])
    done = promtool("test", "rules", name, cwd=tmp_path)
    assert done.returncode != 0


def test_each_alert_has_its_section_in_the_runbook() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    assert headings == [alert.name for alert in ALERTS]


def test_rules_link_the_runbook_where_it_is_published() -> None:
    (group,) = rules_document("https://wiki.example.com/penstock")["groups"]
    urls = [rule["annotations"]["runbook_url"] for rule in group["rules"]]
    assert urls == [f"https://wiki.example.com/penstock#{anchor(one.name)}" for one in ALERTS]


def test_the_table_of_the_runbook_has_each_alert_with_its_severity() -> None:
    page = (ROOT / "docs/runbook.md").read_text()
    rows = re.findall(r"^\| \[(\w+)\]\(#(\w+)\) \| (\w+) \|$", page, re.MULTILINE)
    assert rows == [(one.name, anchor(one.name), one.severity) for one in ALERTS]
