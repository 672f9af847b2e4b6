"""JSON of unknown form: the numbers are those of msgspec, whoever wrote them and however long."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.untyped import decode_any, decode_object, number

EDGE = Path(__file__).parents[2] / "edge"
OF_UPSTREAMS = {
    "upstreams/error_body.py",
    "dialects/failures.py",
    "dialects/heartbeats.py",
    "dialects/openai_chat/read_answer.py",
}
"""These decode what the operator's own upstreams write."""

usual = msgspec.json.Decoder().decode


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_number_reads_what_msgspec_reads(value: float) -> None:
    for text in (repr(value), f"{value:.17e}", f"{value:.20E}"):
        if "." in text or "e" in text.lower():
            assert number(text) == usual(text.encode())


@pytest.mark.parametrize(
    "text",
    ["1e308", "-1.5", "1e5", "0.1", "1E+30", "-0.0", "12345678901234567890", "-7", "true", '"1e5"'],
)
def test_decode_any_gives_what_msgspec_gives(text: str) -> None:
    value: Any = decode_any(text)
    assert value == usual(text)
    assert type(value) is type(usual(text))
    assert decode_object(f'{{"a":{text}}}') == {"a": value}


@pytest.mark.parametrize("text", ["1e309", "[-1e999]", '{"a":[1e400]}', "1.0.0", "[1e]", ""])
def test_decode_any_refuses_what_msgspec_refuses(text: str) -> None:
    for decode in (decode_any, usual):
        with pytest.raises(msgspec.DecodeError):
            decode(text)
    with pytest.raises(msgspec.DecodeError):
        decode_object("[]")


def test_no_other_decoder_of_unknown_form_reads_what_callers_write() -> None:
    """It would read long numbers one digit at a time."""
    untyped = re.compile(r"json\.Decoder\((?:|Any|dict\[str, Any\]|list\[Any\])\)")
    found = {
        str(path.relative_to(EDGE))
        for path in EDGE.rglob("*.py")
        if untyped.search(path.read_text())
    }
    assert {name for name in found if "simulator" not in name} == OF_UPSTREAMS
