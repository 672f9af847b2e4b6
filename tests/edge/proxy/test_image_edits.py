"""POST /v1/images/edits: forms and JSON of callers, forms and JSON to upstreams."""

import io
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import multipart
import pytest

from edge.media.fetch.fetcher import Fetcher
from edge.media.fetch.rules import FetchRules
from edge.media.library import Files
from edge.media.objects import Objects
from edge.proxy.edit_source import EditSource
from edge.upstreams import Request, Response
from middlewares.stores.files.sql import SqlFileStore
from middlewares.stores.responses.sql import SqlSecretStore
from middlewares.stores.sql.database import Database
from tests.asgi import Recorded, request
from tests.edge.media.forms.wire import deleted_files, form, part
from tests.edge.scripted import JSON, Answer, Scripted, ScriptedGateway
from tests.middlewares.stores.sqlite_files import new_sqlite

PATH = "/v1/images/edits"
FORM = {"content-type": "multipart/form-data; boundary=B"}
PIXELS = b64encode(b"\x89PNG\r\n\x1a\n" + bytes(30)).decode()
ASKED: dict[str, Any] = {"model": "painter", "prompt": "a héron", "n": 1, "own": "x"}


def png(number: int, size: int = 3000) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + bytes([number]) * size


class Reading(Scripted):
    """Reads the bodies of requests, as a transport does."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(*answers)
        self.bodies: list[bytes] = []

    async def open(self, request: Request) -> Response:
        body = request.body
        assert body is not None
        whole = body if isinstance(body, bytes) else b"".join([piece async for piece in body])
        assert isinstance(body, bytes) or len(whole) == body.length  # type: ignore[union-attr]
        self.bodies.append(whole)
        return await super().open(request)

    def sent_form(self, number: int = -1) -> tuple[list[tuple[str, str]], list[Any]]:
        """Fields, and files with name, filename, type and bytes, of a request."""
        kind = dict(self.requests[number].headers)[b"content-type"].decode()
        _, options = multipart.parse_options_header(kind)
        body = self.bodies[number]
        parts = list(multipart.MultipartParser(io.BytesIO(body), options["boundary"], len(body)))
        fields = [(one.name, one.value) for one in parts if not one.filename]
        files = [
            (one.name, one.filename, one.content_type, one.raw) for one in parts if one.filename
        ]
        return fields, files

    def sent_json(self, number: int = -1) -> Any:
        assert dict(self.requests[number].headers)[b"content-type"] == b"application/json"
        return json.loads(self.bodies[number])


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[Files]:
    database = await Database.open(new_sqlite(tmp_path / "penstock.db"))
    opened = Files(
        SqlFileStore(database),
        Objects(f"file:{tmp_path}/objects"),
        SqlSecretStore(database),
        max_size=64 << 20,
    )
    yield opened
    await opened.aclose()
    await database.aclose()


@pytest.fixture
async def source(files: Files) -> AsyncIterator[EditSource]:
    fetcher = Fetcher(FetchRules())
    yield EditSource(files, fetcher)
    await fetcher.aclose()


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Any:
    before = deleted_files()
    yield
    assert set(deleted_files()) <= set(before)


def drawn() -> Answer:
    return Answer([json.dumps({"data": [{"b64_json": PIXELS}]}).encode()], headers=[JSON])


def gateway(source: EditSource, *answers: Answer, takes: str = "form", **more: Any) -> Any:
    upstream = {"name": "oai", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"}
    other = {**upstream, "name": "other", "image_edits": "form" if takes == "json" else "json"}
    model = {"id": "painter", "targets": ["oai/x", "other/y"], "price": {"image": "0.04"}}
    document = {
        "server": {"max_body": 1 << 20},
        "upstreams": [{**upstream, "image_edits": takes, **more.pop("upstream", {})}, other],
        "models": [{**model, **more.pop("model", {})}],
        **more,
    }
    return ScriptedGateway(
        Reading(*(answers or (drawn(),))),
        document=document,
        configured=True,
        form_sources={"images": source},
    )


def parts_of(images: int, mask: bool = True, **fields: Any) -> bytes:
    """A form as OpenAI's SDK writes it: fields first, then `image[]` for several."""
    name = "image" if images == 1 else "image[]"
    made = [part(key, str(value).encode()) for key, value in {**ASKED, **fields}.items()]
    made += [part(name, png(n), f"a{n}.png", "image/png") for n in range(images)]
    if mask:
        made.append(part("mask", png(99), "m.png", "image/png"))
    return form(*made)


def url_of(data: bytes) -> str:
    return "data:image/png;base64," + b64encode(data).decode()


async def send_form(home: Any, body: bytes) -> Recorded:
    return await request(home.app, "POST", PATH, headers=FORM, body=body)


