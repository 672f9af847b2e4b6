"""From the types of the installed SDKs to validators that name what is wrong.

Theory of operation. pydantic writes the JSON Schema of a type. Unions are the difficulty: with
`anyOf` over thirty events, a validator tries all and then can only say that none fits. So a union
is rewritten: each branch gets a signature, the JSON types it takes and the constants that tell it
from the others (`type`, `role`, `object`), and a value is held against the branches whose
signature it bears. That is nearly always one, whose complaint is then the complaint.

JSON Schema counts 1.0 among the integers. Clients in typed languages do not, nor does this.
"""

from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator, TypeChecker
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend
from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from .rules import Rule

_TAGS = ("type", "role", "object", "stream")
_UNION = "x-union"
_OPEN = {"title", "description", "default", "examples", "deprecated"}


class _Generate(GenerateJsonSchema):
    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Rule:
        return {}  # uploads (IO[bytes], paths): no JSON has them


def schema_of(kind: Any, *, closed: bool = False) -> Rule:
    """The JSON Schema of a type of an SDK.

    closed: TypedDicts take no keys that they do not name. `kind` must then be a union, as the
    types of requests are: pydantic takes settings from outside only for what has none itself.
    """
    if not closed:
        return TypeAdapter(kind).json_schema(schema_generator=_Generate)
    config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")
    return TypeAdapter(kind, config=config).json_schema(schema_generator=_Generate)


class Checker:
    """Holds values against one schema."""

    def __init__(self, schema: Rule) -> None:
        self._defs: dict[str, Rule] = {}
        for name, rule in schema.get("$defs", {}).items():
            self._defs[f"#/$defs/{name}"] = rule
        prepared = self._prepared({k: v for k, v in schema.items() if k != "$defs"})
        self._ready = {ref: self._prepared(rule) for ref, rule in self._defs.items()}
        strict = extend(
            Draft202012Validator,
            validators={"$ref": self._reference, _UNION: _union},
            type_checker=_integers_without_point(Draft202012Validator.TYPE_CHECKER),
        )
        self._validator = strict(prepared)

    def refuse(self, at: str, value: Any) -> None:
        """Raises AssertionError with the path into `value`, which stands at `at`."""
        if self._validator.is_valid(value):
            return
        error = best_match(self._validator.iter_errors(value))
        message = error.message if len(error.message) < 400 else f"{error.message[:400]} ..."
        for cause in list(error.context)[:3]:
            message += f"; {cause.json_path}: {cause.message:.200}"
        raise AssertionError(f"{at}{error.json_path[1:]}: {message}")

    def _reference(
        self, validator: Any, ref: str, instance: Any, schema: Rule
    ) -> Iterator[ValidationError]:
        yield from validator.descend(instance, self._ready[ref])

    def _prepared(self, schema: Any) -> Any:
        """`schema` with its unions signed. Prose is dropped; names of properties never are."""
        if not isinstance(schema, dict):
            return schema
        result: Rule = {}
        for key, value in schema.items():
            if key in _OPEN:
                continue
            if key == "properties":
                result[key] = {name: self._prepared(rule) for name, rule in value.items()}
            elif key in ("anyOf", "oneOf"):
                result[_UNION] = [(self._signature(rule), self._prepared(rule)) for rule in value]
            elif key in ("allOf", "prefixItems"):
                result[key] = [self._prepared(rule) for rule in value]
            elif isinstance(value, dict) and key not in ("const", "discriminator"):
                result[key] = self._prepared(value)
            elif key != "discriminator":
                result[key] = value
        return result

    def _signature(self, schema: Rule) -> "_Signature":
        while "$ref" in schema:
            schema = self._defs[schema["$ref"]]
        tags = {}
        for key in _TAGS:
            values = _constants(schema.get("properties", {}).get(key, {}))
            if values is not None:
                tags[key] = (values, key in schema.get("required", ()))
        return _Signature(schema.get("type"), tags)


class _Signature:
    """What tells one branch of a union from the others."""

    def __init__(self, kind: Any, tags: dict[str, tuple[frozenset[Any], bool]]) -> None:
        self.kind = kind
        self.tags = tags

    def borne_by(self, instance: Any, validator: Any) -> bool:
        if isinstance(self.kind, str) and not validator.is_type(instance, self.kind):
            return False
        if not isinstance(instance, dict):
            return True
        for key, (values, required) in self.tags.items():
            if key not in instance:
                if required:
                    return False
            elif isinstance(instance[key], (dict, list)) or instance[key] not in values:
                return False
        return True

    def __str__(self) -> str:
        tags = [f"{k} {'|'.join(sorted(map(str, v)))}" for k, (v, _) in self.tags.items()]
        return ", ".join(tags) or str(self.kind or "anything")


def _constants(rule: Rule) -> frozenset[Any] | None:
    """The only values that `rule` takes, if they can be listed."""
    if "const" in rule:
        return frozenset([rule["const"]])
    if "enum" in rule:
        return frozenset(rule["enum"])
    if rule.get("type") == "null":
        return frozenset([None])
    if "anyOf" in rule:
        found = [_constants(branch) for branch in rule["anyOf"]]
        if None not in found:
            return frozenset().union(*(values for values in found if values is not None))
    return None


def _union(
    validator: Any, branches: list[tuple[_Signature, Rule]], instance: Any, schema: Rule
) -> Iterator[ValidationError]:
    fitting = [rule for signature, rule in branches if signature.borne_by(instance, validator)]
    if len(fitting) == 1:
        yield from validator.descend(instance, fitting[0])
        return
    if not fitting:
        known = " / ".join(str(signature) for signature, _ in branches)
        yield ValidationError(f"{instance!r:.200} is none of: {known}")
        return
    causes: list[ValidationError] = []
    for rule in fitting:
        errors = list(validator.descend(instance, rule))
        if not errors:
            return
        causes.extend(errors)
    yield ValidationError(f"{instance!r:.200} fits no branch of the union", context=causes)


def _integers_without_point(checker: TypeChecker) -> TypeChecker:
    return checker.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
