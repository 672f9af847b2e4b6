"""What holds for every pod of the chart: the gateway, its migration, its test, bundled stores."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.helm.chart import CHART, NAMES, Document, Rendered, helm, rendered


def every_container(spec: Document) -> Iterator[Document]:
    yield from spec["containers"]
    yield from spec.get("initContainers", [])


@pytest.mark.parametrize("name", NAMES)
def test_pod_is_restricted(name: str) -> None:
    """The profile `restricted` of the Pod Security Standards, and a root that is read-only."""
    for where, _, spec in rendered(name).pods:
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, where
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        kinds = {kind for volume in spec.get("volumes", []) for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}
        for container in every_container(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert not [port for port in container.get("ports", []) if "hostPort" in port]


@pytest.mark.parametrize("name", NAMES)
def test_pod_has_a_user_unless_openshift_chooses_one(name: str) -> None:
    for where, _, spec in rendered(name).pods:
        context = spec["securityContext"]
        users = {key: context.get(key) for key in ("runAsUser", "runAsGroup", "fsGroup")}
        if name == "openshift":
            assert set(users.values()) == {None}
        else:
            user = 999 if where.endswith(("-redis", "-postgresql")) else 65532
            assert set(users.values()) == {user}


def test_bundled_pods_have_no_user_on_openshift() -> None:
    for where, _, spec in rendered("bundled", {"openshift": True}).pods:
        assert "runAsUser" not in spec["securityContext"], where
        assert "fsGroup" not in spec["securityContext"], where


@pytest.mark.parametrize("name", NAMES)
def test_pod_has_no_name_twice(name: str) -> None:
    """Server-side apply, which Helm 4 uses, takes these lists for maps and refuses duplicates."""
    for where, _, spec in rendered(name).pods:
        for names in (
            [one["name"] for one in every_container(spec)],
            [one["name"] for one in spec.get("volumes", [])],
            [port["name"] for one in every_container(spec) for port in one.get("ports", [])],
        ):
            assert not twice(names), where
        for one in every_container(spec):
            assert not twice(variable["name"] for variable in one.get("env", []))
            assert not twice(mount["mountPath"] for mount in one.get("volumeMounts", []))
            volumes = {volume["name"] for volume in spec.get("volumes", [])} | {"state", "data"}
            assert {mount["name"] for mount in one.get("volumeMounts", [])} <= volumes


def twice(names: Any) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


@pytest.mark.parametrize("name", NAMES)
def test_pod_does_not_see_kubernetes(name: str) -> None:
    for where, _, spec in rendered(name).pods:
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False, where


@pytest.mark.parametrize("name", NAMES)
def test_pod_runs_on_any_processor(name: str) -> None:
    for where, _, spec in rendered(name).pods:
        assert "kubernetes.io/arch" not in str(spec), where


@pytest.mark.parametrize("name", NAMES)
def test_container_has_bounds_of_memory(name: str) -> None:
    for where, _, spec in rendered(name).pods:
        for one in every_container(spec):
            assert one["resources"]["limits"]["memory"], where
            assert "cpu" not in one["resources"]["limits"]


BUNDLED = {
    "imagePullSecrets": [{"name": "registry"}],
    "commonLabels": {"team": "platform"},
    "priorityClassName": "important",
}


@pytest.mark.parametrize(
    ("name", "values"), [("full", {}), ("bundled", BUNDLED), ("restricted", BUNDLED)]
)
def test_every_pod_has_pull_secrets_labels_and_priority(name: str, values: dict[str, Any]) -> None:
    found = rendered(name, values)
    for where, metadata, spec in found.pods:
        assert spec["imagePullSecrets"] == [{"name": "registry"}], where
        assert spec["priorityClassName"] == "important", where
        assert metadata["labels"]["team"] == "platform", where
    for one in found.all:
        if not one["metadata"]["name"].endswith(("-extra", "-more")):
            assert one["metadata"]["labels"]["team"] == "platform", one["metadata"]["name"]


def test_labels_of_the_operator_never_replace_those_that_select() -> None:
    values = {"commonLabels": {"app.kubernetes.io/name": "other"}, "podLabels": {"a": "b"}}
    found = rendered("minimal", values)
    selector = found.workload["spec"]["selector"]["matchLabels"]
    labels = found.workload["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()
    assert labels["a"] == "b"


@pytest.mark.parametrize("name", NAMES)
def test_selectors_have_name_and_instance_only(name: str) -> None:
    """Others may change with a version; a selector cannot."""
    for one in rendered(name).all:
        if one["kind"] in ("Deployment", "StatefulSet"):
            assert set(one["spec"]["selector"]["matchLabels"]) == {
                "app.kubernetes.io/name",
                "app.kubernetes.io/instance",
            }


def test_gateway_selects_no_other_pod_of_the_release() -> None:
    for name in NAMES:
        found = rendered(name)
        selector = found.workload["spec"]["selector"]["matchLabels"]
        chosen = [
            where
            for where, metadata, _ in found.pods
            if selector.items() <= metadata["labels"].items()
        ]
        assert len(chosen) == 1, chosen


def test_new_version_of_the_chart_leaves_labels_of_pods() -> None:
    for _, metadata, _ in rendered("full").pods[:1]:
        assert "helm.sh/chart" not in metadata["labels"]
        assert "app.kubernetes.io/version" not in metadata["labels"]


def test_annotations_of_the_operator_stand_beside_ours() -> None:
    own = {"podAnnotations": {"checksum/restart": "mine"}, "workload": {"annotations": {"a": "b"}}}
    found = rendered("minimal", own).workload
    ours = rendered("minimal").workload["spec"]["template"]["metadata"]["annotations"]
    assert found["spec"]["template"]["metadata"]["annotations"] == ours
    assert found["metadata"]["annotations"] == {"a": "b"}
    claim = {"persistence": {"annotations": {"helm.sh/resource-policy": "none", "a": "b"}}}
    assert rendered("minimal", claim).one("PersistentVolumeClaim")["metadata"]["annotations"] == {
        "helm.sh/resource-policy": "none",
        "a": "b",
    }


@pytest.mark.parametrize("name", NAMES)
def test_last_line_of_the_log_is_the_reason_of_an_end(name: str) -> None:
    """`kubectl describe pod` then shows what is wrong with the configuration."""
    for one in every_container(rendered(name).pod):
        if one["image"] == rendered(name).container["image"]:
            assert one["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_image_is_of_the_version_or_the_digest() -> None:
    assert rendered("minimal").container["image"] == "penstock:0.1.0"
    tagged = rendered("minimal", {"image": {"registry": "r.example.com", "tag": "7"}})
    assert tagged.container["image"] == "r.example.com/penstock:7"
    assert rendered("full").container["image"] == (
        "registry.example.com/llm/penstock@sha256:" + "0123456789abcdef" * 4
    )


@pytest.mark.parametrize("name", NAMES)
def test_writable_folders_are_tmp_and_state(name: str) -> None:
    found = rendered(name)
    writable = {
        one["mountPath"] for one in found.container["volumeMounts"] if not one.get("readOnly")
    }
    assert writable == {"/tmp", "/var/lib/penstock"}
    tmp = next(one for one in found.pod["volumes"] if one["name"] == "tmp")
    assert tmp["emptyDir"] == {"sizeLimit": "4Gi"}


def test_tmp_can_be_memory() -> None:
    found = rendered("minimal", {"tmp": {"medium": "Memory", "sizeLimit": "64Mi"}})
    tmp = next(one for one in found.pod["volumes"] if one["name"] == "tmp")
    assert tmp["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Mi"}


def test_labels_of_a_release_are_texts_whatever_its_name() -> None:
    manifests = helm("template", "1e3", str(CHART), "--set", "fullnameOverride=edge")
    found = Rendered(manifests)
    for one in found.all:
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == "1e3"
    assert found.workload["spec"]["selector"]["matchLabels"]["app.kubernetes.io/instance"] == "1e3"
