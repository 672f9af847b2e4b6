"""The request of a job: members by every name that gateways give them, and refusals by path."""

from typing import Any

import msgspec
import pytest

from edge.api.jobs.read import image_name, read_callback, read_work
from edge.media.jobs.work import Media
from middlewares.problem import Problem
from middlewares.stores.jobs.base import Kind


def fields(**members: Any) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()}


def read(kind: Kind = "video", more: tuple[str, ...] = (), /, **members: Any) -> Any:
    return read_work(fields(model="m", **members), kind, more)


@pytest.mark.parametrize(
    ("members", "seconds"),
    [
        ({"seconds": 4}, 4.0),
        ({"seconds": "8"}, 8.0),
        ({"duration": 2.5}, 2.5),
        ({"seconds": 4, "duration": 9}, 4.0),
        ({}, 0.0),
    ],
)
def test_length_has_many_names(members: dict[str, Any], seconds: float) -> None:
    assert read(prompt="p", **members).seconds == seconds
    assert read("music", prompt="p", music_length_ms=30_000).seconds == 30.0


@pytest.mark.parametrize(
    ("members", "size"),
    [
        ({"size": "1280x720"}, "1280x720"),
        ({"width": 640, "height": 360}, "640x360"),
        ({"size": "64x64", "width": 1, "height": 1}, "64x64"),
        ({}, ""),
    ],
)
def test_size_may_be_two_numbers(members: dict[str, Any], size: str) -> None:
    assert read(prompt="p", **members).size == size


@pytest.mark.parametrize(
    ("image", "read_as"),
    [
        ("https://i.example/a.png", "https://i.example/a.png"),
        ("data:image/png;base64,AA==", "data:image/png;base64,AA=="),
        ("file-abc", "file:file-abc"),
        ({"file_id": "file-abc"}, "file:file-abc"),
        ({"image_url": "https://i.example/a.png"}, "https://i.example/a.png"),
        ({"url": "https://i.example/a.png"}, "https://i.example/a.png"),
    ],
)
def test_image_has_many_forms(image: Any, read_as: str) -> None:
    for name in ("image", "input_reference"):
        assert read(prompt="p", **{name: image}).media == Media(image=read_as)
    found = read(prompt="p", last_image=image, reference_images=[image, image]).media
    assert found == Media(last_image=read_as, reference_images=(read_as, read_as))


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ({"image": "file-a"}, "image"),
        ({"image": "file-a", "input_reference": "file-b"}, "image"),
        ({"image": None, "input_reference": "file-b"}, "input_reference"),
        ({"input_reference": {"file_id": "file-b"}}, "input_reference"),
        ({"input_reference[file_id]": "file-b"}, "input_reference"),
    ],
)
def test_image_is_named_as_it_was_given(members: dict[str, Any], name: str) -> None:
    assert image_name(fields(**members)) == name


def test_member_of_a_form_may_be_nested() -> None:
    form = {"input_reference[image_url]": "https://i.example/a.png"}
    assert read(prompt="p", **form).media == Media(image="https://i.example/a.png")


def test_music_has_many_names() -> None:
    work = read("music", prompt="p", tags=["slow", "sad"], force_instrumental=True, format="wav")
    assert (work.style, work.instrumental, work.format) == ("slow, sad", True, "wav")
    assert read("music", lyrics="la", is_instrumental=False).instrumental is False


def test_member_that_the_model_lists_passes_and_another_is_refused() -> None:
    assert read("video", ("camera",), prompt="p", camera={"pan": 1}).extra == {"camera": {"pan": 1}}
    with pytest.raises(Problem) as raised:
        read(prompt="p", camera={"pan": 1})
    assert (raised.value.kind, raised.value.param) == ("invalid_request", "camera")
    with pytest.raises(Problem):
        read(prompt="p", lyrics="la")


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"prompt": 5}, "prompt"),
        ({"prompt": "x" * 32_001}, "prompt"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": True}, "seconds"),
        ({"seconds": "long"}, "seconds"),
        ({"duration": 3601}, "duration"),
        ({"n": 2}, "n"),
        ({"size": "720p"}, "size"),
        ({"width": 640}, "height"),
        ({"width": 640, "height": True}, "height"),
        ({"aspect_ratio": "wide"}, "aspect_ratio"),
        ({"resolution": "a b"}, "resolution"),
        ({"seed": 1.5}, "seed"),
        ({"fps": True}, "fps"),
        ({"generate_audio": 1}, "generate_audio"),
        ({"image": 5}, "image"),
        ({"image": {}}, "image"),
        ({"image": {"url": "ftp://x"}}, "image.url"),
        ({"image": "file:///etc/passwd"}, "image"),
        ({"input_reference": 5}, "input_reference"),
        ({"input_reference[url]": "ftp://x"}, "input_reference.url"),
        ({"reference_images": ["https://i.example/a", 5]}, "reference_images[1]"),
        ({"reference_images": ["https://i.example/a"] * 10}, "reference_images"),
    ],
)
def test_invalid_member_is_refused_by_its_path(members: dict[str, Any], param: str) -> None:
    with pytest.raises(Problem) as raised:
        read(**{"prompt": "p", **members})
    assert (raised.value.kind, raised.value.param) == ("invalid_request", param)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"prompt": "x" * 2001}, "prompt"),
        ({"lyrics": "x" * 3501}, "lyrics"),
        ({"format": "midi"}, "format"),
        ({"style": 5}, "style"),
        ({"composition_plan": []}, "composition_plan"),
        ({"instrumental": "yes"}, "instrumental"),
    ],
)
def test_invalid_member_of_music_is_refused_by_its_path(
    members: dict[str, Any], param: str
) -> None:
    with pytest.raises(Problem) as raised:
        read("music", **{"prompt": "p", **members})
    assert raised.value.param == param


def test_callback_is_a_text_within_bounds() -> None:
    assert read_callback(fields(callback_url="https://h.example/x")) == "https://h.example/x"
    assert read_callback(fields(callback_url=None)) == read_callback({}) == ""
    for value in (5, "https://h.example/" + "x" * 9000):
        with pytest.raises(Problem):
            read_callback(fields(callback_url=value))
