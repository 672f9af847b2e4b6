"""The JSON Schema of a configuration file, made from the structs that read it.

`penstock schema` prints it; `config/schema.json` is that output, for editors. What a schema cannot
say (names that must exist, keys that need each other) only `penstock check` says.
"""

from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

from .options import Configuration
from .references import HttpUrl, Location, Secret
from .units import (
    NETWORK_SCHEMA,
    Credits,
    Duration,
    Network,
    Rate,
    Schema,
    Size,
    Span,
    plain,
)

_UNITS: Final[dict[Any, Schema]] = {
    **{one: one.schema for one in (Duration, Size, Rate, Credits, Span, Secret, Location, HttpUrl)},
    Network: NETWORK_SCHEMA,
    Path: {"type": "string", "minLength": 1},
}
_PLAIN: Final[dict[Any, str]] = {str: "string", int: "integer", bool: "boolean"}
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


def _table(kind: type[msgspec.Struct], tables: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in msgspec.structs.fields(kind):
        one = _of(field.type, tables)
        if field.required:
            required.append(field.name)
        elif not _is_table(field.type) and field.default not in (None, msgspec.NODEFAULT):
            one["default"] = plain(field.default)
        properties[field.name] = one
    table = {
        "type": "object",
        "description": (kind.__doc__ or "").strip(),
        "properties": properties,
        "additionalProperties": False,
    }
    return {**table, "required": required} if required else table


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _of(kind: Any, tables: dict[str, Any]) -> dict[str, Any]:
    if kind in _UNITS:
        return dict(_UNITS[kind])
    if kind is Any:
        return {}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if _is_table(kind):
        if kind.__name__ not in tables:
            tables[kind.__name__] = {}
            tables[kind.__name__] = _table(kind, tables)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _limited(_of(inner[0], tables), inner[1:])
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple:
        return {"type": "array", "items": _of(inner[0], tables)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(inner[1], tables)}
    if origin in (Union, UnionType):
        (member,) = (member for member in inner if member is not NoneType)
        return _of(member, tables)
    raise TypeError(f"no schema for {kind!r}")


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
