"""Forms at the intake: what is read, refused and deleted."""

import json
from typing import Any

import msgspec
import pytest

from edge.config.load import parse
from edge.endpoints import Endpoint, FormRules
from edge.media.forms import Form
from edge.proxy.intake import IntakeMiddleware
from edge.routing.catalog import Catalog
from middlewares import ErrorsMiddleware, Exchange, Principal
from middlewares.asgi import Receive, Scope, Send
from middlewares.idempotency.middleware import members
from middlewares.uploads import Uploads
from tests.asgi import Headers, Recorded, request
from tests.edge.media.forms.wire import deleted_files, form, part
from tests.edge.scripted import DOCUMENT

ROW = Endpoint(
    name="added",
    methods=("POST",),
    path="/v1/added",
    dialect="openai",
    body="multipart",
    billed="tokens",
    handler="forward",
    codec="object",
    required=("file", "url"),
    streams=True,
    form=FormRules(files={"file": 1}, size="audio", types={"stream": bool, "n": int}, json=True),
    upstream_path=b"/added",
    documented="what a test adds",
)
ONLY_FORM = msgspec.structs.replace(ROW, form=FormRules(files={"file": 1}, size="audio"))
STREAMED = msgspec.structs.replace(
    ROW, body="streamed", form=None, billed="free", codec=None, required=()
)
LIMIT = 1 << 20
FORM = ("content-type", "multipart/form-data; boundary=B")


class Inside:
    """The app inside: keeps what it sees of each exchange, and what is open meanwhile."""

    def __init__(self) -> None:
        self.seen: list[Exchange] = []
        self.read: list[bytes] = []
        self.open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        self.seen.append(exchange)
        self.open = len(deleted_files())
        if isinstance(exchange.form, Form):
            self.read += [await file.spool.read() for file in exchange.form.files()]
        if exchange.model == "m1-alias":
            raise RuntimeError("it breaks inside")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Door:
    """The intake with an endpoint already found."""

    def __init__(self, row: Endpoint = ROW) -> None:
        self.inside = Inside()
        self.exchange = Exchange()
        self.uploads = Uploads(total=1 << 20, each=1 << 20)
        self.intake = IntakeMiddleware(
            self.inside,
            catalog=Catalog.build(parse(DOCUMENT)),
            limit=1000,
            idle=5,
            uploads=self.uploads,
            endpoints=[row],
            file_sizes={"audio": LIMIT},
        )

        async def routed(scope: Scope, receive: Receive, send: Send) -> None:
            exchange = self.exchange = Exchange.of(scope)
            exchange.row = row
            exchange.principal = Principal("p")
            await self.intake(scope, receive, send)

        self.app = ErrorsMiddleware(routed)

    async def post(self, body: bytes, *headers: tuple[str, str]) -> Recorded:
        found: Headers = [(n.encode(), v.encode()) for n, v in headers or (FORM,)]
        return await request(self.app, "POST", "/", headers=found, body=body)


def error_of(answer: Recorded) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    return error


async def test_intake_form_model_after_the_file_is_found() -> None:
    door = Door()
    data = bytes(range(256)) * 3000
    whole = form(
        part("file", data, "a.wav"),
        part("n", b"2"),
        part("stream", b"true"),
        part("tag[]", b"x"),
        part("model", b"m1"),
    )
    before = deleted_files()
    assert (await door.post(whole)).status == 204
    exchange = door.inside.seen[0]
    assert (exchange.model, exchange.stream, exchange.media) == ("m1", True, True)
    assert {name: json.loads(bytes(raw)) for name, raw in exchange.fields.items()} == {
        "model": "m1",
        "n": 2,
        "stream": True,
        "tag": ["x"],
    }
    assert exchange.estimate > 0
    assert exchange.resolved[0].id == "m1"
    assert door.inside.read == [data]
    assert door.inside.open == len(before) + 1
    assert deleted_files() == before
    assert door.uploads.held == 0


