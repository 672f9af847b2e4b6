"""JSON Schema of a configuration file, made from the structs that decode it.

`penstock schema` prints it; `config/schema.json` is that output, for editors. Faults that a schema
cannot express (names that must exist, keys that need each other) are found by `penstock check`.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from .fields import FieldKind, fields_of
from .model import Configuration
from .secrets import HttpUrl, Location, PasswordHash, Secret
from .units import (
    NETWORK_SCHEMA,
    Credits,
    Duration,
    Network,
    RateSetting,
    Schema,
    Size,
    Span,
    plain,
)

_VALUES: Final[dict[Any, Schema]] = {
    **{
        one: one.schema
        for one in (
            *(Duration, Size, RateSetting, Credits, Span),
            *(Secret, PasswordHash, Location, HttpUrl),
        )
    },
    Network: NETWORK_SCHEMA,
    Path: {"type": "string", "minLength": 1},
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
}
_LIMITS: Final = {
    "ge": "minimum",
    "le": "maximum",
    "pattern": "pattern",
    "description": "description",
}


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a configuration file."""
    tables: dict[str, Any] = {}
    top = _table(Configuration, tables)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Penstock configuration",
        **top,
        "$defs": dict(sorted(tables.items())),
    }


def text() -> str:
    """The schema as the text of `config/schema.json`."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n"


def _table(table: type[msgspec.Struct], tables: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in fields_of(table).values():
        one = _of(field.kind, tables)
        if field.required:
            required.append(field.name)
        elif field.kind.form != "table" and field.default not in (None, msgspec.NODEFAULT):
            one["default"] = plain(field.default)
        properties[field.name] = one
    described = {
        "type": "object",
        "description": (table.__doc__ or "").strip(),
        "properties": properties,
        "additionalProperties": False,
    }
    return {**described, "required": required} if required else described


def _of(kind: FieldKind, tables: dict[str, Any]) -> dict[str, Any]:
    """The schema of one kind; tables go to `tables` and are referred to."""
    base: dict[str, Any] = {}
    match kind.form:
        case "table":
            name = kind.bare.__name__.removesuffix("Config")
            if name not in tables:
                tables[name] = {}
                tables[name] = _table(kind.bare, tables)
            base = {"$ref": f"#/$defs/{name}"}
        case "choice":
            base = {"enum": list(kind.choices)}
        case "list" if kind.inner is not None:
            base = {"type": "array", "items": _of(kind.inner, tables)}
        case "map" if kind.inner is not None:
            base = {"type": "object", "additionalProperties": _of(kind.inner, tables)}
        case _ if kind.bare is not Any:
            base = dict(_VALUES[kind.bare])
    return _limited(base, kind.metas)


def _limited(base: dict[str, Any], metas: tuple[Any, ...]) -> dict[str, Any]:
    array = base.get("type") == "array"
    for meta in metas:
        for ours, theirs in _LIMITS.items():
            if (value := getattr(meta, ours)) is not None:
                base[theirs] = value
        for ours, word in (("min_length", "min"), ("max_length", "max")):
            if (value := getattr(meta, ours)) is not None:
                base[f"{word}{'Items' if array else 'Length'}"] = value
    return base
