"""Base64 in JSON, made piece by piece."""

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from os import urandom

import pytest

from edge.proxy.attachments.encoding import encoded_size, placeholder, with_base64


async def cut(data: bytes, size: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000, 1 << 20])
@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 3000, 3001])
async def test_with_base64_is_the_same_for_every_cut(length: int, size: int) -> None:
    data, mark = urandom(length), placeholder()
    part = {"a": "é", "b": {"url": f"data:x/y;base64,{mark}"}, "c": 1}
    raw = await with_base64(part, mark, cut(data, size))
    found = json.loads(bytes(raw))
    head, encoded = found["b"].pop("url").split(",")
    assert (head, b64decode(encoded, validate=True)) == ("data:x/y;base64", data)
    assert len(encoded) == encoded_size(length)
    assert found == {"a": "é", "b": {}, "c": 1}


async def test_with_base64_without_a_place_raises_value_error() -> None:
    with pytest.raises(ValueError, match="no place"):
        await with_base64({"a": "b"}, placeholder(), cut(b"x", 1))
