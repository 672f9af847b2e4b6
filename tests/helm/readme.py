"""The chart's README.md: how to install, and a table of the values."""

import json
from itertools import groupby

from tests.helm.values_file import Value

_TOP = """# Penstock

The chart of [Penstock](../../README.md), a gateway for LLM APIs. Its page in the documentation is
[Kubernetes](../../docs/kubernetes.md): upgrades, secrets, proxies, scaling, OpenShift, Argo CD.

Kubernetes 1.30 or newer, Helm 3.17 or newer, and an image that you built or mirrored
([Container](../../docs/container.md)): `image.registry` and `image.repository` say where it is.

```sh
kubectl create secret generic penstock --from-literal=ANTHROPIC_API_KEY=sk-ant-...
helm install penstock helm/penstock --values values.yaml
kubectl exec deploy/penstock -- penstock keys create --name laptop
```

`values.yaml`, for one pod with SQLite:

```yaml
image: {registry: registry.example.com, repository: penstock}
secrets: {existingSecret: penstock}
config:
  upstreams:
    - name: anthropic
      dialect: anthropic
      base_url: https://api.anthropic.com/v1
      api_key: env:ANTHROPIC_API_KEY
  models:
    - id: smart
      targets: [anthropic/claude-sonnet-5-5]
```

`ci/` has values of larger installations. Values that do not fit together are refused by
`helm install`, `upgrade` and `template`, with a sentence for each.

## Values

`make chart` writes this page and `values.schema.json` from `values.yaml`.
"""


def readme(values: list[Value]) -> str:
    """The text of the page."""
    parts = [_TOP]
    for section, found in groupby(values, key=lambda value: value.section):
        parts.append(f"\n### {section}\n\n| value | default | what it is |\n|---|---|---|\n")
        parts += [_row(value) for value in found if value.description]
    return "".join(parts)


def _row(value: Value) -> str:
    default = json.dumps(value.default, separators=(", ", ": "))
    shown = f"`{default}`" if value.leaf else ""
    return f"| `{value.name}` | {shown} | {value.description} |\n".replace("||", "\\|\\|")
