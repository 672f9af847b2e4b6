"""Links with other values in their query."""

from edge.dashboard.links import link


def test_link_replaces_adds_and_leaves_out() -> None:
    query = {"period": "7d", "of": "team", "empty": ""}
    assert link("/app/usage", query, period="30d", of=None) == "/app/usage?period=30d"
    assert link("/app/usage", {}, of="") == "/app/usage"


def test_link_escapes_values() -> None:
    found = link("/app/usage", {}, model='"><script>&period=x#y')
    assert found == "/app/usage?model=%22%3E%3Cscript%3E%26period%3Dx%23y"
