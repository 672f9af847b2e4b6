"""What named templates of the chart say, by an object that a release has besides its own."""

from collections.abc import Mapping
from typing import Any

from tests.helm.chart import rendered


def said(template: str, name: str, overlay: Mapping[str, Any] | None = None) -> str:
    """The text of a template in a release of the values `name`. It has to be a YAML string."""
    lines = (
        "apiVersion: v1",
        "kind: ConfigMap",
        "metadata: {name: said}",
        f"data: {{said: {template}}}",
    )
    found = rendered(name, {**(overlay or {}), "extraObjects": ["\n".join(lines)]})
    return str(found.one("ConfigMap", "said")["data"]["said"])


def notes(name: str, overlay: Mapping[str, Any] | None = None) -> str:
    """The notes of a release, on one line."""
    text = said('{{ include "penstock.notes" . | toJson }}', name, overlay)
    return " ".join(text.split())
