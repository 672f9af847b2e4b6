"""Images of the simulator: made, edited, streamed, refused."""

import io
import json
from base64 import b64decode, b64encode
from typing import Any

import pytest
from PIL import Image

from edge.upstreams import Request
from edge.upstreams.simulator import SimulatorServer, SimulatorUpstream
from edge.upstreams.simulator.media.pictures import FORMATS
from tests.edge.upstreams.simulated import ask, ask_json, events, exchange, post, until, whole
from tests.edge.upstreams.simulator.media.forms import form

GENERATIONS = b"/v1/images/generations"
EDITS = b"/v1/images/edits"
PICTURE = FORMATS["png"](32, 16, bytes(range(32)), "")


def wanted(prompt: str = "A gate", **fields: Any) -> dict[str, Any]:
    return {"model": "sim-image", "prompt": prompt, **fields}


def size_of(encoded: str) -> tuple[int, int]:
    with Image.open(io.BytesIO(b64decode(encoded))) as image:
        image.load()
        return image.size


def test_images_are_pictures_of_the_wanted_size_and_differ() -> None:
    answer = ask_json(post(GENERATIONS, wanted(n=2, size="512x256")))
    assert [size_of(item["b64_json"]) for item in answer["data"]] == [(512, 256)] * 2
    assert answer["data"][0]["b64_json"] != answer["data"][1]["b64_json"]
    assert answer["size"] == "512x256" and answer["output_format"] == "png"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
    assert answer == ask_json(post(GENERATIONS, wanted(n=2, size="512x256")))


@pytest.mark.parametrize("name", ["jpeg", "webp", "gif"])
def test_images_have_the_wanted_format(name: str) -> None:
    answer = ask_json(post(GENERATIONS, wanted(output_format=name)))
    with Image.open(io.BytesIO(b64decode(answer["data"][0]["b64_json"]))) as image:
        assert (image.format or "").lower() == name


def test_url_of_an_image_leads_to_its_pixels() -> None:
    linked = ask_json(post(GENERATIONS, wanted(response_format="url", n=2)))["data"]
    path = linked[1]["url"].removeprefix("https://simulator.invalid").encode()
    found = ask(Request(b"GET", path, (), b""))
    assert (b"content-type", b"image/png") in found.headers
    assert size_of(b64encode(whole(found)).decode()) == (1024, 1024)


def test_stream_of_images_has_partials_and_the_usage_of_the_whole() -> None:
    found = ask(post(GENERATIONS, wanted(stream=True, partial_images=2, n=2)))
    said = events(whole(found))
    kinds = [event["type"].rpartition(".")[2] for event in said]
    assert kinds == ["partial_image", "partial_image", "completed"] * 2
    assert [e["partial_image_index"] for e in said if "partial_image_index" in e] == [0, 1] * 2
    plain = ask_json(post(GENERATIONS, wanted(n=2)))["usage"]
    done = [event["usage"] for event in said if event["type"] == "image_generation.completed"]
    assert sum(usage["total_tokens"] for usage in done) == plain["total_tokens"]
    assert b"event: image_generation.completed\n" in whole(found)


@pytest.mark.parametrize("name", ["image", "image[]"])
@pytest.mark.parametrize("count", [1, 2, 16])
def test_edit_by_a_form_says_which_images_came(count: int, name: str) -> None:
    files = [(name, f"{n}.png", "image/png", PICTURE) for n in range(count)]
    mask = ("mask", "mask.png", "image/png", PICTURE)
    answer = ask_json(form(EDITS, {"model": "sim-image", "prompt": "Bluer"}, [*files, mask]))
    revised = answer["data"][0]["revised_prompt"]
    assert revised.startswith(f"Bluer ({count} images: image/png 32x16 {len(PICTURE)} bytes ")
    assert "; mask: image/png 32x16" in revised
    assert answer["usage"]["input_tokens_details"]["image_tokens"] == 85 * count


def test_edit_by_json_takes_links_and_data() -> None:
    data = f"data:image/png;base64,{b64encode(PICTURE).decode()}"
    images = [{"image_url": data}, {"image_url": "https://example.com/a.png"}]
    answer = ask_json(post(EDITS, wanted(images=images)))
    assert "2 images: image/png 32x16" in answer["data"][0]["revised_prompt"]
    assert "a link" in answer["data"][0]["revised_prompt"]


REFUSED = [
    ({"n": 11}, "n"),
    ({"size": "big"}, "size"),
    ({"size": "9000x16"}, "size"),
    ({"response_format": "bytes"}, "response_format"),
    ({"prompt": ""}, "prompt"),
    ({"model": None}, "model"),
    (
        {"prompt": "[[sim refuse=response_format]]", "response_format": "b64_json"},
        "response_format",
    ),
    ({"prompt": "[[sim refuse=output_format:gif]]", "output_format": "gif"}, "output_format"),
    ({"prompt": "[[sim strict=1]]", "size": "100x100"}, "size"),
]


@pytest.mark.parametrize(("fields", "param"), REFUSED)
def test_images_with_an_impossible_field_are_refused(fields: dict[str, Any], param: str) -> None:
    found = ask(post(GENERATIONS, {**wanted(), **fields}))
    assert found.status == 400
    assert json.loads(whole(found))["error"]["param"] == param


def test_edit_without_an_image_with_17_or_with_text_is_refused() -> None:
    fields = {"model": "sim-image", "prompt": "Bluer"}
    for files in (
        [],
        [("image[]", "a.png", "image/png", PICTURE)] * 17,
        [("image", "a.png", "image/png", b"no picture")],
        [("image", "a.png", "image/png", b"")],
    ):
        assert ask(form(EDITS, fields, files)).status == 400


def test_form_without_a_boundary_or_an_end_is_refused() -> None:
    good = form(EDITS, {"prompt": "x", "model": "y"}, [])
    assert isinstance(good.body, bytes)
    bare = ((b"content-type", b"multipart/form-data"),)
    for request in (
        Request(b"POST", EDITS, bare, good.body),
        Request(b"POST", EDITS, good.headers, good.body[:-8]),
        Request(b"POST", EDITS, good.headers, b"no form at all"),
    ):
        found = ask(request)
        assert found.status == 400
        assert b"multipart form" in whole(found)


def test_images_as_a_form_are_an_unsupported_content_type() -> None:
    assert ask(form(GENERATIONS, wanted(), [])).status == 415


async def test_form_in_pieces_is_counted_in_process_and_by_the_server() -> None:
    request = form(EDITS, wanted(), [("image", "a.png", "image/png", PICTURE)])
    assert isinstance(request.body, bytes)
    body = request.body

    async def pieces() -> Any:
        for at in range(0, len(body), 7):
            yield body[at : at + 7]

    upstream = SimulatorUpstream()
    response = await upstream.open(Request(b"POST", EDITS, request.headers, pieces()))
    found = await response.read()
    async with SimulatorServer() as server:
        assert (await exchange(server, request))[:2] == (200, found)
        assert server.stats.images == upstream.stats.images == 1
        await until(lambda: server.stats.connections == 0)
