"""JSON Schemas reduced to the subsets that vendors accept, for tools and structured answers.

Nothing here changes its input, and a schema always gives the same result: any difference would
invalidate a prompt cache. Sources: Anthropic, "Structured outputs" (JSON Schema limitations) and
"Define tools"; OpenAI, "Structured model outputs" (supported schemas); JSON Schema 2020-12.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from middlewares.problem import Problem

Schema = dict[str, Any]

_encode = msgspec.json.Encoder().encode

_INDEX = re.compile(r"[0-9]{1,9}")
_DEFINITIONS = ("$defs", "definitions")
_BRANCHES = ("oneOf", "anyOf", "allOf")
_DATA = ("const", "default", "enum", "examples")
"""Keywords that hold plain values, not schemas."""

MOST_NODES = 10_000
"""The most schemas after expansion: each reference, its replacement, and each member that `allOf`
merges. Keywords that become text of a description do not count."""
MOST_EXPANDED = 2 << 20
"""The most bytes that the references of one schema may expand to."""
MOST_WALKED = 40_000
"""The most objects searched for references; shared ones count each time."""


class SchemaTooLarge(Exception):
    """A schema expands beyond a limit; the message is half a sentence about what was expected."""


def input_schema(schema: Schema | None) -> tuple[Schema, bool]:
    """The parameters of a tool in a form that every vendor accepts; and whether they were wrapped.

    All require an object at the top. Any other schema, or a choice between several, is wrapped in
    `{"value": ...}`. Raises Problem for a schema nested too deep.
    """
    if not schema:
        return {"type": "object", "properties": {}}, False
    kinds = schema.get("type")
    properties = schema.get("properties")
    if "$ref" in schema or any(branch in schema for branch in _BRANCHES):
        return _wrapped(schema), True
    if isinstance(kinds, str | list) and "object" not in kinds and properties is None:
        return _wrapped(schema), True
    if kinds == "object" and isinstance(properties, dict):
        return schema, False
    properties = properties if isinstance(properties, dict) else {}
    return {**schema, "type": "object", "properties": properties}, False


def _wrapped(schema: Schema) -> Schema:
    """`schema` as the required member `value` of an object; definitions stay at the top."""
    inner = {name: value for name, value in schema.items() if name not in _DEFINITIONS}
    try:
        out: Schema = {
            "type": "object",
            "properties": {"value": _moved(inner)},
            "required": ["value"],
        }
        for name in _DEFINITIONS:
            if name in schema:
                out[name] = _moved(schema[name])
    except RecursionError:
        raise _too_deep() from None
    return out


def _too_deep() -> Problem:
    return Problem("invalid_request", message="A JSON Schema of this request is nested too deep.")


def _moved(node: Any) -> Any:
    """`node` with its references updated to the wrapped schema; definitions stay."""
    if isinstance(node, list):
        return [_moved(each) for each in node]
    if not isinstance(node, dict):
        return node
    out = {name: v if name in _DATA else _moved(v) for name, v in node.items()}
    ref = out.get("$ref")
    if isinstance(ref, str) and ref.startswith("#") and _defined(ref) is None:
        out["$ref"] = "#/properties/value" + ref[1:]
    return out


def _defined(ref: str) -> str | None:
    """The definition's name in a reference, still escaped; None for any other reference."""
    for holder in _DEFINITIONS:
        head = f"#/{holder}/"
        if ref.startswith(head) and "/" not in ref[len(head) :]:
            return ref[len(head) :]
    return None


# OpenAI's strict subset --------------------------------------------------------------------------

_STRICT = frozenset(
    (
        *("$schema", "$ref", "$defs", "definitions", "title", "description"),
        *("type", "enum", "const", "anyOf", "pattern", "format"),
        *("properties", "required", "additionalProperties", "items", "minItems", "maxItems"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    )
)
_STRICT_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
)


def is_strict(schema: Schema) -> bool:
    """Whether OpenAI accepts `schema` with `strict: true`.

    Each object names all its properties as required and allows no others, the top is an object,
    and only keywords of the subset occur. In doubt it is not: a refusal costs more than strictness.
    """
    try:
        return schema.get("type") == "object" and _strict(schema)
    except RecursionError:
        return False


def _strict(node: Any) -> bool:
    if not isinstance(node, dict) or not node.keys() <= _STRICT:
        return False
    if "$ref" in node:
        return node.keys() <= {"$ref", "$defs", "definitions"}
    if not node.keys() & {"type", "anyOf", "enum", "const"}:
        return False
    kinds = node.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "object" in kinds or "properties" in node:
        properties, required = node.get("properties"), node.get("required")
        if not isinstance(properties, dict) or not isinstance(required, list):
            return False
        if node.get("additionalProperties") is not False or len(required) != len(properties):
            return False
        if not _are_in(properties, required):
            return False
    if "array" in kinds and not isinstance(node.get("items"), dict):
        return False
    if "format" in node and node["format"] not in _STRICT_FORMATS:
        return False
    return all(map(_strict, _children(node)))


