"""Free metadata between dialects: within the bounds of the vendor, and noted beyond them."""

from typing import Any

import pytest

from edge.dialects.metadata import openai_metadata, user_of


@pytest.mark.parametrize("metadata", [None, {}])
def test_openai_metadata_of_none_is_empty(metadata: dict[str, Any] | None) -> None:
    dropped: list[str] = []
    assert openai_metadata(metadata, dropped) == {}
    assert user_of(metadata, dropped) == ""
    assert dropped == []


def test_openai_metadata_values_become_text() -> None:
    dropped: list[str] = []
    given = {"a": "b", "n": 1, "x": 1.5, "t": True, "f": False, "k" * 64: "v" * 512, "": ""}
    assert openai_metadata(given, dropped) == {
        "a": "b",
        "n": "1",
        "x": "1.5",
        "t": "true",
        "f": "false",
        "k" * 64: "v" * 512,
        "": "",
    }
    assert dropped == []


@pytest.mark.parametrize("pair", [("k" * 65, "v"), ("k", "v" * 513), ("k", None), ("k", {"a": 1})])
def test_openai_metadata_beyond_the_vendors_bounds_is_noted(pair: tuple[str, Any]) -> None:
    dropped: list[str] = []
    assert openai_metadata(dict([pair, ("a", "b")]), dropped) == {"a": "b"}
    assert dropped == ["`metadata`: some of its pairs"]


def test_openai_metadata_keeps_the_first_sixteen_pairs() -> None:
    dropped: list[str] = []
    given = {f"k{n}": "v" for n in range(20)}
    assert list(openai_metadata(given, dropped)) == [f"k{n}" for n in range(16)]
    assert dropped == ["`metadata`: some of its pairs"]


def test_user_of_metadata_notes_the_others() -> None:
    dropped: list[str] = []
    assert user_of({"user_id": "u", "a": "b"}, dropped) == "u"
    assert user_of({"user_id": 7}, dropped) == ""
    assert dropped == ["`metadata`", "`metadata`"]
    assert user_of({"user_id": "u"}, dropped) == "u"
    assert len(dropped) == 2
