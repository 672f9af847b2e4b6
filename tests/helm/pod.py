"""A container of the chart on this machine: its mounts as folders, its variables, its arguments."""

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.e2e.config_map import ConfigMapVolume
from tests.helm.chart import Document, Rendered

_REFERENCE = re.compile(r"\$\((\w+)\)")


class LocalContainer:
    """One container of a rendered pod, below `folder`.

    Where a path of a mount stands in a file or variable, it is the one below `folder`.
    existing: content of the operator's own Secrets; a ConfigMap of the operator is empty.
    """

    def __init__(
        self,
        found: Rendered,
        pod: Document,
        container: Document,
        folder: Path,
        existing: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._found = found
        self._existing = existing or {}
        self._mounts = {
            one["mountPath"]: folder / one["mountPath"].strip("/")
            for one in container["volumeMounts"]
        }
        self.folder = folder
        self.arguments: list[str] = container["args"]
        self.volumes: dict[str, ConfigMapVolume] = {}
        kinds = {one["name"]: one for one in pod["volumes"]}
        for mount in container["volumeMounts"]:
            path = self._mounts[mount["mountPath"]]
            path.mkdir(parents=True, exist_ok=True)
            files = self._files(kinds.get(mount["name"], {}))
            if files is not None:
                self.volumes[mount["name"]] = ConfigMapVolume(path, self.here(files))
        self.env = {
            **dict(self._variables(container)),
            "TMPDIR": str(self._mounts["/tmp"]),  # what TMPDIR is in a pod by itself
        }

    def here(self, files: Mapping[str, str]) -> dict[str, str]:
        """Texts with the paths of this machine."""
        paths = "|".join(sorted(map(re.escape, self._mounts), key=len, reverse=True))
        return {
            name: re.sub(rf"(?:{paths})(?=/)", lambda match: str(self._mounts[match[0]]), text)
            for name, text in files.items()
        }

    def _files(self, volume: Document) -> Mapping[str, str] | None:
        if "configMap" in volume:
            name = volume["configMap"]["name"]
            known = {one["metadata"]["name"]: one for one in self._found.kinds("ConfigMap")}
            data: Mapping[str, str] = known[name]["data"] if name in known else {}
            return data
        return self._secret(volume["secret"]["secretName"]) if "secret" in volume else None

    def _secret(self, name: str) -> Mapping[str, str]:
        if name in self._existing:
            return self._existing[name]
        data = self._found.one("Secret", name)["data"]
        return {key: b64decode(value).decode() for key, value in data.items()}

    def _variables(self, container: Document) -> Iterator[tuple[str, str]]:
        """Later ones win, and refer to earlier ones by `$(NAME)`, as the kubelet has it."""
        known: dict[str, str] = {}
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                known.update(self._secret(source["secretRef"]["name"]))
        for one in container["env"]:
            if "value" in one:
                text = _REFERENCE.sub(lambda match: known[match[1]], one["value"])
                known[one["name"]] = self.here({"": text})[""]
            elif reference := one["valueFrom"].get("secretKeyRef"):
                known[one["name"]] = self._secret(reference["name"])[reference["key"]]
            else:
                known[one["name"]] = "penstock-0"  # a field of the pod
        yield from known.items()