@pytest.mark.parametrize("images", [1, 2, 16])
async def test_form_to_a_form(source: EditSource, images: int) -> None:
    """BerriAI/litellm#41625, basketikun/chatgpt2api#18: count, order, names and bytes."""
    home = gateway(source)
    answer = await send_form(home, parts_of(images))
    assert answer.status == 200, answer.text
    assert answer.json()["data"] == [{"b64_json": PIXELS}]
    fields, sent = home.upstream.sent_form()
    assert fields == [("model", "x"), ("prompt", "a héron"), ("n", "1"), ("own", "x")]
    name = "image" if images == 1 else "image[]"
    wanted = [(name, f"a{n}.png", "image/png", png(n)) for n in range(images)]
    assert sent == [*wanted, ("mask", "m.png", "image/png", png(99))]


@pytest.mark.parametrize("images", [1, 2, 16])
async def test_form_to_json(source: EditSource, images: int) -> None:
    home = gateway(source, takes="json")
    nested: dict[str, Any] = {"svg[model]": "m", "svg[reasoning][effort]": "low"}
    body = parts_of(images, stream="false", **nested)
    answer = await send_form(home, body)
    assert answer.status == 200, answer.text
    assert home.upstream.sent_json() == {
        **ASKED,
        "model": "x",
        "stream": False,
        "svg": {"model": "m", "reasoning": {"effort": "low"}},
        "images": [{"image_url": url_of(png(n))} for n in range(images)],
        "mask": {"image_url": url_of(png(99))},
    }


@pytest.mark.parametrize("images", [1, 2, 16])
async def test_json_to_a_form(source: EditSource, images: int) -> None:
    """openclaw/openclaw#118562."""
    home = gateway(source)
    asked = {
        **ASKED,
        "svg": {"model": "m"},
        "tags": ["a", "b"],
        "images": [{"image_url": url_of(png(n))} for n in range(images)],
        "mask": {"image_url": url_of(png(99))},
    }
    answer = await request(home.app, "POST", PATH, json=asked)
    assert answer.status == 200, answer.text
    fields, sent = home.upstream.sent_form()
    assert fields == [
        *[("model", "x"), ("prompt", "a héron"), ("n", "1"), ("own", "x"), ("svg[model]", "m")],
        *[("tags[]", "a"), ("tags[]", "b")],
    ]
    name = "image" if images == 1 else "image[]"
    wanted = [(name, f"image-{n + 1}.png", "image/png", png(n)) for n in range(images)]
    assert sent == [*wanted, ("mask", f"image-{images + 1}.png", "image/png", png(99))]


@pytest.mark.parametrize("images", [1, 16])
async def test_json_to_json(source: EditSource, images: int) -> None:
    home = gateway(source, takes="json")
    given = [{"image_url": url_of(png(n))} for n in range(images)]
    answer = await request(home.app, "POST", PATH, json={**ASKED, "images": given})
    assert answer.status == 200, answer.text
    assert home.upstream.sent_json() == {**ASKED, "model": "x", "images": given}


@pytest.mark.parametrize("takes", ["form", "json"])
@pytest.mark.parametrize("caller", ["form", "json"])
async def test_second_target_gets_all_bytes(source: EditSource, caller: str, takes: str) -> None:
    """openai/openai-python#3771. The second target takes the other form."""
    broken = Answer([b"{}"], status=500, headers=[JSON])
    home = gateway(source, broken, drawn(), takes=takes)
    if caller == "form":
        answer = await send_form(home, parts_of(2, mask=False))
    else:
        given = [{"image_url": url_of(png(n))} for n in range(2)]
        answer = await request(home.app, "POST", PATH, json={**ASKED, "images": given})
    assert answer.status == 200, answer.text
    for number, form_ in enumerate((takes == "form", takes != "form")):
        if form_:
            _, sent = home.upstream.sent_form(number)
            assert [data for *_, data in sent] == [png(0), png(1)]
        else:
            urls = [one["image_url"] for one in home.upstream.sent_json(number)["images"]]
            assert urls == [url_of(png(0)), url_of(png(1))]


@pytest.mark.parametrize("takes", ["form", "json"])
async def test_settings_change_the_forwarded_edit(source: EditSource, takes: str) -> None:
    """Portkey-AI/gateway#1217."""
    home = gateway(
        source,
        takes=takes,
        upstream={"extra_body": {"moderation": "low"}, "drop_body": ["own"]},
        model={"aliases": ["brush"], "drop_params": ["style"]},
    )
    answer = await send_form(
        home, parts_of(1, False, model="brush", style="vivid", response_format="b64_json")
    )
    assert answer.status == 200, answer.text
    if takes == "json":
        sent = home.upstream.sent_json()
        sent.pop("images")
    else:
        sent = dict(home.upstream.sent_form()[0])
        sent["n"] = int(sent["n"])
    assert sent == {"model": "x", "prompt": "a héron", "n": 1, "moderation": "low"}


