"""The chart as Helm renders it, once for each set of values."""

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/penstock"
NAMES = tuple(sorted(path.name.removesuffix("-values.yaml") for path in CHART.glob("ci/*.yaml")))
"""The sets of values in the chart's folder `ci`."""
VERSIONS = ("1.30", "1.33", "1.37")
"""Kubernetes versions that the chart is rendered and validated for."""
NAMESPACE = "llm"

Document = dict[str, Any]


class Refused(AssertionError):
    """Helm's sentence about values that it does not render."""


def helm(*arguments: str, values: str = "") -> str:
    """What Helm prints. values: further ones, for `--values -`. Raises Refused."""
    ran = subprocess.run(
        [str(Path(sys.executable).with_name("helm")), *arguments],
        cwd=ROOT,
        env={"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"},
        input=values,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise Refused(ran.stderr)
    return ran.stdout


@cache
def text(name: str, version: str = VERSIONS[1], overlay: str = "{}") -> str:
    """The manifests of a set of values. overlay: values over it, as JSON."""
    file = CHART / f"ci/{name}-values.yaml"
    words = ("--namespace", NAMESPACE, "--kube-version", version, "--values", str(file))
    return helm("template", "penstock", str(CHART), *words, "--values", "-", values=overlay)


class _Loader(yaml.CSafeLoader):  # type: ignore[misc]
    """Refuses a map with a key twice, which YAML does not allow, and which loses a value."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key twice: {keys}{node.start_mark}"
        return super().construct_mapping(node, deep)


class Rendered:
    """The objects of a rendered chart. The same ones for every test: change none of them."""

    def __init__(self, manifests: str) -> None:
        loaded = yaml.load_all(manifests, Loader=_Loader)
        self.all: list[Document] = [one for one in loaded if one]

    def kinds(self, kind: str) -> list[Document]:
        """The objects of a kind."""
        return [one for one in self.all if one["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> Document:
        """The only object of a kind, or the one of a name."""
        found = [one for one in self.kinds(kind) if name in (None, one["metadata"]["name"])]
        assert len(found) == 1, f"{kind} {name}: {[one['metadata']['name'] for one in found]}"
        return found[0]

    @property
    def workload(self) -> Document:
        """The Deployment or StatefulSet of the gateway."""
        return next(
            one
            for kind in ("Deployment", "StatefulSet")
            for one in self.kinds(kind)
            if containers(one)[0]["name"] == "penstock"
        )

    @property
    def pod(self) -> Document:
        """The spec of the gateway's pod."""
        return spec(self.workload)

    @property
    def container(self) -> Document:
        """The container of the gateway."""
        return containers(self.workload)[0]

    @property
    def config(self) -> Document:
        """The configuration that the gateway gets."""
        volume = next(one for one in self.pod["volumes"] if one["name"] == "config")
        found: Document = json.loads(
            self.one("ConfigMap", volume["configMap"]["name"])["data"]["penstock.json"]
        )
        return found

    @property
    def pods(self) -> list[tuple[str, Document, Document]]:
        """Name, metadata and spec of every pod, also of hooks, tests and bundled stores."""
        return [
            (f"{one['kind']} {one['metadata']['name']}", *parts)
            for one in self.all
            if (parts := _pod(one)) is not None
        ]


def rendered(
    name: str, overlay: Mapping[str, Any] | None = None, *, version: str = VERSIONS[1]
) -> Rendered:
    """The objects of a set of values of the chart's folder `ci`, with `overlay` over it.

    Raises Refused.
    """
    return _loaded(name, version, json.dumps(overlay or {}))


@cache
def _loaded(name: str, version: str, overlay: str) -> Rendered:
    return Rendered(text(name, version, overlay))


def _pod(one: Document) -> tuple[Document, Document] | None:
    match one["kind"]:
        case "Pod":
            return one["metadata"], one["spec"]
        case "Deployment" | "StatefulSet" | "Job":
            template = one["spec"]["template"]
            return template["metadata"], template["spec"]
    return None


def spec(one: Document) -> Document:
    """The spec of the pod of an object."""
    parts = _pod(one)
    assert parts is not None, one["kind"]
    return parts[1]


def containers(one: Document) -> list[Document]:
    """The containers of the pod of an object, without those that initialise it."""
    found: list[Document] = spec(one)["containers"]
    return found
