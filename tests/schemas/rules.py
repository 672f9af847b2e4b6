"""Words for writing rules: small JSON Schemas for what the SDK types leave open.

A rule adds to a generated schema, so it says only what that one does not. Objects stay open: keys
that no rule names are left to the SDK type.
"""

from collections.abc import Mapping
from typing import Any

Rule = dict[str, Any]

STRING: Rule = {"type": "string"}
NAME: Rule = {"type": "string", "minLength": 1}
NULL: Rule = {"type": "null"}
BOOLEAN: Rule = {"type": "boolean"}
NUMBER: Rule = {"type": "number"}
COUNT: Rule = {"type": "integer", "minimum": 0}
OBJECT: Rule = {"type": "object"}
ANYTHING: Rule = {}
INSTANT: Rule = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$",
}
"""A time as RFC 3339 writes it."""


def record(required: Mapping[str, Rule], optional: Mapping[str, Rule] | None = None) -> Rule:
    """An object with all of `required`; those of `optional` are checked where they are present."""
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **(optional or {})},
    }


def nullable(rule: Rule) -> Rule:
    """`rule`, or an explicit null."""
    return {"anyOf": [rule, NULL]}


def several(rule: Rule, *, least: int = 0, most: int | None = None) -> Rule:
    """An array of `rule`."""
    bound = {} if most is None else {"maxItems": most}
    return {"type": "array", "items": rule, "minItems": least, **bound}


def among(*values: str | bool | None) -> Rule:
    """One of these values."""
    return {"enum": list(values)}


def starting(prefix: str) -> Rule:
    """A string that begins with `prefix` and goes on."""
    return {"type": "string", "pattern": f"^{prefix}."}


def by(key: str, rules: Mapping[str, Rule]) -> Rule:
    """The rule for the object's kind, which its `key` tells. Kinds without a rule pass."""
    return {
        "type": "object",
        "required": [key],
        "properties": {key: STRING},
        "allOf": [
            {"if": {"properties": {key: {"const": value}}}, "then": rule}
            for value, rule in rules.items()
        ],
    }
