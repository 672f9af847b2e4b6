"""The JSON Schema: current, complete, and as strict as the decoder."""

import tomllib
from typing import Any

import jsonschema
import pytest

from edge.config import schema
from edge.config.load import parse

from .documents import CONFIG, faults, uncommented


def test_schema_accepts_the_default_file() -> None:
    checker = jsonschema.Draft202012Validator(schema.schema())
    jsonschema.Draft202012Validator.check_schema(schema.schema())
    text = (CONFIG / "penstock.toml").read_text()
    assert list(checker.iter_errors(tomllib.loads(text))) == []
    assert list(checker.iter_errors(tomllib.loads(uncommented(text)))) == []


@pytest.mark.parametrize(
    "document",
    [
        {"brnd": "x"},
        {"server": {"port": 70000}},
        {"server": {"max_body": "3q"}},
        {"server": {"trusted_proxies": ["x y"]}},
        {"limits": {"address": "60"}},
        {"models": [{"id": "m", "targets": []}]},
        {"models": [{"id": "m", "targets": ["up/m"], "price": {"input": 0.5}}]},
        {"models": [{"targets": ["up/m"]}]},
        {"upstreams": [{"name": "UP", "dialect": "openai"}]},
        {"auth": {"mode": "open"}},
    ],
)
def test_schema_refuses_what_the_decoder_refuses(document: dict[str, Any]) -> None:
    assert faults(document)
    assert list(jsonschema.Draft202012Validator(schema.schema()).iter_errors(document))


def test_schema_describes_every_setting() -> None:
    tables = schema.schema()["$defs"]
    silent = [
        f"{table}.{name}"
        for table, kind in tables.items()
        for name, field in kind["properties"].items()
        if not field.get("description")
    ]
    assert silent == []


def test_schema_defaults_can_be_written_in_a_file() -> None:
    tables = schema.schema()["$defs"]
    for name in ("server", "store", "auth", "limits", "errors", "log"):
        fields = tables[name.capitalize()]["properties"]
        defaults = {key: field["default"] for key, field in fields.items() if "default" in field}
        assert getattr(parse({name: defaults}, env={}), name) == getattr(parse({}, env={}), name)
