"""Fields and types of the configuration's structs: the one place that takes annotations apart.

Decoding, the JSON Schema, reloading and the reference page walk the same structs. They see a
`FieldKind` in place of an annotation and a `Field` in place of msgspec's own. `walk_settings` walks
the types, `walk_values` a document along its types.

A field says more about itself in `Meta(extra=...)`:

    reloadable     False: the setting takes effect at a restart only. True unless given
    renamed_from   the key that it had before; that key is refused, and this one named
    expected       what a value that does not match `pattern` should have been
"""

from collections.abc import Iterator, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

Form = Literal["value", "choice", "table", "list", "map"]


class FieldKind(msgspec.Struct, frozen=True):
    """One annotation, taken apart.

    form: how a value is written: "table" for a struct, "list" for a tuple, "map" for a dict,
        "choice" for a Literal, "value" for anything else.
    bare: the type without `Annotated` and without `| None`, since TOML has no null.
    declared: the whole annotation, for `msgspec.convert`.
    metas: all its annotations, innermost first, so that later ones go before earlier ones.
    inner: kind of the entries of a list or map.
    """

    form: Form
    bare: Any
    declared: Any
    metas: tuple[msgspec.Meta, ...] = ()
    inner: "FieldKind | None" = None

    @classmethod
    def of(cls, annotation: Any) -> "FieldKind":
        """The kind of an annotation."""
        bare, metas = _unwrapped(annotation)
        origin, inner = get_origin(bare), None
        form: Form = "value"
        if origin is Literal:
            form = "choice"
        elif isinstance(bare, type) and issubclass(bare, msgspec.Struct):
            form = "table"
        elif origin is tuple:
            form, inner = "list", cls.of(get_args(bare)[0])
        elif origin is dict:
            form, inner = "map", cls.of(get_args(bare)[1])
        return cls(form, bare, annotation, metas, inner)

    @property
    def choices(self) -> tuple[Any, ...]:
        """Values that a choice may have; empty for other forms."""
        return get_args(self.bare) if self.form == "choice" else ()

    def note(self, key: str) -> Any:
        """What its annotations say under `key` in `extra`; None when they do not."""
        for meta in reversed(self.metas):
            if meta.extra is not None and key in meta.extra:
                return meta.extra[key]
        return None


class Field(msgspec.Struct, frozen=True):
    """One key of a table. default: `msgspec.NODEFAULT` when it is required, or an empty map."""

    name: str
    kind: FieldKind
    required: bool
    default: Any

    @property
    def description(self) -> str:
        """The text of the user manual; "" for a table as a whole."""
        texts = [meta.description for meta in self.kind.metas if meta.description]
        return texts[-1] if texts else ""

    @property
    def reloadable(self) -> bool:
        """Whether a change takes effect while Penstock serves."""
        return self.kind.note("reloadable") is not False

    @property
    def renamed_from(self) -> str | None:
        """The key that it had before."""
        name: str | None = self.kind.note("renamed_from")
        return name


@cache
def fields_of(table: type[msgspec.Struct]) -> Mapping[str, Field]:
    """The fields of a struct by name, in their order."""
    return {
        one.name: Field(one.name, FieldKind.of(one.type), one.required, one.default)
        for one in msgspec.structs.fields(table)
    }


def walk_settings(table: type[msgspec.Struct], path: str = "") -> Iterator[tuple[str, Field]]:
    """Path and field of every setting in `table` and the tables in it: `server.port`,
    `plans[].windows[].length`, `errors.kinds.*.status`."""
    for name, field in fields_of(table).items():
        kind, here = field.kind, f"{path}{name}"
        if kind.form == "list" and kind.inner is not None:
            kind, here = (kind.inner, f"{here}[]") if kind.inner.form == "table" else (kind, here)
        if kind.form == "map" and kind.inner is not None and kind.inner.form == "table":
            kind, here = kind.inner, f"{here}.*"
        if kind.form == "table":
            yield from walk_settings(kind.bare, f"{here}.")
        else:
            yield here, field


def walk_values(kind: FieldKind, document: object) -> Iterator[tuple[FieldKind, object]]:
    """Every single value of a document with its kind. Skips what has no kind: unknown keys, and
    data of another form than expected."""
    match kind.form, document:
        case "table", Mapping():
            fields = fields_of(kind.bare)
            for name, value in document.items():
                if name in fields:
                    yield from walk_values(fields[name].kind, value)
        case "list", list() | tuple() if kind.inner is not None:
            for value in document:
                yield from walk_values(kind.inner, value)
        case "map", Mapping() if kind.inner is not None:
            for value in document.values():
                yield from walk_values(kind.inner, value)
        case "value" | "choice", _:
            yield kind, document


def _unwrapped(annotation: Any) -> tuple[Any, tuple[msgspec.Meta, ...]]:
    """The type of an annotation without `Annotated` and `| None`, and its annotations."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *given = get_args(annotation)
        bare, metas = _unwrapped(inner)
        return bare, (*metas, *(one for one in given if isinstance(one, msgspec.Meta)))
    if origin in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not NoneType]
        if len(members) == 1:
            return _unwrapped(members[0])
    return annotation, ()
