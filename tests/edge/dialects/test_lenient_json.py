"""JSON that strict decoders refuse."""

from typing import Any

import msgspec
import pytest

from edge.dialects.lenient_json import decode_leniently, repaired_json
from edge.dialects.passthrough import UNREADABLE


class Inner(msgspec.Struct):
    text: str | None = None
    index: int | None = None
    odd: list[str] | None = None


class Outer(msgspec.Struct):
    id: str | None = None
    inner: Inner | None = None
    many: list[Inner] | None = None
    by_name: dict[str, Inner] | None = None
    count: int | float | None = None
    raw: msgspec.Raw = msgspec.Raw(b"null")


decode = msgspec.json.Decoder(Outer).decode


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"a":NaN}', b'{"a":null}'),
        (b'{"a":[-Infinity,1e999,1.5]}', b'{"a":[null,null,1.5]}'),
        (b'\xef\xbb\xbf{"a":1}', b'{"a":1}'),
        (rb'{"a":"\ud83d"}', '{"a":"\ufffd"}'.encode()),
        (rb'{"a":"\ude00 x"}', '{"a":"\ufffd x"}'.encode()),
        (rb'{"a":"\ud83d\ude00"}', '{"a":"\U0001f600"}'.encode()),
        (b'{"a":"NaN"}', b'{"a":"NaN"}'),
        (b'{"a":"tab\there"}', rb'{"a":"tab\there"}'),
    ],
)
def test_mended_gives_strict_json(data: bytes, expected: bytes) -> None:
    assert repaired_json(data) == expected
    msgspec.json.decode(repaired_json(data))


@pytest.mark.parametrize("data", [b"", b"not json", b'{"a":', b'{"a":"\xff"}', b"[" * 100_000])
def test_mended_raises_for_what_is_no_json(data: bytes) -> None:
    with pytest.raises(UNREADABLE):
        repaired_json(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"id":5}', Outer(id="5")),
        (b'{"id":true}', Outer()),
        (b'{"count":"10"}', Outer(count=10)),
        (b'{"count":"1.5"}', Outer(count=1.5)),
        (b'{"count":"many"}', Outer()),
        (b'{"count":NaN}', Outer()),
        (b'{"inner":{"index":"0","text":"a"}}', Outer(inner=Inner(text="a", index=0))),
        (b'{"inner":{"index":1.0}}', Outer(inner=Inner(index=1))),
        (b'{"inner":{"odd":{"x":1},"text":"a"}}', Outer(inner=Inner(text="a"))),
        (b'{"inner":"x","id":"y"}', Outer(id="y")),
        (b'{"many":[null,{"odd":7},{"text":"a"},null]}', Outer(many=[Inner(), Inner(text="a")])),
    ],
)
def test_lenient_takes_odd_members_for_absent(data: bytes, expected: Outer) -> None:
    assert decode_leniently(decode, data) == expected


def test_lenient_keeps_raw_members() -> None:
    assert (
        bytes(decode_leniently(decode, b'{"id":5,"raw":{"a":"\xc3\xa9"}}').raw)
        == b'{"a":"\xc3\xa9"}'
    )


@pytest.mark.parametrize(
    "data",
    [
        b'{"inner":{"text":5}}',
        b'{"many":[{"text":{}}]}',
        b'{"by_name":{"a":{"index":"x"}}}',
        b"[]",
        b"5",
        b"no",
    ],
)
def test_lenient_raises_for_needed_members(data: bytes) -> None:
    with pytest.raises(UNREADABLE):
        decode_leniently(decode, data, needed=("text",))


def test_lenient_gives_up_on_very_many_odd_members() -> None:
    data = msgspec.json.encode({"many": [{"odd": 1} for _ in range(1000)]})
    with pytest.raises(msgspec.ValidationError):
        decode_leniently(decode, data)


def test_lenient_reads_null_in_a_needed_place_as_absent() -> None:
    class Plain(msgspec.Struct):
        text: str = ""

    plain: Any = msgspec.json.Decoder(Plain).decode
    assert decode_leniently(plain, b'{"text":null}', needed=("text",)) == Plain()


def test_mended_leaves_very_large_answers_alone() -> None:
    with pytest.raises(msgspec.DecodeError):
        repaired_json(b'{"a":NaN,"b":"%b"}' % (b"x" * (2 << 20)))