def _are_in(names: Iterable[str], required: list[Any]) -> bool:
    return {name for name in required if isinstance(name, str)}.issuperset(names)


def _children(node: Schema) -> list[Any]:
    """The schemas inside a schema of the strict subset."""
    out: list[Any] = []
    for holder in ("properties", *_DEFINITIONS):
        inner = node.get(holder)
        if inner is not None:
            out += inner.values() if isinstance(inner, dict) else [None]
    if "anyOf" in node:
        out += node["anyOf"] if isinstance(node["anyOf"], list) else [None]
    if "items" in node:
        out.append(node["items"])
    return out


# Anthropic's structured answers ------------------------------------------------------------------

_KEPT = ("type", "title", "description", "enum", "const", "default")
_FORMATS = _STRICT_FORMATS | {"uri"}
_SILENT = frozenset(
    (
        *("$schema", "$id", "$anchor", "$comment", "$vocabulary", "examples"),
        *("deprecated", "readOnly", "writeOnly", "additionalProperties", "strict"),
    )
)
"""Keywords about the schema, not the value; and `additionalProperties`, which is always false."""


def for_anthropic(schema: Schema) -> tuple[Schema, bool]:
    """A schema of a structured answer in Claude's subset; and whether it was wrapped.

    Limits that the vendor cannot enforce are stated in the description. A schema that is no object
    at the top is wrapped in `{"value": ...}`.

    Raises ValueError, with what was expected, for references that recurse or lead out of the
    schema. Raises SchemaTooLarge for one that is, or expands to, more
    than `MOST_NODES`, `MOST_WALKED` or `MOST_EXPANDED`, and Problem for one nested too deep.
    """
    try:
        return _Cleaner(schema).result()
    except RecursionError:
        raise _too_deep() from None


def is_for_anthropic(schema: Schema) -> bool:
    """Whether `schema` already is in Anthropic's subset.

    Nothing is expanded to find out: a schema that needs expansion is not in it.
    """
    try:
        return _Cleaner(schema, expanding=False).result() == (schema, False)
    except ValueError:
        return False
    except RecursionError:
        raise _too_deep() from None


