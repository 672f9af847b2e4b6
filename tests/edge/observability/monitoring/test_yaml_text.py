"""YAML that every reader takes for the same values."""

from typing import Any

import yaml

from edge.observability.monitoring.rules import rules_document
from edge.observability.monitoring.yaml_text import yaml_text


def test_yaml_rules_read_back_equal() -> None:
    assert yaml.safe_load(yaml_text(rules_document())) == rules_document()


def test_yaml_hard_texts_read_back_equal() -> None:
    value: dict[str, Any] = {
        "quoted": 'a "b" \\ {{ $labels.x }} # no: comment',
        "lines": "one\n  two: {}\n\nthree",
        "none": None,
        "number": 1.5,
        "empty": {},
        "nothing": [],
        "inner": {"list": [{"a": "no", "b": {"c": "~"}}, {"a": "ü"}]},
    }
    assert yaml.safe_load(yaml_text(value)) == value
