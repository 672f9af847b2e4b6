"""Stop strings, fences and wrapped values, in pieces of any size."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects.filters import Fence, StopStrings, Unwrapped, custom_input, unwrapped

Filter = StopStrings | Fence | Unwrapped


def run(filter_: Filter, pieces: list[str]) -> str:
    return "".join(filter_.filter(piece) for piece in pieces) + filter_.filter_end()


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({min(place, len(text)) for place in places})
    return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]


@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.integers(0, 30), max_size=6),
)
def test_text_ends_before_the_stop_string_that_is_complete_first(
    text: str, strings: list[str], places: list[int]
) -> None:
    ends = [(m.end(), m.start(), s) for s in strings for m in [re.search(re.escape(s), text)] if m]
    stop = StopStrings(strings)
    assert run(stop, cut(text, places)) == (text[: min(ends)[1]] if ends else text)
    assert stop.found == (min(ends)[2] if ends else None)


def test_only_what_may_begin_a_stop_string_is_held() -> None:
    stop = StopStrings(["###", ""])
    assert [stop.filter(piece) for piece in ("a#", "#b", "##", "#c", "d")] == [
        "a",
        "##b",
        "",
        "",
        "",
    ]
    assert (stop.found, stop.filter_end()) == ("###", "")


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ("  \n```\n[1]\n```\n", "[1]"),
        ('{"a": "```"}', '{"a": "```"}'),
        ("``` not closed", "``` not closed"),
        ("```json\n{}\n``` and more", "```json\n{}\n``` and more"),
        ("```", "```"),
        ("", ""),
    ],
)
def test_a_fence_around_everything_goes(text: str, bare: str) -> None:
    assert run(Fence(), [text]) == bare
    assert run(Fence(), list(text)) == bare


def test_a_text_without_a_fence_is_not_held() -> None:
    fence = Fence()
    assert [fence.filter(piece) for piece in (" ", "{", "}")] == ["", " {", "}"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"value": [1, 2.50]}', "[1, 2.50]"),
        ('{"value": "é"}', '"é"'),
        ('{"value": 1, "more": 2}', '{"value": 1, "more": 2}'),
        ('{"value"', '{"value"'),
        ("[]", "[]"),
        ("", ""),
    ],
)
def test_a_value_is_unwrapped_as_it_was_written(text: str, value: str) -> None:
    assert unwrapped(text) == value
    assert run(Unwrapped(), list(text)) == value


@pytest.mark.parametrize(
    ("arguments", "raw"),
    [
        ('{"input": "*** Begin\\n+é"}', "*** Begin\n+é"),
        ('{"input": {"a": 1}}', '{"a": 1}'),
        ('{"other": "x"}', '{"other": "x"}'),
        ("*** Begin Patch", "*** Begin Patch"),
        ('{"input": "cut', '{"input": "cut'),
    ],
)
def test_the_raw_input_of_a_custom_tool(arguments: str, raw: str) -> None:
    """antirez/ds4#745: what the model wrote, not JSON around it."""
    assert custom_input(arguments) == raw


def test_very_many_stop_strings_hold_back_no_more_than_they_must() -> None:
    stop = StopStrings([f"{n:03}<" * 250 for n in range(256)])
    assert stop.filter("no digits") == "no digits"
    assert stop.filter("see 007<007") == "see "
    assert stop.filter("<008") == "007<007<"
    assert stop.filter("!") == "008!"
    assert stop.filter("255<" * 249) == ""
    assert stop.filter("255< more") == "" and stop.found == "255<" * 250
