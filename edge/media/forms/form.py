"""A multipart form: its parts in the client's order."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from edge.untyped_json import decode_any

from .spool import Spool

_encode = msgspec.json.Encoder().encode


class FormField(msgspec.Struct, frozen=True):
    """A text field."""

    name: str
    value: str


class FormFile(msgspec.Struct, frozen=True, eq=False):
    """A file. filename: without a path, "" if none was given. content_type: as the client said,
    without parameters, "" if it did not."""

    name: str
    filename: str
    content_type: str
    spool: Spool


Part = FormField | FormFile


class Form:
    """The parts of one form. `close` deletes its files."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Part] = ()) -> None:
        self.parts = list(parts)

    def fields(self) -> Iterator[FormField]:
        """The text fields."""
        return (part for part in self.parts if isinstance(part, FormField))

    def files(self, name: str = "") -> list[FormFile]:
        """The files of this name, with or without `[]`; without a name all files."""
        return [
            part
            for part in self.parts
            if isinstance(part, FormFile) and (not name or plain_name(part.name) == name)
        ]

    def members(self, types: Mapping[str, type] | None = None) -> dict[str, msgspec.Raw]:
        """The text fields as members of a JSON object.

        Names lose their `[]`. A name with `[]`, or that occurs more than once, has a list; others
        have a string. types: `bool`, `int`, `float` or `list` by name, for members that are not
        strings in JSON; a value that is no such literal stays a string.
        """
        found: dict[str, list[str]] = {}
        lists: set[str] = {name for name, kind in (types or {}).items() if kind is list}
        for field in self.fields():
            name = plain_name(field.name)
            values = found.setdefault(name, [])
            values.append(field.value)
            if name != field.name or len(values) > 1:
                lists.add(name)
        members = {}
        for name, values in found.items():
            kind = (types or {}).get(name, str)
            typed = [_typed(value, kind) for value in values]
            members[name] = msgspec.Raw(_encode(typed if name in lists else typed[0]))
        return members

    @property
    def text_size(self) -> int:
        """Bytes of the names and values of all text fields."""
        return sum(len(f.name.encode()) + len(f.value.encode()) for f in self.fields())

    def digest(self) -> bytes:
        """A digest of the files: their names, their order and their bytes."""
        whole = sha256()
        for file in self.files():
            name = file.name.encode()
            whole.update(b"%d " % len(name))
            whole.update(name)
            whole.update(file.spool.sha256)
        return whole.digest()

    def close(self) -> None:
        """Delete the files. Idempotent."""
        for file in self.files():
            file.spool.close()


def form_fields(members: Mapping[str, msgspec.Raw]) -> list[FormField]:
    """The members of a JSON object as the text fields of a form.

    Items of a list are fields of one name that ends with `[]`, members of an object fields of the
    name and the member in brackets, as OpenAI's clients write them. Null members are left out.
    """
    fields: list[FormField] = []
    for name, raw in members.items():
        _add(fields, name, decode_any(raw))
    return fields


def plain_name(name: str) -> str:
    """A field's name without the `[]` that marks a list."""
    return name.removesuffix("[]")


def _typed(value: str, kind: type) -> Any:
    if kind is bool and value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        if kind is int:
            return int(value)
        if kind is float:
            number = float(value)
            return number if abs(number) < float("inf") else value
    except ValueError:
        pass
    return value


def _add(fields: list[FormField], name: str, value: Any) -> None:
    match value:
        case None:
            return
        case list():
            for item in value:
                _add(fields, f"{name}[]", item)
        case dict():
            for key, item in value.items():
                _add(fields, f"{name}[{key}]", item)
        case str():
            fields.append(FormField(name, value))
        case _:
            fields.append(FormField(name, _encode(value).decode()))
