"""The files of the chart that are made from other files: `make chart` writes them."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.config.fields import FieldKind, walk_settings
from edge.config.model import Configuration
from edge.config.secrets import Secret
from edge.config.units import plain
from tests.helm.chart import CHART, text
from tests.helm.readme import readme
from tests.helm.values_file import values_of
from tests.helm.values_schema import values_schema

GOLDEN = Path(__file__).with_name("golden")
RENDERED = ("minimal", "full")
"""Sets of values whose manifests are kept, to be read when they change."""
_WITHOUT = {"metrics": {"rules": {"enabled": False}, "dashboard": {"enabled": False}}}
"""Values of manifests that are read elsewhere: they are files of the chart."""
_ADDRESSES = ("upstreams[].proxy",)
"""Secrets that need to be one only where they have a password, which the chart looks for."""


def generated() -> Mapping[Path, str]:
    """Path and text of each file but the manifests."""
    values = values_of((CHART / "values.yaml").read_text())
    return {
        CHART / "README.md": readme(values),
        CHART / "values.schema.json": _json(values_schema(values)),
        CHART / "files/restart-paths.json": _json(restart_paths()),
        CHART / "files/secret-paths.json": _json(secret_paths()),
    }


def manifests() -> Mapping[Path, str]:
    """Path and text of the manifests that are kept."""
    return {GOLDEN / f"{name}.yaml": text(name, overlay=json.dumps(_WITHOUT)) for name in RENDERED}


def restart_paths() -> dict[str, object]:
    """Path and default of each setting that takes effect at a restart only."""
    return {
        path: None if field.default is None else plain(field.default)
        for path, field in walk_settings(Configuration)
        if not field.reloadable
    }


def secret_paths() -> list[str]:
    """Path of each setting that is a secret. "{}" stands for the values of a map."""
    return [
        f"{path}.{{}}" if field.kind.form == "map" else path
        for path, field in walk_settings(Configuration)
        if path not in _ADDRESSES and (_secret(field.kind) or _secret(field.kind.inner))
    ]


def _secret(kind: FieldKind | None) -> bool:
    return kind is not None and isinstance(kind.bare, type) and issubclass(kind.bare, Secret)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write all of them."""
    for found in (generated, manifests):  # the manifests are made with the others
        for path, content in found().items():
            path.write_text(content)
            sys.stdout.write(f"{path.relative_to(CHART.parents[1])}\n")


if __name__ == "__main__":
    main()
