"""Kinds, fields and walks of the configuration's structs."""

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from edge.config.fields import FieldKind, fields_of, walk_settings, walk_values
from edge.config.model import Configuration
from edge.config.secrets import Secret

Short = Annotated[str, Meta(max_length=9, description="any", extra={"expected": "a short text"})]


class Shelf(Struct, frozen=True, kw_only=True):
    label: Annotated[Short | None, Meta(description="What it says.")] = None
    colour: Literal["red", "blue"] = "red"


class Room(Struct, frozen=True, kw_only=True):
    size: Annotated[int, Meta(ge=1, extra={"reloadable": False, "renamed_from": "width"})]
    shelf: Shelf | None = None
    shelves: tuple[Shelf, ...] = ()
    keys: dict[str, Secret] = {}
    named: dict[str, Shelf] = {}
    plan: Path | None = None
    note: Any = None


def test_kind_annotated_optional_has_bare_type_and_metas_innermost_first() -> None:
    kind = fields_of(Shelf)["label"].kind
    assert (kind.form, kind.bare) == ("value", str)
    assert [meta.description for meta in kind.metas] == ["any", "What it says."]
    assert kind.note("expected") == "a short text"
    assert kind.note("reloadable") is None


def test_kind_of_each_annotation_has_its_form() -> None:
    forms = {name: field.kind.form for name, field in fields_of(Room).items()}
    assert forms == {
        "size": "value",
        "shelf": "table",
        "shelves": "list",
        "keys": "map",
        "named": "map",
        "plan": "value",
        "note": "value",
    }
    assert fields_of(Shelf)["colour"].kind.choices == ("red", "blue")
    assert fields_of(Room)["size"].kind.choices == ()


def test_field_says_what_its_meta_says() -> None:
    size, plan = fields_of(Room)["size"], fields_of(Room)["plan"]
    assert (size.required, size.reloadable, size.renamed_from) == (True, False, "width")
    assert (plan.required, plan.reloadable, plan.renamed_from) == (False, True, None)
    assert (size.description, fields_of(Shelf)["label"].description) == ("", "What it says.")


def test_walk_settings_goes_into_tables_and_lists_of_tables() -> None:
    assert [path for path, _ in walk_settings(Room)] == [
        "size",
        "shelf.label",
        "shelf.colour",
        "shelves[].label",
        "shelves[].colour",
        "keys",
        "named.*.label",
        "named.*.colour",
        "plan",
        "note",
    ]


def test_walk_values_yields_each_value_with_its_kind() -> None:
    document = {
        "shelves": [{"label": "a"}, {"label": 3, "colour": "red"}],
        "keys": {"x": "file:x", "y": "z"},
        "plan": "plan.pdf",
    }
    found = [(kind.bare, value) for kind, value in walk_values(FieldKind.of(Room), document)]
    colour = fields_of(Shelf)["colour"].kind.bare
    assert found == [
        (str, "a"),
        (str, 3),
        (colour, "red"),
        (Secret, "file:x"),
        (Secret, "z"),
        (Path, "plan.pdf"),
    ]


def test_walk_values_skips_what_has_no_kind() -> None:
    document = {"door": "file:x", "shelf": "x", "shelves": {"label": "a"}, "keys": ["file:x"]}
    assert list(walk_values(FieldKind.of(Room), document)) == []
    assert list(walk_values(FieldKind.of(Room), ["x"])) == []


def test_settings_that_need_a_restart_stand_in_no_list_of_tables() -> None:
    """They are compared by their path, and entries of a list may change places."""
    fixed = [path for path, field in walk_settings(Configuration) if not field.reloadable]
    assert "store.sql" in fixed
    assert not [path for path in fixed if "[]" in path]


def test_old_keys_are_not_in_use_again() -> None:
    for path, field in walk_settings(Configuration):
        siblings = [one for one, _ in walk_settings(Configuration)]
        parent = path.rpartition(".")[0]
        assert f"{parent}.{field.renamed_from}" not in siblings, path
