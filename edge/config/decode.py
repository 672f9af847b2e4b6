"""Decode plain data into structs strictly, with every fault and its path at once.

`msgspec.convert` stops at the first fault and names no near key; a person who edits a file wants
the whole list. So tables, lists and maps are decoded here, along `edge.config.fields`, and only
single values are left to msgspec or to the parser of their type.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final, TypeVar

import msgspec

from .fields import Field, FieldKind, fields_of
from .secrets import HttpUrl, Location, PasswordHash, Secret

S = TypeVar("S", bound=msgspec.Struct)
Parsers = Mapping[Any, Callable[[object], object]]
"""Type → parser of one value; raises ValueError with what it expected."""

_FAULTY: Final = object()
_FEW = 8
"""Choices of which all are named, even where one is near to what was found."""
_SILENT = (Secret, PasswordHash, Location, HttpUrl)
"""Types whose written form may hold a credential: messages do not repeat the value."""


class ConfigDecoder:
    """One pass over one document. `faults` grows; a struct with a fault in it is left out."""

    def __init__(self, parsers: Parsers) -> None:
        self._parsers = parsers
        self.faults: list[str] = []

    def decode(self, table: type[S], value: object, path: str = "") -> S | None:
        """`value` as a `table`, or None when faults were found and noted."""
        result = self._table(table, value, path)
        return result if isinstance(result, table) else None

    def _fault(self, path: str, message: str) -> object:
        self.faults.append(f"{path}: {message}" if path else message)
        return _FAULTY

    def _decode(self, kind: FieldKind, value: object, path: str) -> object:
        match kind.form:
            case "table":
                return self._table(kind.bare, value, path)
            case "list":
                return self._list(kind, value, path)
            case "map":
                return self._map(kind, value, path)
            case "value" if parse := self._parsers.get(kind.bare):
                try:
                    return parse(value)
                except ValueError as error:
                    found = "" if kind.bare in _SILENT else _found(value)
                    return self._fault(path, f"{error}{found}")
        try:
            found = msgspec.convert(value, kind.declared)
            if isinstance(value, str) and value.endswith("\n") and _pattern(kind):
                # `$` of a pattern matches in front of it; and schemas know no other end of a text.
                raise msgspec.ValidationError("Expected no line break at the end")
            return found
        except msgspec.ValidationError as error:
            return self._fault(path, f"{_expected(error, kind, value)}{_found(value)}")

    def _table(self, table: type[msgspec.Struct], value: object, path: str) -> object:
        if not isinstance(value, Mapping):
            return self._fault(path, f"expected a table{_found(value)}")
        before = len(self.faults)
        fields = fields_of(table)
        for key in value:
            if key not in fields:
                self._fault(_join(path, key), _unknown(str(key), fields))
        given: dict[str, object] = {}
        for name, field in fields.items():
            if name in value:
                given[name] = self._decode(field.kind, value[name], _join(path, name))
            elif field.required:
                self._fault(_join(path, name), "is missing")
        return table(**given) if len(self.faults) == before else _FAULTY

    def _list(self, kind: FieldKind, value: object, path: str) -> object:
        if not isinstance(value, list | tuple):
            return self._fault(path, f"expected a list{_found(value)}")
        if not value and any(meta.min_length for meta in kind.metas):
            return self._fault(path, "expected at least one entry, found none")
        assert kind.inner is not None
        return tuple(self._decode(kind.inner, one, f"{path}[{n}]") for n, one in enumerate(value))

    def _map(self, kind: FieldKind, value: object, path: str) -> object:
        assert kind.inner is not None
        if not isinstance(value, Mapping):
            found = "" if kind.inner.bare in _SILENT else _found(value)
            return self._fault(path, f"expected a table{found}")
        return {
            str(key): self._decode(kind.inner, one, _join(path, key)) for key, one in value.items()
        }


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _unknown(key: str, known: Mapping[str, Field]) -> str:
    for name, field in known.items():
        if field.renamed_from == key:
            return f'this setting is called "{name}"'
    near = get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"unknown key; {hint}"


def _expected(error: msgspec.ValidationError, kind: FieldKind, value: object) -> str:
    """What was expected, from msgspec's message, without what was found."""
    if kind.choices:
        if isinstance(value, str) and len(kind.choices) > _FEW:
            near = get_close_matches(value, kind.choices, n=1, cutoff=0.5)
            if near:
                return f'did you mean "{near[0]}"?'
        return "expected one of " + ", ".join(f'"{choice}"' for choice in kind.choices)
    if ("matching regex" in str(error) or "line break" in str(error)) and (
        form := kind.note("expected")
    ):
        return f"expected {form}"
    text = str(error).partition(", got ")[0].replace("`", "").replace(" | null", "")
    names = {"Expected int": "expected a whole number", "Expected str": "expected a text"}
    for theirs, ours in {**names, "Expected bool": "expected true or false"}.items():
        text = text.replace(theirs, ours)
    return text


def _pattern(kind: FieldKind) -> bool:
    return any(meta.pattern for meta in kind.metas)


def _found(value: object) -> str:
    if isinstance(value, Mapping):
        return ", found a table"
    if isinstance(value, list | tuple):
        return ", found a list"
    text = msgspec.json.encode(value, enc_hook=str).decode()
    return f", found {text if len(text) <= 60 else text[:57] + '...'}"
