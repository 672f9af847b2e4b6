"""Fixtures of the tests of commands."""

from collections.abc import Sequence

import pytest

from edge.cli.check.finding import Finding
from edge.cli.check.probe import Given, Probe, run
from tests.waiting import DEADLINE


@pytest.fixture
def hasty() -> None:
    """Probes have the few seconds that they have for operators."""


@pytest.fixture(autouse=True)
def patient_probes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes of `penstock check` wait for servers of a busy machine, unless a test is `hasty`."""
    if "hasty" in request.fixturenames:
        return

    def patiently(probes: Sequence[Given]) -> list[Finding]:
        return run(
            [
                Given(groups, Probe(probe.what, probe.run, probe.outward, DEADLINE))
                for groups, probe in probes
            ]
        )

    monkeypatch.setattr("edge.cli.check.run.run", patiently)
    for module in ("sql_store", "redis_store", "webhook", "collector"):
        monkeypatch.setattr(f"edge.cli.check.{module}.PATIENCE", DEADLINE)
    for name in ("CONNECT", "TOTAL"):
        monkeypatch.setattr(f"edge.cli.check.upstreams.{name}", DEADLINE)
