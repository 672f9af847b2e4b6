"""Read plain data into structs strictly, reporting every fault with its path at once.

`msgspec.convert` stops at the first fault and names no near miss; a person who edits a file wants
the whole list. So structs, tuples and tables are walked here, and only single values are left to
msgspec or to the parser of their type.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

import msgspec

from .references import HttpUrl, Location, Secret

S = TypeVar("S", bound=msgspec.Struct)
Parsers = Mapping[Any, Callable[[object], object]]
"""Type → parser of one value; raises ValueError with what it expected."""

_FAULTY: Final = object()
_SILENT = (Secret, Location, HttpUrl)
"""Types whose written form may hold a credential: what was found is not repeated."""


class Reader:
    """One pass over one document. `faults` grows; a struct with a fault in it is left out."""

    def __init__(self, parsers: Parsers) -> None:
        self._parsers = parsers
        self.faults: list[str] = []

    def read(self, kind: type[S], value: object, path: str = "") -> S | None:
        """`value` as a `kind`, or None when faults were found and noted."""
        result = self._struct(kind, value, path)
        return result if isinstance(result, kind) else None

    def _fault(self, path: str, message: str) -> object:
        self.faults.append(f"{path}: {message}" if path else message)
        return _FAULTY

    def _value(self, kind: Any, value: object, path: str) -> object:
        bare = _bare(kind)
        if bare in self._parsers:
            try:
                return self._parsers[bare](value)
            except ValueError as error:
                found = "" if bare in _SILENT else _found(value)
                return self._fault(path, f"{error}{found}")
        origin = get_origin(bare)
        if origin is tuple:
            return self._tuple(kind, bare, value, path)
        if origin is dict:
            return self._table(get_args(bare)[1], value, path)
        if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
            return self._struct(bare, value, path)
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            return self._fault(path, f"{_sentence(error, kind)}{_found(value)}")

    def _struct(self, kind: type[msgspec.Struct], value: object, path: str) -> object:
        if not isinstance(value, Mapping):
            return self._fault(path, f"expected a table{_found(value)}")
        before = len(self.faults)
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        for key in value:
            if key not in fields:
                self._fault(_join(path, key), _unknown(str(key), fields))
        given: dict[str, object] = {}
        for name, field in fields.items():
            if name in value:
                given[name] = self._value(field.type, value[name], _join(path, name))
            elif field.required:
                self._fault(_join(path, name), "is missing")
        return kind(**given) if len(self.faults) == before else _FAULTY

    def _tuple(self, kind: Any, bare: Any, value: object, path: str) -> object:
        if not isinstance(value, list | tuple):
            return self._fault(path, f"expected a list{_found(value)}")
        if not value and any(meta.min_length for meta in _metas(kind)):
            return self._fault(path, "expected at least one entry, found none")
        inner = get_args(bare)[0]
        return tuple(self._value(inner, one, f"{path}[{n}]") for n, one in enumerate(value))

    def _table(self, inner: Any, value: object, path: str) -> object:
        if not isinstance(value, Mapping):
            found = "" if _bare(inner) in _SILENT else _found(value)
            return self._fault(path, f"expected a table{found}")
        return {str(key): self._value(inner, one, _join(path, key)) for key, one in value.items()}


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _metas(kind: Any) -> list[msgspec.Meta]:
    """All annotations of `kind`, those of its one type behind `| None` included."""
    if get_origin(kind) is Annotated:
        inner, *given = get_args(kind)
        return [*(meta for meta in given if isinstance(meta, msgspec.Meta)), *_metas(inner)]
    if get_origin(kind) in (Union, UnionType):
        return [meta for member in get_args(kind) for meta in _metas(member)]
    return []


def _bare(kind: Any) -> Any:
    """`kind` without annotations and without `| None`: TOML has no null."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        members = [member for member in get_args(kind) if member is not NoneType]
        if len(members) == 1:
            return _bare(members[0])
    return kind


def _unknown(key: str, known: Mapping[str, msgspec.structs.FieldInfo]) -> str:
    for name, field in known.items():
        if any((meta.extra or {}).get("renamed_from") == key for meta in _metas(field.type)):
            return f'this setting is called "{name}"'
    near = get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"unknown key; {hint}"


def _sentence(error: msgspec.ValidationError, kind: Any) -> str:
    """What was expected, from msgspec's message, without what was found."""
    bare = _bare(kind)
    choices = get_args(bare)
    if choices and all(isinstance(choice, str) for choice in choices):
        return "expected one of " + ", ".join(f'"{choice}"' for choice in choices)
    for meta in _metas(kind):
        if meta.extra and "expected" in meta.extra and "matching regex" in str(error):
            return f"expected {meta.extra['expected']}"
    text = str(error).partition(", got ")[0].replace("`", "").replace(" | null", "")
    names = {"Expected int": "expected a whole number", "Expected str": "expected a text"}
    for theirs, ours in {**names, "Expected bool": "expected true or false"}.items():
        text = text.replace(theirs, ours)
    return text


def _found(value: object) -> str:
    if isinstance(value, Mapping):
        return ", found a table"
    if isinstance(value, list | tuple):
        return ", found a list"
    text = msgspec.json.encode(value, enc_hook=str).decode()
    return f", found {text if len(text) <= 60 else text[:57] + '...'}"
