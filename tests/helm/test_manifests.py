"""Manifests of every set of values, for every version of Kubernetes, against its own schemas."""

import json
import re
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from kubernetes_validate import utils

from tests.clients.programs import node
from tests.helm.chart import (
    CHART,
    NAMES,
    VERSIONS,
    Document,
    Refused,
    Rendered,
    helm,
    rendered,
    text,
)

CUSTOM = ("gateway.networking.k8s.io/", "monitoring.coreos.com/", "keda.sh/")
"""API groups whose definitions are not Kubernetes' own."""


@pytest.fixture
def schemas_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The validator reads 3 MB of schemas for each object otherwise."""
    monkeypatch.setattr(utils, "schema_contents", SCHEMAS)


SCHEMAS = cache(utils.schema_contents)


def is_custom(document: Document) -> bool:
    return str(document["apiVersion"]).startswith(CUSTOM)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.usefixtures("schemas_read_once")
def test_objects_of_kubernetes_have_its_schema(version: str) -> None:
    faults = []
    for content in sorted({json.dumps(one) for name in NAMES for one in objects(name, version)}):
        document = json.loads(content)
        try:
            assert kubernetes_validate.validate(document, version, strict=True) == version
        except kubernetes_validate.ValidationError as error:
            where = f"{document['kind']} {document['metadata']['name']} {list(error.path)}"
            faults.append(f"{where}: {error.message}")
    assert not faults


def objects(name: str, version: str) -> Iterator[Document]:
    yield from (one for one in rendered(name, version=version).all if not is_custom(one))


@pytest.mark.usefixtures("schemas_read_once")
def test_wrong_object_is_refused_by_those_schemas() -> None:
    document = json.loads(json.dumps(rendered("minimal").workload))
    document["spec"]["template"]["spec"]["terminationGracePeriod"] = 5
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(document, VERSIONS[0], strict=True)


def custom_faults(documents: list[Document], folder: Path) -> Any:
    file = folder / "documents.json"
    file.write_text(json.dumps(documents))
    return node("custom-resources.mjs", folder, FILE=str(file))


def test_custom_resources_have_the_schema_of_their_definitions(tmp_path: Path) -> None:
    found = [one for name in NAMES for one in rendered(name).all if is_custom(one)]
    kinds = {one["kind"] for one in found}
    assert kinds == {"HTTPRoute", "PodMonitor", "ServiceMonitor", "PrometheusRule", "ScaledObject"}
    assert custom_faults(found, tmp_path) == []


def test_wrong_custom_resources_are_refused(tmp_path: Path) -> None:
    route = json.loads(json.dumps(rendered("full").one("HTTPRoute")))
    route["spec"]["rules"][0]["timeouts"] = {"request": "ten seconds", "requests": "1s"}
    monitor = json.loads(json.dumps(rendered("full").one("PodMonitor")))
    del monitor["spec"]["selector"]
    monitor["spec"]["podMetricsEndpoints"][0]["relabeling"] = []
    said = custom_faults([route, monitor], tmp_path)
    assert [part for part in ("timeouts/request", "selector") if part in " ".join(said)] == [
        "timeouts/request",
        "selector",
    ]
    assert "HTTPRoute edge.spec.rules[0].timeouts: unknown key requests" in said
    assert "PodMonitor edge.spec.podMetricsEndpoints[0]: unknown key relabeling" in said


@pytest.mark.parametrize("name", NAMES)
def test_lint_finds_nothing(name: str) -> None:
    said = helm("lint", "--strict", str(CHART), "--values", str(CHART / f"ci/{name}-values.yaml"))
    assert "[ERROR]" not in said
    assert "[WARNING]" not in said
    assert "1 chart(s) linted, 0 chart(s) failed" in said


def test_older_kubernetes_is_refused() -> None:
    with pytest.raises(Refused, match=r"incompatible with Kubernetes v1\.29\.0"):
        text("minimal", "1.29")


def test_objects_of_the_operator_are_rendered_as_templates() -> None:
    found = rendered("full")
    assert found.one("ConfigMap", "edge-extra")["data"] == {"release": "penstock"}
    assert found.one("ConfigMap", "edge-more")


def test_rendering_twice_gives_the_same() -> None:
    """Argo CD renders again and again, and compares."""
    arguments = ("template", "penstock", str(CHART), "--values", str(CHART / "ci/full-values.yaml"))
    assert helm(*arguments) == helm(*arguments)


def test_package_has_all_that_templates_read(tmp_path: Path) -> None:
    helm("package", str(CHART), "--destination", str(tmp_path))
    (archive,) = tmp_path.glob("*.tgz")
    with tarfile.open(archive) as tar:
        names = {name.removeprefix("penstock/") for name in tar.getnames()}
    files = {path.relative_to(CHART).as_posix() for path in CHART.rglob("*") if path.is_file()}
    assert names == {name for name in files if not name.startswith("ci/")}
    arguments = ("--values", str(CHART / "ci/full-values.yaml"))
    assert helm("template", "penstock", str(archive), *arguments) == helm(
        "template", "penstock", str(CHART), *arguments
    )


@pytest.mark.parametrize("release", ["a" * 53, "rel.v1.2", "a" * 39 + ".bcde"])
@pytest.mark.parametrize("name", ["bundled", "ha"])
def test_names_fit_whatever_the_release_is_called(name: str, release: str) -> None:
    """Names of Services are labels of DNS. Controllers add to the names of workloads in labels and
    names of pods, of up to 63 characters: `-` and a hash, ten characters at most, and to those of a
    Deployment five more."""
    values = str(CHART / f"ci/{name}-values.yaml")
    found = Rendered(helm("template", release, str(CHART), "--values", values))
    room = {"StatefulSet": 11, "Deployment": 17}
    for one in found.all:
        called = one["metadata"]["name"]
        assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", called), called
        assert len(called) + room.get(one["kind"], 0) <= 63, called


@pytest.mark.parametrize("called", ["true", "null", "1e3", "123", "~"])
def test_names_that_yaml_takes_for_something_else_stay_texts(called: str) -> None:
    """Kubernetes refuses a number or a truth as the name of a Secret or the value of a label."""
    label = called if called != "~" else "a"
    values = {
        "nameOverride": label,
        "fullnameOverride": "on" if called[0] in "1~" else called,
        "existingConfig": called,
        "secrets": {"existingSecret": called, "existingFiles": called},
        "serviceAccount": {"name": called},
        "networkPolicy": {"enabled": True},
        "ingress": {"enabled": True, "className": called, "hosts": [{"host": "a.b"}]},
        "acceptUntrustedProxy": True,
        "redis": {"bundled": True, "existingSecret": called},
        "postgresql": {"bundled": True, "existingSecret": called},
    }
    for kind in ("Deployment", "StatefulSet"):
        found = rendered("minimal", {**values, "workload": {"kind": kind}})
        wrong = [path for one in found.all for path in _names_of_no_text(one, "")]
        assert not wrong


def _names_of_no_text(value: Any, path: str) -> Iterator[str]:
    """Paths below `value` of names and labels that are no texts."""
    if isinstance(value, list):
        for n, one in enumerate(value):
            yield from _names_of_no_text(one, f"{path}[{n}]")
    elif isinstance(value, dict):
        for key, one in value.items():
            named = key.lower().endswith("name") or ".matchLabels" in path or ".labels" in path
            if key == "values" or (named and not isinstance(one, str | dict | list)):
                texts = one if isinstance(one, list) else [one]
                yield from (f"{path}.{key}" for text in texts if not isinstance(text, str))
            else:
                yield from _names_of_no_text(one, f"{path}.{key}")
