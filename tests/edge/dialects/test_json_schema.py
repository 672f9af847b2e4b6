"""JSON Schemas cut down to what a vendor takes."""

import copy
from typing import Any

import pytest

from edge.dialects.json_schema import (
    MOST_NODES,
    SchemaTooLarge,
    for_anthropic,
    input_schema,
    is_for_anthropic,
    is_strict,
)
from middlewares.problem import Problem

POINT = {
    "type": "object",
    "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
    "required": ["x", "y"],
    "additionalProperties": False,
}


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


# Tools


@pytest.mark.parametrize("schema", [None, {}])
def test_a_tool_without_parameters_takes_an_empty_object(schema: dict[str, Any] | None) -> None:
    assert input_schema(schema) == ({"type": "object", "properties": {}}, False)


def test_parameters_that_are_an_object_pass_as_they_are() -> None:
    """No member of the tool ever gets into it (BerriAI/litellm#30557)."""
    schema, wrapped = input_schema(POINT)
    assert schema is POINT
    assert not wrapped


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object"}, {"type": "object", "properties": {}}),
        ({"properties": {"a": {}}}, {"type": "object", "properties": {"a": {}}}),
        ({"description": "d"}, {"description": "d", "type": "object", "properties": {}}),
        ({"type": ["object", "null"]}, {"type": "object", "properties": {}}),
        ({"type": "object", "properties": None}, {"type": "object", "properties": {}}),
        ({"type": 5}, {"type": "object", "properties": {}}),
    ],
)
def test_what_is_meant_as_an_object_becomes_one(
    schema: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert input_schema(schema) == (expected, False)


@pytest.mark.parametrize("branch", ["oneOf", "anyOf", "allOf"])
def test_a_choice_at_the_top_is_wrapped(branch: str) -> None:
    """diegosouzapw/OmniRoute#13552, anthropics/claude-code#40075, anomalyco/opencode#35516."""
    schema = {branch: [POINT, {"type": "object"}], "$defs": {"p": POINT}}
    before = copy.deepcopy(schema)
    found, wrapped = input_schema(schema)
    assert wrapped
    assert found == {
        "type": "object",
        "properties": {"value": {branch: [POINT, {"type": "object"}]}},
        "required": ["value"],
        "$defs": {"p": POINT},
    }
    assert schema == before


def test_references_still_lead_where_they_did_after_wrapping() -> None:
    schema = {
        "type": "array",
        "items": {"anyOf": [{"$ref": "#"}, {"$ref": "#/$defs/p"}, {"$ref": "#/items/anyOf/1"}]},
        "$defs": {"p": {"enum": [{"$ref": "#"}]}},
    }
    found, wrapped = input_schema(schema)
    assert wrapped
    assert found["properties"]["value"]["items"]["anyOf"] == [
        {"$ref": "#/properties/value"},
        {"$ref": "#/$defs/p"},
        {"$ref": "#/properties/value/items/anyOf/1"},
    ]
    assert found["$defs"] == {"p": {"enum": [{"$ref": "#"}]}}


def test_a_schema_nested_without_end_is_refused_and_not_a_crash() -> None:
    with pytest.raises(Problem):
        input_schema(deep(5000))
    with pytest.raises(Problem):
        for_anthropic(deep(5000))
    assert not is_strict({**POINT, "properties": {"x": deep(5000), "y": {}}})


# OpenAI's strict subset


@pytest.mark.parametrize(
    "schema",
    [
        POINT,
        {**POINT, "properties": {"x": {"$ref": "#/$defs/p"}, "y": POINT}, "$defs": {"p": POINT}},
        {
            **POINT,
            "properties": {
                "x": {"type": ["string", "null"], "description": "d", "enum": ["a", None]},
                "y": {"anyOf": [{"type": "array", "items": POINT}, {"type": "null"}]},
            },
        },
        {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    ],
)
def test_the_strict_subset(schema: dict[str, Any]) -> None:
    assert is_strict(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "array", "items": POINT},
        {**POINT, "required": ["x"]},
        {**POINT, "required": [{}, "x"]},
        {**POINT, "additionalProperties": True},
        {name: value for name, value in POINT.items() if name != "additionalProperties"},
        {**POINT, "properties": {"x": {"type": "object"}, "y": POINT}},
        {**POINT, "properties": {"x": {}, "y": {}}},
        {**POINT, "properties": {"x": {"type": "array"}, "y": POINT}},
        {**POINT, "properties": {"x": {"oneOf": [POINT]}, "y": POINT}},
        {**POINT, "properties": {"x": {"type": "string", "format": "uri"}, "y": POINT}},
        {**POINT, "properties": {"x": {"type": "string", "default": ""}, "y": POINT}},
        {**POINT, "properties": {"x": {"$ref": "#/$defs/p", "description": "d"}, "y": POINT}},
        {**POINT, "$defs": {"p": {"type": "object"}}},
        {**POINT, "$defs": "p"},
        {**POINT, "properties": {"x": {"anyOf": "y"}, "y": POINT}},
        {**POINT, "properties": {"x": True, "y": POINT}},
    ],
)
def test_what_is_outside_of_the_strict_subset(schema: dict[str, Any]) -> None:
    assert not is_strict(schema)