class _Cleaner:
    """Reduces one schema to Anthropic's subset.

    References to definitions stay, since the vendor knows them; any other is replaced by its
    target. The same part may be referred to many times, also from within such parts: the expansion
    is counted and limited.

    expanding: False to raise ValueError instead of replacing, or merging, anything. The result is
    then no larger than the schema, and has no bound.
    """

    def __init__(self, schema: Schema, *, expanding: bool = True) -> None:
        self._root = schema
        self._expanding = expanding
        self._open: dict[str, None] = {}
        self._nodes = 0
        self._walked = 0
        self._expanded = 0
        self._sizes: dict[str, int] = {}

    def result(self) -> tuple[Schema, bool]:
        self._refuse_recursion()
        top = self._resolved({k: v for k, v in self._root.items() if k not in _DEFINITIONS})
        if not top:
            top = {"type": "object"}
        cleaned = self._node(top)
        wrapped = cleaned.get("type") != "object"
        if wrapped:
            cleaned = {
                "type": "object",
                "properties": {"value": cleaned},
                "required": ["value"],
                "additionalProperties": False,
            }
        for holder in _DEFINITIONS:
            inner = self._root.get(holder)
            if isinstance(inner, dict) and inner:
                cleaned[holder] = {name: self._node(each) for name, each in inner.items()}
        return cleaned, wrapped

    def _count(self, more: int = 1) -> None:
        """Count `more` schemas, or names of them, in the result."""
        self._nodes += more
        if self._nodes > MOST_NODES and self._expanding:
            raise _too_many_nodes()

    def _refuse_recursion(self) -> None:
        """Follow all references once: no definition may lead to itself."""
        done: set[str] = set()

        def follow(ref: str) -> None:
            if ref in self._open:
                raise ValueError(f"expected no recursion, but `{ref}` contains itself")
            if ref in done:
                return
            self._open[ref] = None
            for inner in self._references(self._target(ref)):
                follow(inner)
            del self._open[ref]
            done.add(ref)

        for ref in self._references(self._root):
            follow(ref)

    def _references(self, node: Any) -> list[str]:
        """Every `$ref` inside `node`."""
        found: list[str] = []
        left = [node]
        while left:
            node = left.pop()
            if isinstance(node, list):
                left += reversed(node)
            elif isinstance(node, dict):
                self._walked += 1
                if self._walked > MOST_WALKED and self._expanding:
                    raise SchemaTooLarge(
                        f"a schema of at most {MOST_WALKED} objects, with all that its "
                        "references lead to"
                    )
                ref = node.get("$ref")
                if isinstance(ref, str):
                    if not self._expanding and _defined(ref) is None:
                        raise ValueError("expected nothing to expand")
                    found.append(ref)
                left += [value for name, value in node.items() if name not in _DATA]
        return found

    def _target(self, ref: str) -> Any:
        """The target of `ref` (RFC 6901, as a fragment)."""
        node: Any = self._root
        if ref != "#" and not ref.startswith("#/"):
            raise ValueError(f"expected references within the schema, not `{ref[:100]}`")
        for step in ref[2:].split("/") if len(ref) > 1 else ():
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and step in node:
                node = node[step]
            elif isinstance(node, list) and _INDEX.fullmatch(step) and int(step) < len(node):
                node = node[int(step)]
            else:
                raise ValueError(f"expected `{ref[:100]}` to refer to a part of the schema")
        return node

    def _inlined(self, ref: str) -> Any:
        """The replacement of `ref`."""
        target = self._target(ref)
        if not self._expanding:
            raise ValueError("expected nothing to expand")
        size = self._sizes.get(ref)
        if size is None:
            size = self._sizes[ref] = len(_encode(target))
        self._expanded += size
        if self._expanded > MOST_EXPANDED:
            raise SchemaTooLarge(
                f"a schema whose references expand to at most {MOST_EXPANDED} bytes"
            )
        return target

    def _resolved(self, node: Any) -> Any:
        """`node`, or the target of its reference."""
        while isinstance(node, dict) and isinstance(node.get("$ref"), str):
            self._count()
            node = self._inlined(node["$ref"])
        return node

    def _node(self, node: Any) -> Schema:
        if not isinstance(node, dict):
            return {}
        self._count()
        ref = node.get("$ref")
        if isinstance(ref, str):
            return {"$ref": ref} if _defined(ref) is not None else self._node(self._inlined(ref))
        if isinstance(node.get("allOf"), list):
            if not self._expanding:
                raise ValueError("expected nothing to merge")
            node = self._merged(node)
        out: Schema = {name: node[name] for name in _KEPT if name in node}
        unsupported: dict[str, Any] = {}
        for name, value in node.items():
            if name in out or name in _SILENT or name in _DEFINITIONS:
                continue
            if not self._inner(name, value, out):
                unsupported[name] = value
        kinds = out.get("type")
        if "properties" in out or kinds == "object" or (kinds is None and "required" in out):
            out.setdefault("type", "object")
            out.setdefault("properties", {})
        if out.get("type") == "object" or (isinstance(kinds, list) and "object" in kinds):
            out["additionalProperties"] = False
        if isinstance(node.get("additionalProperties"), dict):
            unsupported["additionalProperties"] = node["additionalProperties"]
        if unsupported:
            limits = "; ".join(
                f"{name}: {_encode(value).decode()}" for name, value in unsupported.items()
            )
            before = out.get("description")
            out["description"] = f"{before}\n\n{limits}" if before else limits
        return out

    def _inner(self, name: str, value: Any, out: Schema) -> bool:
        """Handle a keyword that holds schemas, or is kept for some values only."""
        match name, value:
            case "properties", dict():
                out["properties"] = {key: self._node(each) for key, each in value.items()}
            case "required", list():
                out["required"] = value
            case "items", dict():
                out["items"] = self._node(value)
            case (("anyOf" | "oneOf"), list()):
                out["anyOf"] = [*out.get("anyOf", ()), *map(self._node, value)]
            case "format", str() if value in _FORMATS:
                out["format"] = value
            case "minItems", 0 | 1:
                out["minItems"] = value
            case _:
                return False
        return True

    def _merged(self, node: Schema) -> Schema:
        """`node` with its `allOf` merged: closed objects cannot all match at once."""
        out = {name: value for name, value in node.items() if name != "allOf"}
        described = [out["description"]] if isinstance(out.get("description"), str) else []
        properties: dict[str, Any] | None = None
        required: dict[Any, Any] | None = None
        for part in node["allOf"]:
            self._count()
            part = self._resolved(part)
            if not isinstance(part, dict):
                continue
            if isinstance(part.get("allOf"), list):
                part = self._merged(part)
            for name, value in part.items():
                mine = out.get(name)
                if name == "properties" and isinstance(mine, dict) and isinstance(value, dict):
                    self._count(len(value))
                    if properties is None:
                        properties = out[name] = {**mine}
                    properties.update(value)
                elif name == "required" and isinstance(mine, list) and isinstance(value, list):
                    self._count(len(value))
                    if required is None:
                        required = {_key(each): each for each in mine}
                    for each in value:
                        required.setdefault(_key(each), each)
                elif name == "description" and described and isinstance(value, str):
                    described.append(value)
                elif name not in out:
                    out[name] = value
                    if name == "description" and isinstance(value, str):
                        described.append(value)
        if required is not None:
            out["required"] = list(required.values())
        if len(described) > 1:
            out["description"] = "\n\n".join(described)
        return out


def _key(value: Any) -> Any:
    """A hashable key that identifies a value."""
    return value if isinstance(value, str) else _encode(value)


def _too_many_nodes() -> SchemaTooLarge:
    return SchemaTooLarge(
        f"a schema of at most {MOST_NODES} schemas, with all that its references expand to"
    )
