"""Monitors, rules and the dashboard."""

import json

import pytest

from tests.helm.chart import CHART, NAMES, rendered


def test_pod_monitor_scrapes_the_pods() -> None:
    found = rendered("full")
    monitor = found.one("PodMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"] == found.workload["spec"]["selector"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"], endpoint["interval"]) == ("http", "/metrics", "30s")
    assert endpoint["relabelings"]
    assert endpoint["metricRelabelings"]


def test_service_monitor_scrapes_pods_that_are_not_ready_too() -> None:
    """A pod that drains leaves a Service for up to ten minutes; its last counts would be lost."""
    found = rendered("gateway-api")
    monitor = found.one("ServiceMonitor")
    service = found.one("Service", "penstock-metrics")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    chosen = monitor["spec"]["selector"]["matchLabels"].items()
    assert chosen <= service["metadata"]["labels"].items()
    assert not chosen <= found.one("Service", "penstock")["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_operator_is_made_unasked(name: str) -> None:
    kinds = {one["kind"] for one in rendered(name).all}
    wanted = {"full": {"PodMonitor", "PrometheusRule"}, "ha": {"PodMonitor"}}
    found = kinds & {"PodMonitor", "ServiceMonitor", "PrometheusRule"}
    assert found == wanted.get(name, {"ServiceMonitor"} if name == "gateway-api" else set())


def test_rules_are_the_file() -> None:
    rules = json.loads((CHART / "files/rules.json").read_text())
    found = rendered("full").one("PrometheusRule")
    assert found["spec"] == rules
    assert found["metadata"]["labels"]["release"] == "prometheus"


def test_rules_link_the_runbook_of_the_operator() -> None:
    address = "https://wiki.example.com/penstock"
    values = {"metrics": {"rules": {"enabled": True, "runbook": address}}}
    (group,) = rendered("full", values).one("PrometheusRule")["spec"]["groups"]
    assert group["rules"]
    for rule in group["rules"]:
        assert rule["annotations"]["runbook_url"] == f"{address}#{rule['alert'].lower()}"


def test_dashboard_is_the_file() -> None:
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    found = rendered("full").one("ConfigMap", "edge-dashboard")
    assert json.loads(found["data"]["penstock.json"]) == dashboard
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "LLM"}


def test_tracing_becomes_settings_and_names_the_pod() -> None:
    found = rendered("ha")
    wanted = {"endpoint": "http://collector.monitoring:4318", "ratio": 0.05}
    assert found.config["tracing"] == wanted
    env = {one["name"]: one for one in found.container["env"]}
    assert env["POD_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert env["OTEL_RESOURCE_ATTRIBUTES"]["value"] == (
        "k8s.namespace.name=llm,k8s.pod.name=$(POD_NAME),k8s.container.name=penstock"
    )
    assert list(env).index("POD_NAME") < list(env).index("OTEL_RESOURCE_ATTRIBUTES")


def test_tracing_of_the_configuration_goes_before_the_value() -> None:
    found = rendered("ha", {"config": {"tracing": {"ratio": 0, "content": True}}})
    assert found.config["tracing"]["ratio"] == 0
    assert found.config["tracing"]["content"] is True
    assert found.config["tracing"]["endpoint"] == "http://collector.monitoring:4318"


def test_no_tracing_has_no_settings() -> None:
    assert "tracing" not in rendered("full").config
    assert "OTEL_RESOURCE_ATTRIBUTES" not in str(rendered("full").container["env"])


def test_attributes_of_the_operator_replace_ours() -> None:
    own = {"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "a=b"}
    env = rendered("ha", {"extraEnv": [own]}).container["env"]
    assert [one for one in env if one["name"] == own["name"]] == [own]
