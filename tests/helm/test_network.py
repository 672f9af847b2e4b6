"""How requests come to the pods, and where the pods may go."""

import re
from typing import Any

import pytest
import yaml

from edge.config.fields import fields_of
from edge.config.model import ServerConfig, UpstreamConfig
from edge.config.units import Size
from tests.helm.chart import CHART, NAMES, Document, rendered


@pytest.mark.parametrize("name", NAMES)
def test_service_leads_to_the_named_port(name: str) -> None:
    found = rendered(name)
    service = found.one("Service", found.workload["metadata"]["name"])
    (port,) = service["spec"]["ports"]
    assert (port["name"], port["port"], port["targetPort"]) == ("http", 80, "http")
    assert service["spec"]["selector"] == found.workload["spec"]["selector"]["matchLabels"]


def test_service_of_a_load_balancer_has_its_options() -> None:
    spec = rendered("full").one("Service", "edge")["spec"]
    assert spec["type"] == "LoadBalancer"
    assert spec["externalTrafficPolicy"] == "Local"
    assert spec["loadBalancerSourceRanges"] == ["192.0.2.0/24"]
    assert spec["ports"][0]["nodePort"] == 30080


def test_ingress_sends_hosts_and_paths_to_the_service() -> None:
    found = rendered("full").one("Ingress")
    assert found["spec"]["ingressClassName"] == "nginx"
    assert found["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    (rule,) = found["spec"]["rules"]
    paths = rule["http"]["paths"]
    assert [(one["path"], one["pathType"]) for one in paths] == [("/v1", "Prefix"), ("/", "Exact")]
    assert paths[0]["backend"]["service"] == {"name": "edge", "port": {"name": "http"}}
    (plain,) = rendered("openshift").one("Ingress")["spec"]["rules"][0]["http"]["paths"]
    assert (plain["path"], plain["pathType"]) == ("/", "Prefix")


def preset(controller: str) -> dict[str, str]:
    """The commented annotations of a controller in values.yaml."""
    text = (CHART / "values.yaml").read_text()
    lines = re.findall(rf"^    # ({re.escape(controller)}/.*)$", text, re.MULTILINE)
    found: dict[str, str] = yaml.safe_load("\n".join(lines))
    return {key.partition("/")[2]: str(value) for key, value in found.items()}


def test_presets_let_streams_through() -> None:
    """For the defaults of the program: its largest body, and its longest stream and a minute."""
    longest = fields_of(UpstreamConfig)["total_timeout"].default + 60
    nginx = preset("nginx.ingress.kubernetes.io")
    assert nginx["proxy-buffering"] == nginx["proxy-request-buffering"] == "off"
    assert nginx["proxy-next-upstream"] == "off"
    assert float(nginx["proxy-read-timeout"]) >= longest
    assert float(nginx["proxy-send-timeout"]) >= longest
    assert nginx["proxy-body-size"] == "32m"
    assert ServerConfig().max_body == Size.parse("32MiB")
    haproxy = preset("haproxy.org")
    assert float(haproxy["timeout-server"].removesuffix("s")) >= longest
    assert preset("traefik.ingress.kubernetes.io")


def test_http_route_has_no_time_limit_unless_given() -> None:
    (rule,) = rendered("full").one("HTTPRoute")["spec"]["rules"]
    assert rule["timeouts"] == {"request": "0s"}
    assert rule["backendRefs"] == [{"name": "edge", "port": 80}]
    spec = rendered("gateway-api").one("HTTPRoute")["spec"]
    assert spec["parentRefs"] == [
        {"name": "public", "namespace": "gateways", "sectionName": "https"}
    ]
    assert spec["rules"][0]["timeouts"] == {"request": "0s", "backendRequest": "0s"}


@pytest.mark.parametrize("values", [{"timeouts": None}, {"timeouts": {"request": None}}])
def test_http_route_can_leave_time_limits_out(values: dict[str, Any]) -> None:
    (rule,) = rendered("full", {"httpRoute": values}).one("HTTPRoute")["spec"]["rules"]
    assert "timeouts" not in rule


def policies(name: str, values: dict[str, Any] | None = None) -> dict[str, Document]:
    return {
        one["metadata"]["name"]: one["spec"]
        for one in rendered(name, values).kinds("NetworkPolicy")
    }


def test_network_policy_is_made_on_demand() -> None:
    assert [name for name in NAMES if policies(name)] == ["full", "restricted"]


def test_network_policy_lets_callers_and_monitoring_in() -> None:
    policy = policies("restricted")["penstock"]
    (rule,) = policy["ingress"]
    names = [
        one.get("namespaceSelector", one.get("podSelector"))["matchLabels"] for one in rule["from"]
    ]
    assert names[0] == {"kubernetes.io/metadata.name": "apps"}
    assert names[1]["app.kubernetes.io/name"] == "penstock-test"
    assert names[2] == {"kubernetes.io/metadata.name": "monitoring"}
    assert rule["ports"] == [{"port": "http", "protocol": "TCP"}]


def test_network_policy_without_callers_lets_all_in() -> None:
    policy = policies("restricted", {"networkPolicy": {"from": []}})["penstock"]
    assert policy["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]


def test_network_policy_lets_dns_https_stores_and_more_out() -> None:
    egress = policies("restricted")["penstock"]["egress"]
    ports = {(port["port"], port["protocol"]) for rule in egress for port in rule["ports"]}
    assert ports >= {(53, "UDP"), (53, "TCP"), (443, "TCP"), (5432, "TCP"), (6379, "TCP")}
    assert ports >= {(4318, "TCP"), (8000, "TCP")}
    https = next(rule for rule in egress if {"port": 443, "protocol": "TCP"} in rule["ports"])
    assert https["to"][0]["ipBlock"]["except"] == ["169.254.169.254/32"]


def test_network_policy_selects_the_gateway_its_test_and_its_migration() -> None:
    found = rendered("full")
    labels = {where: metadata["labels"] for where, metadata, _ in found.pods}
    main = policies("full")["edge"]["podSelector"]["matchExpressions"]
    for where in ("Deployment edge", "Pod edge-test"):
        assert all(labels[where][one["key"]] in one["values"] for one in main)
    hook = found.one("NetworkPolicy", "edge-migration")
    assert hook["metadata"]["annotations"]["helm.sh/hook-weight"] == "0"
    chosen = hook["spec"]["podSelector"]["matchLabels"]
    assert chosen.items() <= labels["Job edge-migration"].items()
    assert hook["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in hook["spec"]


def test_bundled_stores_let_the_gateway_in_alone() -> None:
    found = policies("bundled", {"networkPolicy": {"enabled": True}})
    gateway = rendered("bundled").workload["spec"]["selector"]
    for part in ("redis", "postgresql"):
        policy = found[f"penstock-{part}"]
        (rule,) = policy["ingress"]
        assert rule["from"] == [{"podSelector": gateway}]
        assert rule["ports"] == [{"port": part, "protocol": "TCP"}]
        assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == f"penstock-{part}"
        assert "egress" not in policy
