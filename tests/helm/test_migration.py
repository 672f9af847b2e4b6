"""The migration: a hook with objects of its own, or an init container."""

from typing import Any

import pytest

from tests.helm.chart import NAMES, Document, Rendered, containers, rendered, spec

HOOKED = ("full", "ha", "openshift", "gateway-api")
HOOK = {
    "helm.sh/hook": "pre-install,pre-upgrade",
    "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
}
REDIS_ONLY = {
    "postgresql": {"bundled": False},
    "config": {"store": {"sql": "env:SQL"}},
    "extraEnv": [{"name": "SQL", "value": "postgresql://db/penstock"}],
}
SAME = ("image", "imagePullPolicy", "env", "securityContext", "volumeMounts")
"""What a container of the migration has as the gateway has it."""
SAME_POD = (
    *("imagePullSecrets", "securityContext", "nodeSelector", "tolerations", "affinity"),
    *("priorityClassName", "automountServiceAccountToken", "enableServiceLinks"),
)


def hooks(found: Rendered) -> list[Document]:
    return [
        one
        for one in found.all
        if one["metadata"].get("annotations", {}).get("helm.sh/hook", "").startswith("pre-")
    ]


@pytest.mark.parametrize("name", NAMES)
def test_job_migrates_where_no_store_is_bundled_and_sql_is_a_server(name: str) -> None:
    found = rendered(name)
    assert bool(found.kinds("Job")) == (name in HOOKED)
    init = found.pod.get("initContainers", [])
    assert [one["args"] for one in init] == (
        [["migrate"]] if name in ("restricted", "bundled") else []
    )


@pytest.mark.parametrize("name", HOOKED)
def test_job_is_a_hook_that_can_fail(name: str) -> None:
    job = rendered(name).one("Job")
    assert job["metadata"]["annotations"] == {**HOOK, "helm.sh/hook-weight": "5"}
    assert job["spec"]["backoffLimit"] == 3
    assert job["spec"]["activeDeadlineSeconds"] == 600
    assert job["spec"]["ttlSecondsAfterFinished"] == 86400
    assert spec(job)["restartPolicy"] == "Never"
    assert containers(job)[0]["args"] == ["migrate"]


@pytest.mark.parametrize("name", HOOKED)
def test_job_runs_as_the_gateway_does(name: str) -> None:
    found = rendered(name)
    migrate, gateway = containers(found.one("Job"))[0], found.container
    assert {key: migrate[key] for key in SAME} == {key: gateway[key] for key in SAME}
    pod = spec(found.one("Job"))
    assert {key: pod.get(key) for key in SAME_POD} == {key: found.pod.get(key) for key in SAME_POD}


@pytest.mark.parametrize("name", ["restricted", "bundled"])
def test_init_container_runs_as_the_gateway_does(name: str) -> None:
    found = rendered(name)
    (migrate,) = found.pod["initContainers"]
    assert {key: migrate[key] for key in SAME} == {key: found.container[key] for key in SAME}
    assert migrate.get("envFrom") == found.container.get("envFrom")


@pytest.mark.parametrize("name", HOOKED)
def test_hook_needs_nothing_that_does_not_exist_before_an_install(name: str) -> None:
    found = rendered(name)
    early = hooks(found)
    weights = {
        (one["kind"], one["metadata"]["name"]): int(
            one["metadata"]["annotations"]["helm.sh/hook-weight"]
        )
        for one in early
    }
    for one in early:
        assert HOOK.items() <= one["metadata"]["annotations"].items()
    ours = {(one["kind"], one["metadata"]["name"]) for one in found.all}
    for need in needs(found.one("Job")):
        if need in ours:
            assert weights[need] < weights[("Job", f"{prefix(name)}-migration")], need


def prefix(name: str) -> str:
    return "edge" if name == "full" else "penstock"


def needs(job: Document) -> set[tuple[str, str]]:
    """Kind and name of every object that a Job refers to."""
    pod = spec(job)
    found = {("ServiceAccount", pod["serviceAccountName"])}
    for volume in pod["volumes"]:
        if "configMap" in volume:
            found.add(("ConfigMap", volume["configMap"]["name"]))
        if "secret" in volume:
            found.add(("Secret", volume["secret"]["secretName"]))
    for source in containers(job)[0].get("envFrom", []):
        if "secretRef" in source:
            found.add(("Secret", source["secretRef"]["name"]))
    for one in containers(job)[0]["env"]:
        if reference := one.get("valueFrom", {}).get("secretKeyRef"):
            found.add(("Secret", reference["name"]))
    return found


def test_copies_of_the_hook_have_the_content_of_the_others() -> None:
    found = rendered("full")
    for kind, suffix in (("ConfigMap", ""), ("Secret", "-env"), ("Secret", "-files")):
        copy = found.one(kind, f"edge-migration{suffix}")
        assert copy["data"] == found.one(kind, f"edge{suffix}")["data"]


def test_job_has_every_source_of_variables() -> None:
    found = rendered("full")
    gateway, migrate = found.container["envFrom"], containers(found.one("Job"))[0]["envFrom"]
    assert gateway == [
        {"secretRef": {"name": "edge-env"}},
        {"configMapRef": {"name": "proxies", "optional": True}},
    ]
    assert migrate == [{"secretRef": {"name": "edge-migration-env"}}, gateway[1]]
    own = rendered("ha")
    assert containers(own.one("Job"))[0]["envFrom"] == own.container["envFrom"]


@pytest.mark.parametrize("name", HOOKED)
def test_no_service_sends_requests_to_the_job(name: str) -> None:
    """A pod of a Job is ready as soon as it runs."""
    found = rendered(name)
    labels = found.one("Job")["spec"]["template"]["metadata"]["labels"]
    for one in found.kinds("Service"):
        assert not one["spec"]["selector"].items() <= labels.items()


@pytest.mark.parametrize(
    ("name", "values", "mode"),
    [
        ("ha", {"migration": {"mode": "none"}}, None),
        ("ha", {"migration": {"mode": "init"}}, "init"),
        (
            "bundled",
            {
                "postgresql": {"bundled": False},
                "config": {"store": {"sql": "env:S"}},
                "extraEnv": [{"name": "S", "value": "postgresql://db/penstock"}],
            },
            "init",
        ),
        ("sqlite", {"migration": {"mode": "init"}}, None),
    ],
)
def test_mode_of_the_migration(name: str, values: dict[str, Any], mode: str | None) -> None:
    found = rendered(name, values)
    assert not found.kinds("Job")
    assert bool(found.pod.get("initContainers")) == (mode == "init")


def test_job_has_labels_and_annotations_of_the_pods_and_its_own() -> None:
    """Workload identities come by labels, and a sidecar would keep the Job from ending."""
    own = {"podLabels": {"sidecar.istio.io/inject": "false"}, "podAnnotations": {"a": "b"}}
    metadata = rendered("full", {"migration": own}).one("Job")["spec"]["template"]["metadata"]
    assert metadata["labels"]["mesh"] == "on"
    assert metadata["labels"]["sidecar.istio.io/inject"] == "false"
    assert metadata["annotations"] == {"example.com/owner": "platform", "a": "b"}