@pytest.mark.parametrize(
    "parts",
    [
        (part("file", b"x" * 300_000, "a"), part("model", b"unknown")),
        (part("file", b"x" * 300_000, "a"),),
        (part("file", b"x" * 300_000, "a"), part("model", b"m1"), part("file", b"y", "b")),
        (part("file", b"x" * 300_000, "a"), part("model", b"m1-alias")),  # it breaks inside
        (part("file", b"x" * 300_000, "a"), part("model", b"m1"), part("stream", b"perhaps")),
    ],
    ids=["unknown model", "no model", "two files", "crash inside", "bad flag"],
)
async def test_intake_form_that_fails_leaves_no_file(parts: tuple[bytes, ...]) -> None:
    door = Door()
    before = deleted_files()
    assert (await door.post(form(*parts))).status >= 400
    assert deleted_files() == before
    assert door.uploads.held == 0


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ((part("model", b"m1"),), "file"),
        ((part("model", b"m1"), part("file", b"", "a.wav")), "file"),
        ((part("model", b"m1"), part("model", b"m1"), part("file", b"x", "a")), "model"),
    ],
)
async def test_intake_form_without_what_it_needs_is_refused_by_name(
    parts: tuple[bytes, ...], param: str
) -> None:
    answer = await Door().post(form(*parts))
    assert (answer.status, error_of(answer)["param"]) == (400, param)


async def test_intake_form_file_over_the_bound_is_413() -> None:
    answer = await Door().post(form(part("file", b"x" * (LIMIT + 1), "a"), part("model", b"m1")))
    assert (answer.status, error_of(answer)["param"]) == (413, "file")


async def test_intake_json_where_it_may_come_has_no_form() -> None:
    door = Door()
    body = b'{"model": "m1", "url": "https://x.test/a.wav"}'
    answer = await door.post(body, ("content-type", "application/json"))
    assert answer.status == 204
    assert door.inside.seen[0].form is None
    assert bytes(door.inside.seen[0].fields["url"]) == b'"https://x.test/a.wav"'


@pytest.mark.parametrize(
    ("row", "kind", "said"),
    [
        (ONLY_FORM, "application/json", "must be a form: send `content-type: multipart/form-data`"),
        (ONLY_FORM, None, "must be a form"),
        (ROW, "text/plain", "a form or JSON"),
        (ROW, "application/x-www-form-urlencoded", "or `application/json`"),
    ],
)
async def test_intake_form_of_another_type_says_which_is_expected(
    row: Endpoint, kind: str | None, said: str
) -> None:
    headers = (("content-type", kind),) if kind else (("accept", "*/*"),)
    answer = await Door(row).post(b'{"model": "m1"}', *headers)
    assert (answer.status, error_of(answer)["param"]) == (415, "content-type")
    assert said in error_of(answer)["message"]


async def test_intake_streamed_body_is_left_to_its_handler() -> None:
    taken: list[object] = []

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        taken.append(await receive())
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    door = Door(STREAMED)
    door.intake.app = handler
    assert (await door.post(b"abc", ("content-type", "image/png"))).status == 204
    assert taken == [{"type": "http.request", "body": b"abc", "more_body": False}]
    assert not door.exchange.body_read


async def test_fingerprint_of_a_form_depends_on_fields_and_files_not_on_its_boundary() -> None:
    prints = []

    async def printing(scope: Scope, receive: Receive, send: Send) -> None:
        prints.append(members(scope, Exchange.of(scope)))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    door = Door()
    door.intake.app = printing
    model, file = part("model", b"m1"), part("file", b"abc", "a.wav")
    await door.post(form(model, file))
    await door.post(
        form(file, model, boundary=b"other"),
        ("content-type", "multipart/form-data; boundary=other"),
    )
    await door.post(form(model, part("file", b"abd", "a.wav")))
    await door.post(form(model, part("n", b"1"), file))
    assert prints[0] is not None
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
