"""Tags of a request, as callers may write them."""

import pytest

from edge.requests.json_body import read_json_headers
from edge.requests.tags import tags_of
from middlewares.problem import Problem


def scope(*values: bytes) -> dict[str, object]:
    headers = [(b"x-request-tags", value) for value in values]
    return {"type": "http", "headers": [(b"content-type", b"application/json"), *headers]}


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        ((), ()),
        ((b"",), ()),
        ((b"a",), ("a",)),
        ((b"b,a",), ("b", "a")),
        ((b" team:x ,\tstage/1.0_b-2 ",), ("team:x", "stage/1.0_b-2")),
        ((b"a,b", b"c"), ("a", "b", "c")),
        ((b"a,,b,", b""), ("a", "b")),
        ((b"a,b,a", b"b"), ("a", "b")),
        ((b"A,a",), ("A", "a")),
        ((b",".join(b"%d" % n for n in range(8)),), tuple(map(str, range(8)))),
        ((b"a,a,a,a,a,a,a,a,a",), ("a",)),
        ((b"x" * 64,), ("x" * 64,)),
    ],
)
def test_tags_are_read_in_order_each_once(values: tuple[bytes, ...], tags: tuple[str, ...]) -> None:
    assert read_json_headers(scope(*values)) == tags
    assert tags_of(scope(*values)) == tags


@pytest.mark.parametrize(
    "values",
    [
        (b",".join(b"%d" % n for n in range(9)),),
        (b"a,b,c,d", b"e,f,g,h", b"i"),
        (b"x" * 65,),
        (b"a b",),
        (b"a;b",),
        (b"a\x00",),
        (b"\xc3\xa9",),
        (b'"a"',),
        (b"*",),
        (b"=1+1",),
        (b"a\n",),
    ],
)
def test_invalid_tag_is_refused_and_names_the_header(values: tuple[bytes, ...]) -> None:
    for read in (read_json_headers, tags_of):
        with pytest.raises(Problem) as raised:
            read(scope(*values))
        assert raised.value.kind == "invalid_request"
        assert raised.value.param == "x-request-tags"
        assert "tags" in (raised.value.message or "")
