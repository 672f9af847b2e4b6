"""What image and speech requests ask for, as strange as callers may write it."""

import msgspec
import pytest

from edge.requests.image_request import MOST_IMAGES, image_request_of
from edge.requests.speech_request import speech_of
from middlewares.problem import Problem

STRANGE = (
    *(b"null", b"0", b"-1", b"1e308", b"1e400", b"-0.0", b"1.5", b"true", b"[]", b"{}"),
    *(b'"nan"', b'"inf"', b'"-inf"', b'"1e999"', b'"x"', b'"\xff"', b'"\\ud800"'),
    *(b"9" * 5000, b'"' + b"9" * 5000 + b'"', b"[" * 2000 + b"]" * 2000),
)
IMAGE = ("n", "size", "quality", "partial_images", "frame_count", "svg", "output_format")
OTHERS = ("response_format", "num_images", "batch_size", "numberOfImages")


def raw(**members: bytes) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(value) for name, value in members.items()}


@pytest.mark.parametrize("name", (*IMAGE, *OTHERS))
@pytest.mark.parametrize("value", STRANGE)
def test_strange_member_of_an_image_request_is_refused_or_bounded(name: str, value: bytes) -> None:
    try:
        asked = image_request_of(raw(prompt=b'"p"', **{name: value}))
    except Problem as problem:
        assert problem.param == name
    else:
        assert 1 <= asked.count <= MOST_IMAGES
        assert asked.count <= asked.most <= 1 << 20
        assert asked.tokens > 0


@pytest.mark.parametrize("name", ["input", "speed", "response_format"])
@pytest.mark.parametrize("value", STRANGE)
def test_strange_member_of_a_speech_request_is_refused_or_bounded(name: str, value: bytes) -> None:
    try:
        asked = speech_of({**raw(input=b'"abc"'), name: msgspec.Raw(value)})
    except Problem as problem:
        assert problem.param == "input"
    else:
        assert asked.milliseconds >= asked.characters * 1000 / 12 / 4


@pytest.mark.parametrize(
    ("members", "tokens"),
    [
        ({"size": b'"1024x1024"', "quality": b'"low"'}, 272),
        ({"size": b'"1024x1024"', "quality": b'"high"'}, 4160),
        ({"size": b'"1536x1024"', "quality": b'"medium"'}, 1584),
        ({"size": b'"1024x1024"', "quality": b'"auto"'}, 16_640),
        ({"size": b'"1024x1024"', "quality": b'"low"', "partial_images": b"2"}, 472),
        ({"size": b'"1024x1024"', "quality": b'"low"', "frame_count": b"4"}, 1088),
        ({"quality": b'"low"'}, 2152),
    ],
)
def test_tokens_of_an_image_follow_its_size_and_quality(
    members: dict[str, bytes], tokens: int
) -> None:
    assert image_request_of(raw(**members)).tokens == tokens


def test_count_of_another_server_can_only_raise_the_bound() -> None:
    for number, most in ((b"1", 2), (b"7", 7)):
        asked = image_request_of(raw(n=b"2", num_images=number))
        assert (asked.count, asked.most) == (2, most)


def test_characters_are_code_points() -> None:
    asked = speech_of(raw(input='"añ€😀"'.encode(), response_format=b'"OPUS"'))
    assert (asked.characters, asked.format) == (4, "opus")
