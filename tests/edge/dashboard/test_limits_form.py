"""Own limits and metadata as fields of forms."""

from typing import Any

import pytest

from edge.dashboard.limits_form import (
    limits_values,
    metadata_text,
    read_limits,
    read_metadata,
    read_names,
)
from edge.management.fields import Refused


@pytest.mark.parametrize(
    "limits",
    [
        None,
        {"requests": "60/min", "burst": 5, "tokens": "9k/min", "concurrency": 3},
        {"storage": "5GiB", "on_excess": "throttle", "overflow": "credits"},
        {"windows": []},
        {
            "windows": [
                {"length": "calendar month", "credits": "40"},
                {"length": "7d", "credits": "2.5", "aligned": True},
            ]
        },
        {"on_hangup": "drain", "cut_off": True},
    ],
)
def test_what_the_fields_show_is_read_as_the_same(limits: dict[str, Any] | None) -> None:
    assert read_limits(limits_values(limits), limits) == limits


def test_empty_field_leaves_the_limit_to_the_plan() -> None:
    assert read_limits({"requests": ""}, {"requests": "5/min", "cut_off": True}) == {
        "cut_off": True
    }


@pytest.mark.parametrize(
    ("name", "text"), [("burst", "x"), ("concurrency", "1.5"), ("windows", "aligned")]
)
def test_text_that_cannot_be_read_is_refused(name: str, text: str) -> None:
    with pytest.raises(Refused) as refused:
        read_limits({name: text})
    assert refused.value.field == f"limits.{name}"


def test_metadata_and_names_are_read_as_they_are_shown() -> None:
    pairs = {"project": "apollo", "formula": "a = b"}
    assert read_metadata(metadata_text(pairs)) == pairs
    assert read_metadata(" \n") is None
    with pytest.raises(Refused):
        read_metadata("apollo")
    assert read_names("a, b\nc  d") == ["a", "b", "c", "d"]
    assert read_names(" , ") is None
