"""Values of a request and an answer that a span reads: within bounds, whatever they hold."""

import msgspec
import pytest

from middlewares.tracing.lenient_json import value_of
from middlewares.tracing.request_attributes import request_attributes


@pytest.mark.parametrize(
    ("text", "value"), [("1.5", 1.5), ("[1e30]", [1e30]), ("1e999", None), ("{", None), ("7", 7)]
)
def test_value_reads_what_is_json_and_leaves_out_the_rest(text: str, value: object) -> None:
    assert value_of(text.encode(), most=8) == value


def test_value_longer_than_its_bound_is_left_out() -> None:
    assert value_of(b"[1, 2, 3]", most=9) == [1, 2, 3]
    assert value_of(b"[1, 2, 3]", most=8) is None


def test_type_of_an_output_is_read_beside_a_long_schema_and_is_a_text() -> None:
    kind = b'{"type": "json_object"}'
    padded = b'{"type": "json_object", "schema": [%b0]}' % (b"0, " * 5000)
    much = b'{"type": [%b0]}' % (b"1e308, " * 5000)
    for raw, output in ((kind, "json"), (padded, "json"), (much, None)):
        found = request_attributes({"response_format": msgspec.Raw(raw)}, endpoint="messages")
        assert found.get("gen_ai.output.type") == output
