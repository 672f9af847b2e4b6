"""`penstock monitoring`, and the files that the Helm chart has of it."""

import json
from pathlib import Path

import pytest
import yaml

from edge.observability.monitoring.dashboard import dashboard_document
from edge.observability.monitoring.rules import rules_document

from .commands import ROOT, Penstock

FILES = ROOT / "helm/penstock/files"


@pytest.fixture
def penstock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Penstock:
    return Penstock(tmp_path / "penstock.toml", capsys)


def test_rules_print_yaml(penstock: Penstock) -> None:
    result = penstock("monitoring", "rules")
    assert result.status == 0
    assert yaml.safe_load(result.out) == rules_document()


def test_rules_json_prints_json_with_links_to_a_published_runbook(penstock: Penstock) -> None:
    result = penstock("monitoring", "rules", "--json", "--runbook", "https://wiki.example.com/p")
    assert json.loads(result.out) == rules_document("https://wiki.example.com/p")


def test_dashboard_prints_json(penstock: Penstock) -> None:
    assert json.loads(penstock("monitoring", "dashboard").out) == dashboard_document()


@pytest.mark.parametrize(
    ("name", "arguments"), [("rules", ("rules", "--json")), ("dashboard", ("dashboard",))]
)
def test_the_files_of_the_chart_are_current(
    name: str, arguments: tuple[str, ...], penstock: Penstock
) -> None:
    written = (FILES / f"{name}.json").read_text()
    assert written == penstock("monitoring", *arguments).out, "run `make monitoring`"