async def test_file_of_the_caller_is_edited(source: EditSource, files: Files) -> None:
    record = await files.save("127.0.0.1", "a.png", png(7), purpose="vision", limit=None)
    home = gateway(source)
    asked = {**ASKED, "images": [{"file_id": record.id}]}
    answer = await request(home.app, "POST", PATH, json=asked)
    assert answer.status == 200, answer.text
    _, sent = home.upstream.sent_form()
    assert sent == [("image", "image-1.png", "image/png", png(7))]


async def test_file_of_another_owner_is_as_one_that_does_not_exist(
    source: EditSource, files: Files
) -> None:
    record = await files.save("bob", "a.png", png(7), purpose="vision", limit=None)
    answers = []
    for file_id in (record.id, "file-" + "0" * 27):
        home = gateway(source)
        asked = {**ASKED, "images": [{"file_id": file_id}]}
        answer = await request(home.app, "POST", PATH, json=asked)
        answers.append((answer.status, answer.text.replace(file_id, "ID")))
        assert not home.upstream.requests
    assert answers[0] == answers[1]
    assert answers[0][0] == 404


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("image", url_of(png(1))),
        ("image", [url_of(png(1))]),
        ("image", b64encode(png(1)).decode()),
        ("image", [{"url": url_of(png(1))}]),
        ("images", [{"image_url": {"url": url_of(png(1))}}]),
    ],
)
async def test_other_spellings_of_an_image_are_read(
    source: EditSource, member: str, value: Any
) -> None:
    home = gateway(source)
    answer = await request(home.app, "POST", PATH, json={**ASKED, member: value})
    assert answer.status == 200, answer.text
    assert [data for *_, data in home.upstream.sent_form()[1]] == [png(1)]


@pytest.mark.parametrize(
    ("images", "param", "status"),
    [
        (None, "image", 400),
        ([], "image", 400),
        (["data:image/png,abc"], "images[0]", 400),
        ([{"image_url": "data:image/png;base64,!!!!"}], "images[0].image_url", 400),
        ([{"image_url": "data:image/png;base64,"}], "images[0].image_url", 400),
        ([{"image_url": url_of(b"%PDF-1.7 " + bytes(99))}], "images[0].image_url", 400),
        ([{"image_url": "https://10.0.0.1/a.png"}], "images[0].image_url", 400),
        ([{"image_url": 7}], "images[0].image_url", 400),
        ([{"file_id": 7}], "images[0].file_id", 400),
        ([{"other": 7}], "images[0]", 400),
        ([7], "images[0]", 400),
        ([{"image_url": url_of(png(1, 9))}] * 17, "images", 400),
    ],
)
async def test_image_that_cannot_be_read_is_refused_by_its_path(
    source: EditSource, images: Any, param: str, status: int
) -> None:
    home = gateway(source)
    answer = await request(home.app, "POST", PATH, json={**ASKED, "images": images})
    assert (answer.status, answer.json()["error"]["param"]) == (status, param), answer.text
    assert not home.upstream.requests


async def test_seventeen_images_in_a_form_are_refused(source: EditSource) -> None:
    answer = await send_form(gateway(source), parts_of(17))
    assert (answer.status, answer.json()["error"]["param"]) == (400, "image")


async def test_events_of_an_edit_pass(source: EditSource) -> None:
    event = b'data: {"type":"image_edit.completed","b64_json":"aGk="}\n\n'
    home = gateway(source, Answer([event]))
    answer = await send_form(home, parts_of(1, stream="true"))
    assert answer.body == b": x-credits-used 0.04\n" + event
    assert ("stream", "true") in home.upstream.sent_form()[0]


@pytest.mark.parametrize(("spend", "status"), [("0.07", 429), ("0.08", 200)])
async def test_hard_budget_refuses_before_the_upstream_is_asked(
    source: EditSource, spend: str, status: int
) -> None:
    plans = [{"id": "few", "windows": [{"length": "1d", "credits": spend}]}]
    home = gateway(source, auth={"mode": "none", "default_plan": "few"}, plans=plans)
    answer = await send_form(home, parts_of(1, n=2))
    assert answer.status == status, answer.text
    assert len(home.upstream.requests) == (status == 200)


async def test_estimate_counts_the_images_that_are_given(source: EditSource) -> None:
    home = gateway(source, model={"price": {"input": "1", "output": "1"}})
    await home.ledger_writer.start()
    await send_form(home, parts_of(2, mask=False, size="1024x1024", quality="low"))
    await home.ledger_writer.aclose()
    (entry,) = await home.ledger.page()
    assert entry.input > 2 * 4000 and entry.output == 272 and not entry.measured
    assert entry.endpoint == "images.edits"
