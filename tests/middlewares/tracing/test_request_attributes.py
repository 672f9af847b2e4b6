"""Attributes of a request's members, whatever they hold."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares.tracing.request_attributes import request_attributes

MEMBERS = (
    *("max_tokens", "top_k", "seed", "n", "temperature", "top_p", "frequency_penalty", "stop"),
    *("presence_penalty", "reasoning_effort", "reasoning", "previous_response_id", "dimensions"),
    *("encoding_format", "response_format", "text", "output_config"),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("effort"), inner),
)


@pytest.mark.parametrize("figure", [10**400, -(10**400), 1 << 63])
@pytest.mark.parametrize("member", ["temperature", "top_p", "frequency_penalty", "max_tokens"])
def test_a_number_that_is_too_large_is_left_out(member: str, figure: int) -> None:
    assert request_attributes({member: msgspec.Raw(str(figure).encode())}) == {}


@given(st.sampled_from(MEMBERS), values)
def test_any_value_is_read(member: str, value: Any) -> None:
    found = request_attributes({member: msgspec.Raw(json.dumps(value).encode())})
    assert all(isinstance(one, str | int | float | bool | tuple) for one in found.values())
