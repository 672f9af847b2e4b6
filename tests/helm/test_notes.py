"""What an operator reads after an install or upgrade."""

from typing import Any

import pytest

from tests.helm.chart import NAMES
from tests.helm.probe import notes


@pytest.mark.parametrize("name", NAMES)
def test_notes_say_how_to_make_a_key(name: str) -> None:
    text = notes(name)
    workload = {"full": "deploy/edge", "ha": "statefulset/penstock"}.get(name, "deploy/penstock")
    command = "exec {} -c penstock -- penstock keys create --name first"
    assert command.format(workload) in text
    assert f"exec {workload} -c penstock -- penstock status" in text


def test_notes_name_the_dashboard() -> None:
    assert "https://llm.example.com/app" in notes("full")
    assert "http://llm.apps.example.com/app" in notes("openshift")
    assert "https://llm.example.com/app" in notes("gateway-api")
    assert "port-forward svc/penstock 8080:80" in notes("minimal")
    assert "/app" not in notes("minimal", {"config": {"dashboard": {"enabled": False}}})


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("ha", {}, "The journal of each pod is in a volume of its own"),
        ("openshift", {}, "not a pod that is deleted while the database is away"),
        ("openshift", {}, "set workload.kind to StatefulSet"),
        ("sqlite", {}, "keys and ledger are in SQLite, in the claim penstock"),
        ("sqlite", {"persistence": {"enabled": False}}, "WARNING: keys and ledger are in a folder"),
        ("gateway-api", {}, "Envoy Gateway after 300 s"),
        ("gateway-api", {}, "Penstock sends a ping after 12s of silence"),
        ("gateway-api", {}, "WARNING: files of callers are in a folder of each pod"),
        ("ha", {}, "3 to 12 pods"),
        ("ha", {}, "The Job penstock-migration migrates the database"),
        ("restricted", {}, "Each pod migrates the database before it starts"),
        ("ha", {"migration": {"mode": "none"}}, "run `penstock migrate` before each upgrade"),
        ("ha", {"config": {"server": {"drain": "5m"}}}, "WARNING: a request at far may last 30m"),
        ("minimal", {"config": {"models": []}}, "WARNING: config.models is empty"),
    ],
)
def test_notes_say_what_follows_from_the_values(
    name: str, values: dict[str, Any], sentence: str
) -> None:
    assert sentence in notes(name, values)


def test_notes_of_a_whole_installation_have_no_warning() -> None:
    assert "WARNING" not in notes("ha")
    assert "WARNING" not in notes("full")
    assert "WARNING" not in notes("sqlite")
