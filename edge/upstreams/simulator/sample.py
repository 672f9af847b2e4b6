"""A value that fits a JSON Schema: arguments of tool calls, structured answers."""

import math
from collections.abc import Mapping
from typing import Any

_DEEPEST = 8
_STRINGS: Mapping[str, str] = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def sample(schema: Any) -> Any:
    """A value that fits `schema`: always the same one, with every property filled in.

    Knows const, enum, default, local $ref, anyOf, oneOf, allOf and the seven types; what is
    nested deeper than eight levels is null. Raises ValueError for what is no JSON Schema.
    """
    try:
        return _sample(schema, schema, 0)
    except (AttributeError, TypeError, OverflowError, IndexError) as error:
        raise ValueError(f"not a JSON Schema: {error}") from None


def _sample(schema: Any, root: Any, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "default" in schema:
        return schema["default"]
    if isinstance(schema.get("$ref"), str):
        return _sample(_resolve(root, schema["$ref"]), root, depth + 1)
    for several in ("anyOf", "oneOf"):
        for choice in schema.get(several) or ():
            if isinstance(choice, Mapping) and choice.get("type") != "null":
                return _sample(choice, root, depth + 1)
    if schema.get("allOf"):
        parts = [_sample(part, root, depth + 1) for part in schema["allOf"]]
        return {key: v for part in parts if isinstance(part, dict) for key, v in part.items()}
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), None)
    if kind is None and "properties" in schema:
        kind = "object"
    return _of_type(kind, schema, root, depth)


def _of_type(kind: Any, schema: Mapping[str, Any], root: Any, depth: int) -> Any:
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: _sample(part, root, depth + 1) for name, part in properties.items()}
    if kind == "array":
        length = max(1, int(schema.get("minItems") or 1))
        return [_sample(schema.get("items", {}), root, depth + 1) for _ in range(min(length, 16))]
    if kind == "string":
        text = _STRINGS.get(schema.get("format", ""), "sample")
        return text.ljust(min(int(schema.get("minLength") or 0), 1000), "x")
    if kind == "integer":
        return math.ceil(_number(schema, 1))
    if kind == "number":
        return _number(schema, 1.5)
    return True if kind == "boolean" else None


def _number(schema: Mapping[str, Any], usual: float) -> float:
    """The usual number, or the one nearest to it that lies within the bounds."""

    def bound(name: str, none: float) -> float:
        given = schema.get(name)
        return none if given is None or isinstance(given, bool) else float(given)

    value = min(usual, bound("maximum", math.inf), bound("exclusiveMaximum", math.inf) - 1)
    return max(value, bound("minimum", -math.inf), bound("exclusiveMinimum", -math.inf) + 1)


def _resolve(root: Any, ref: str) -> Any:
    if not ref.startswith("#"):
        return None
    found = root
    for name in filter(None, ref[1:].split("/")):
        if not isinstance(found, Mapping):
            return None
        found = found.get(name.replace("~1", "/").replace("~0", "~"))
    return found