# Anthropic's structured answers


def test_objects_are_closed_at_every_depth() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "list": {"type": "array", "items": {"properties": {"a": {"type": "string"}}}},
            "choice": {"oneOf": [{"type": ["object", "null"]}, {"type": "null"}]},
        },
        "required": ["list"],
        "additionalProperties": True,
    }
    before = copy.deepcopy(schema)
    found, wrapped = for_anthropic(schema)
    assert not wrapped
    assert schema == before
    assert found == {
        "type": "object",
        "properties": {
            "list": {
                "type": "array",
                "items": {
                    "properties": {"a": {"type": "string"}},
                    "type": "object",
                    "additionalProperties": False,
                },
            },
            "choice": {
                "anyOf": [
                    {"type": ["object", "null"], "additionalProperties": False},
                    {"type": "null"},
                ]
            },
        },
        "required": ["list"],
        "additionalProperties": False,
    }


def test_limits_are_reported_in_words() -> None:
    schema = {
        "type": "object",
        "properties": {
            "age": {"type": "integer", "minimum": 0, "maximum": 150, "description": "Years."},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 4},
            "one": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "when": {"type": "string", "format": "date-time"},
            "odd": {"type": "string", "format": "colour", "pattern": "^#é"},
            "map": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    }
    properties = for_anthropic(schema)[0]["properties"]
    assert properties["age"] == {
        "type": "integer",
        "description": "Years.\n\nminimum: 0; maximum: 150",
    }
    assert properties["tags"] == {
        "type": "array",
        "items": {"type": "string"},
        "description": "minItems: 2; maxItems: 4",
    }
    assert properties["one"] == schema["properties"]["one"]  # type: ignore[index]
    assert properties["when"] == {"type": "string", "format": "date-time"}
    assert properties["odd"] == {
        "type": "string",
        "description": 'format: "colour"; pattern: "^#é"',
    }
    assert properties["map"] == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
        "description": 'additionalProperties: {"type":"string"}',
    }


def test_what_is_no_object_is_wrapped() -> None:
    schema = {"type": "array", "items": {"$ref": "#/definitions/p"}, "definitions": {"p": POINT}}
    assert for_anthropic(schema) == (
        {
            "type": "object",
            "properties": {"value": {"type": "array", "items": {"$ref": "#/definitions/p"}}},
            "required": ["value"],
            "additionalProperties": False,
            "definitions": {"p": POINT},
        },
        True,
    )
    found, wrapped = for_anthropic({"anyOf": [POINT, {"type": "null"}]})
    assert wrapped
    assert found["properties"]["value"] == {"anyOf": [POINT, {"type": "null"}]}


def test_references() -> None:
    """Siblings go, definitions stay, other places are copied in; one at the top is followed."""
    schema = {
        "$ref": "#/$defs/Line",
        "$defs": {
            "Line": {
                "type": "object",
                "properties": {
                    "from": {"$ref": "#/$defs/P", "description": "where it begins"},
                    "to": {"$ref": "#/$defs/Line/properties/from"},
                },
            },
            "P": POINT,
        },
    }
    found, wrapped = for_anthropic(schema)
    assert not wrapped
    assert found["properties"] == {"from": {"$ref": "#/$defs/P"}, "to": {"$ref": "#/$defs/P"}}
    assert found["$defs"]["P"] == POINT


