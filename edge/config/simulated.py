"""A configuration without its providers' keys: upstreams replaced by simulators and local models.

An upstream is replaced when a variable of one of its secrets is not set, or when it is the Claude
command-line client. Models keep their names, prices and limits. A model that has a real target left
is served by that one only.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

import msgspec

_DESCRIBED = ("image", "video", "document")
"""Settings of `media` that name a model which is shown pictures."""
_LOCAL_OUTPUT = 512
"""Output tokens of a request without a bound: a small model may never end."""
_SEEING = "sim-eye"
"""A model of the simulator that says which media it sees."""


class LocalModels(msgspec.Struct, frozen=True):
    """Models on this machine: upstreams to add, and the targets that they serve.

    text: by the dialect in which the model is asked. The others are "" where there is none.
    """

    upstreams: tuple[dict[str, Any], ...] = ()
    text: Mapping[str, str] = {}
    speech: str = ""
    transcript: str = ""
    reader: str = ""


class Simulated(msgspec.Struct, frozen=True):
    """A document and what serves it.

    real: names of upstreams that were left. missing: of each replaced one the variables that would
    make it real; none of the Claude client. local: those of which this machine serves a model.
    simulated: those of which a simulator serves one.
    """

    document: dict[str, Any]
    real: tuple[str, ...]
    missing: Mapping[str, tuple[str, ...]]
    local: frozenset[str]
    simulated: frozenset[str]


def variables(value: object) -> Iterator[str]:
    """The names in the `env:NAME` of a part of a document."""
    if isinstance(value, Mapping):
        value = value.values()
    elif isinstance(value, str):
        if value.startswith("env:"):
            yield value.removeprefix("env:")
        return
    if isinstance(value, Iterable):
        for one in value:
            yield from variables(one)


def simulated(
    document: Mapping[str, Any], env: Mapping[str, str], local: LocalModels | None = None
) -> Simulated:
    """A valid document, with what `env` has no keys for replaced. It is not changed itself."""
    local = local or LocalModels()
    missing: dict[str, tuple[str, ...]] = {}
    upstreams: list[dict[str, Any]] = []
    for upstream in document["upstreams"]:
        unset = tuple(dict.fromkeys(name for name in variables(upstream) if not env.get(name)))
        if unset or upstream["dialect"] == "claude-cli":
            missing[upstream["name"]] = unset
            upstreams.append({"name": upstream["name"], "dialect": "simulator", **_jobs(upstream)})
        else:
            upstreams.append(upstream)
    replaced = [one for one in document["upstreams"] if one["name"] in missing]
    servers = _Servers(replaced, document.get("media", {}), local)
    models = [servers.serve(model) for model in document["models"]]
    result = {**document, "upstreams": [*upstreams, *local.upstreams], "models": models}
    if servers.lost_sight and "image" not in result.get("media", {}):
        models.append(
            {
                "id": "local-ocr",
                "internal": True,
                "modalities": ["text", "image"],
                "targets": [local.reader],
            }
        )
        result["media"] = {**result.get("media", {}), "image": "local-ocr"}
    real = tuple(one["name"] for one in document["upstreams"] if one["name"] not in missing)
    own = frozenset(str(one["name"]) for one in local.upstreams)
    return Simulated(result, real, missing, servers.serving(own), servers.serving(missing.keys()))


class _Servers:
    """What serves models whose upstreams are replaced.

    lost_sight: whether one of them took pictures, and has a local model now that takes text only.
    """

    def __init__(
        self, replaced: list[dict[str, Any]], media: Mapping[str, Any], local: LocalModels
    ) -> None:
        self._replaced = {one["name"]: one for one in replaced}
        self._seeing = {media[name] for name in _DESCRIBED if name in media}
        self._local = local
        self._pairs: set[tuple[str, str]] = set()
        self.lost_sight = False

    def serving(self, names: Set[str]) -> frozenset[str]:
        """The replaced upstreams of which one of these serves a model."""
        return frozenset(old for old, new in self._pairs if new in names)

    def serve(self, model: dict[str, Any]) -> dict[str, Any]:
        """The entry of a model with targets that can answer."""
        targets: list[str] = model["targets"]
        real = [n for n, target in enumerate(targets) if _name(target) not in self._replaced]
        if len(real) == len(targets):
            return model
        if real:
            lists = {name: [model[name][n] for n in real] for name in _LISTS if name in model}
            return {**model, **lists}
        served = [self._target(model, target) for target in targets]
        self._pairs |= {(_name(old), _name(new)) for old, new in zip(targets, served, strict=True)}
        if "jobs" in model:
            model = {name: value for name, value in model.items() if name != "jobs"} | _jobs(model)
        if served == targets:
            return model
        kept = {name: value for name, value in model.items() if name not in _VENDORS}
        kept["targets"] = list(dict.fromkeys(served))
        if _is_text(model) and set(kept["targets"]) <= set(self._local.text.values()):
            kept |= {"modalities": ["text"], "max_output": _LOCAL_OUTPUT}
            if "image" in model.get("modalities", ()) and self._local.reader:
                self.lost_sight = True
        return kept

    def _target(self, model: dict[str, Any], target: str) -> str:
        upstream = self._replaced[_name(target)]
        local, takes = self._local, model.get("modalities", ["text"])
        makes = model.get("output_modalities", ["text"])
        jobs = "jobs" in upstream or "jobs" in model
        if model["id"] in self._seeing:
            return local.reader or f"{_name(target)}/{_SEEING}"
        if makes == ["audio"] and not jobs:
            return local.speech or target
        if makes == ["text"] and takes == ["audio"]:
            return local.transcript or target
        if _is_text(model):
            dialect = upstream["dialect"]
            return local.text.get("anthropic" if dialect == "claude-cli" else dialect, target)
        return target


_JOBS = {"suno": "elevenlabs"} | {name: name for name in ("openai-videos", "elevenlabs", "minimax")}
"""Vendors of jobs as the simulator plays them. Others answer with links to themselves, at which a
simulator in this process cannot be asked: the default takes their films."""
_LISTS = ("targets", "families", "weights")
"""Settings of a model with an entry for each target."""
_VENDORS = ("family", "families", "weights", "load_balancing")
"""Settings of a model about the vendor's models."""


def _jobs(table: Mapping[str, Any]) -> dict[str, Any]:
    vendor = _JOBS.get(table.get("jobs", ""))
    return {} if vendor is None else {"jobs": vendor}


def _name(target: str) -> str:
    return target.partition("/")[0]


def _is_text(model: Mapping[str, Any]) -> bool:
    """Whether a model that takes text only can stand in: pictures can be read to it."""
    takes = set(model.get("modalities", ["text"]))
    return model.get("output_modalities", ["text"]) == ["text"] and (
        "text" in takes and takes <= {"text", "image", "file"}
    )
