"""Numbers of pods, and what replaces and disrupts them."""

from typing import Any

import pytest

from tests.helm.chart import NAMES, rendered

SHARED = ("full", "ha", "openshift", "gateway-api", "restricted", "bundled")


@pytest.mark.parametrize("name", ["full", "openshift", "gateway-api", "restricted", "bundled"])
def test_update_adds_a_pod_before_it_ends_one(name: str) -> None:
    assert rendered(name).workload["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0},
    }


@pytest.mark.parametrize("name", ["minimal", "sqlite"])
def test_sqlite_has_one_pod_at_a_time_and_a_claim(name: str) -> None:
    found = rendered(name)
    assert found.workload["spec"]["replicas"] == 1
    assert found.workload["spec"]["strategy"] == {"type": "Recreate"}
    claim = found.one("PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    state = next(one for one in found.pod["volumes"] if one["name"] == "state")
    assert state["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert found.config["store"]["sql"].startswith("sqlite:////var/lib/penstock/")


def test_claim_of_the_operator_is_mounted() -> None:
    found = rendered("sqlite", {"persistence": {"existingClaim": "mine"}})
    assert not found.kinds("PersistentVolumeClaim")
    state = next(one for one in found.pod["volumes"] if one["name"] == "state")
    assert state["persistentVolumeClaim"]["claimName"] == "mine"


def test_replicas_unless_given_are_two_or_what_the_stores_allow() -> None:
    assert rendered("restricted").workload["spec"]["replicas"] == 2
    memory = {"config": {"store": {"counters": "memory"}}}
    assert rendered("restricted", memory).workload["spec"]["replicas"] == 1
    assert rendered("restricted", {"replicas": 5}).workload["spec"]["replicas"] == 5


def test_location_in_a_variable_is_read_where_the_values_have_it() -> None:
    """`env:NAME` may hide a store that only one pod can have."""
    store = {
        "config": {"store": {"sql": "env:PENSTOCK_SQL"}},
        "secrets": {"env": {"PENSTOCK_SQL": "sqlite:////var/lib/penstock/penstock.db"}},
    }
    found = rendered("minimal", store)
    assert found.workload["spec"]["replicas"] == 1
    assert found.kinds("PersistentVolumeClaim")


@pytest.mark.parametrize("name", ["ha", "gateway-api"])
def test_scaled_workload_has_no_replicas(name: str) -> None:
    assert "replicas" not in rendered(name).workload["spec"]


@pytest.mark.parametrize("name", NAMES)
def test_disruption_budget_is_of_at_least_two_pods(name: str) -> None:
    budgets = rendered(name).kinds("PodDisruptionBudget")
    assert bool(budgets) == (name in SHARED)
    for one in budgets:
        assert one["spec"]["maxUnavailable"] == 1
        assert "minAvailable" not in one["spec"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ha", {"replicas": 5, "autoscaling": {"min": 1}}),
        ("gateway-api", {"replicas": 5, "keda": {"min": 1}}),
        ("restricted", {"replicas": 1}),
        ("restricted", {"pdb": {"enabled": False}}),
    ],
)
def test_disruption_budget_reads_the_effective_minimum(name: str, values: dict[str, Any]) -> None:
    assert not rendered(name, values).kinds("PodDisruptionBudget")


def test_autoscaler_reads_cpu_and_streams_and_is_slow_to_take_pods_away() -> None:
    spec = rendered("ha").one("HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": "penstock",
    }
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 12)
    cpu, streams = spec["metrics"]
    assert cpu["resource"]["target"] == {"type": "Utilization", "averageUtilization": 70}
    assert streams["pods"]["metric"]["name"] == "penstock_streams_open"
    assert streams["pods"]["target"] == {"type": "AverageValue", "averageValue": "300"}
    assert spec["behavior"]["scaleDown"] == {
        "stabilizationWindowSeconds": 600,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 300}],
    }


def test_autoscaler_reads_cpu_alone_unless_streams_are_given() -> None:
    spec = rendered("ha", {"autoscaling": {"streams": None}}).one("HorizontalPodAutoscaler")["spec"]
    assert [one["type"] for one in spec["metrics"]] == ["Resource"]


def test_scaled_object_asks_for_streams_of_this_release() -> None:
    spec = rendered("gateway-api").one("ScaledObject")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 10)
    first, second = spec["triggers"]
    assert first["metadata"]["query"] == (
        'sum(penstock_streams_open{namespace="llm",pod=~"penstock-[a-z0-9]+-[a-z0-9]{5}"})'
    )
    assert first["metadata"]["threshold"] == "200"
    assert second["type"] == "cpu"
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 600


@pytest.mark.parametrize("name", NAMES)
def test_pods_are_spread_over_hosts_and_zones(name: str) -> None:
    found = rendered(name)
    spread = found.pod["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    revision = "controller-revision-hash" if name == "ha" else "pod-template-hash"
    for one in spread:
        assert one["whenUnsatisfiable"] == "ScheduleAnyway"
        assert one["matchLabelKeys"] == [revision]
        assert one["labelSelector"] == found.workload["spec"]["selector"]


def test_spreading_can_be_replaced_and_left_out() -> None:
    own = [{"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}]
    assert (
        rendered("minimal", {"topologySpreadConstraints": own}).pod["topologySpreadConstraints"]
        == own
    )
    none = rendered("minimal", {"topologySpreadConstraints": []})
    assert "topologySpreadConstraints" not in none.pod


@pytest.mark.parametrize("name", NAMES)
def test_container_asks_for_a_core_and_is_not_throttled(name: str) -> None:
    resources = rendered(name).container["resources"]
    cores, memory = ("2", "1Gi") if name == "ha" else ("1", "512Mi")
    assert resources == {
        "requests": {"cpu": cores, "memory": memory},
        "limits": {"memory": memory},
    }


def test_stateful_pods_have_a_volume_each_and_start_together() -> None:
    found = rendered("ha")
    spec = found.workload["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert (
        spec["serviceName"] == rendered("ha").one("Service", "penstock-metrics")["metadata"]["name"]
    )
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "state"
    assert set(claim["metadata"]["labels"]) == {
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
    }, "the template of a claim cannot be changed"
    assert "state" not in [one["name"] for one in rendered("ha").pod["volumes"]]