def test_parts_of_an_all_of_are_one_object() -> None:
    """Closed objects would exclude each other's properties."""
    schema = {
        "allOf": [
            {"$ref": "#/$defs/P"},
            {"properties": {"z": {"type": "number"}}, "required": ["z", "x"], "description": "B"},
            {"allOf": [{"title": "T"}]},
        ],
        "description": "A",
        "$defs": {"P": POINT},
    }
    found, wrapped = for_anthropic(schema)
    assert not wrapped
    assert list(found["properties"]) == ["x", "y", "z"]
    assert found["required"] == ["x", "y", "z"]
    assert found["description"] == "A\n\nB"
    assert found["title"] == "T"
    assert "allOf" not in found


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, "contains itself"),
        (
            {
                "$ref": "#/$defs/a",
                "$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"$ref": "#/$defs/a"}},
            },
            "contains itself",
        ),
        ({"$ref": "https://example.com/schema"}, "within the schema"),
        ({"$ref": "other.json#/a"}, "within the schema"),
        ({"$ref": "#/$defs/a"}, "a part of the schema"),
    ],
)
def test_references_that_cannot_be_said(schema: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        for_anthropic(schema)


def test_strange_values_do_no_harm() -> None:
    schema = {
        "type": "object",
        "properties": {"a": True, "b": {"items": [{"type": "string"}]}, "c": {"anyOf": 1}},
        "required": "a",
    }
    properties = for_anthropic(schema)[0]["properties"]
    assert properties == {
        "a": {},
        "b": {"description": 'items: [{"type":"string"}]'},
        "c": {"description": "anyOf: 1"},
    }
    assert for_anthropic({}) == (
        {"type": "object", "properties": {}, "additionalProperties": False},
        False,
    )


def doubling(levels: int, keyword: str, at: str = "#/properties/") -> dict[str, Any]:
    """Each property refers twice to the one before it."""
    properties: dict[str, Any] = {"p0": {"type": "string"}}
    for n in range(1, levels):
        properties[f"p{n}"] = {keyword: [{"$ref": f"{at}p{n - 1}"}] * 2}
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf", "allOf"])
def test_for_anthropic_references_that_double_end_at_the_bound(keyword: str) -> None:
    assert for_anthropic(doubling(9, keyword))[1] is False
    with pytest.raises(SchemaTooLarge, match=f"at most {MOST_NODES} schemas"):
        for_anthropic(doubling(30, keyword))


def test_for_anthropic_definitions_that_double_in_all_of_end_at_the_bound() -> None:
    schema = doubling(30, "allOf", "#/$defs/")
    schema["$defs"] = schema.pop("properties")
    with pytest.raises(SchemaTooLarge):
        for_anthropic({**schema, "allOf": [{"$ref": "#/$defs/p29"}]})


def test_for_anthropic_definitions_that_double_stay_references() -> None:
    schema = doubling(30, "anyOf", "#/$defs/")
    schema["$defs"] = schema["properties"]
    found, wrapped = for_anthropic(schema)
    assert found["properties"]["p29"] == {"anyOf": [{"$ref": "#/$defs/p28"}] * 2}
    assert not wrapped


def test_for_anthropic_properties_up_to_the_bound_are_taken() -> None:
    names = [f"p{n}" for n in range(MOST_NODES - 1)]
    schema: dict[str, Any] = {"type": "object", "properties": {name: {} for name in names}}
    assert len(for_anthropic(schema)[0]["properties"]) == MOST_NODES - 1
    schema["properties"]["one more"] = {}
    with pytest.raises(SchemaTooLarge):
        for_anthropic(schema)


def test_for_anthropic_a_large_part_in_many_places_ends_at_the_bound() -> None:
    words = {"enum": ["a" * 100_000]}
    places = {f"p{n}": {"$ref": "#/properties/words"} for n in range(1000)}
    with pytest.raises(SchemaTooLarge, match="bytes"):
        for_anthropic({"type": "object", "properties": {"words": words, **places}})


def test_for_anthropic_many_references_into_one_another_end_at_the_bound() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    inner = schema
    path = "#"
    for n in range(250):
        path += "/properties/a"
        inner["properties"] |= {"a": {"type": "object", "properties": {}}, f"r{n}": {"$ref": path}}
        inner = inner["properties"]["a"]
    with pytest.raises(SchemaTooLarge):
        for_anthropic(schema)


def test_is_for_anthropic_expands_nothing() -> None:
    closed = {"type": "object", "properties": {}, "additionalProperties": False}
    assert is_for_anthropic({**closed, "properties": {"a": {"type": "string"}}})
    referring = {**closed, "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {}}}
    assert is_for_anthropic(referring)
    for keyword in ("anyOf", "allOf"):
        assert not is_for_anthropic(doubling(1000, keyword) | {"additionalProperties": False})
    large = {**closed, "properties": {f"p{n}": {} for n in range(2 * MOST_NODES)}}
    assert is_for_anthropic(large)


def test_merged_parts_keep_each_word_and_name_once() -> None:
    parts = [
        {"description": "b", "required": ["y", "x"], "properties": {"x": {"type": "string"}}},
        {"description": "c", "required": ["z"], "properties": {"z": {}}},
    ]
    schema = {"description": "a", "required": ["x", "x"], "properties": {"y": {}}, "allOf": parts}
    assert for_anthropic(schema)[0] == {
        "type": "object",
        "description": "a\n\nb\n\nc",
        "properties": {"y": {}, "x": {"type": "string"}, "z": {}},
        "required": ["x", "y", "z"],
        "additionalProperties": False,
    }
