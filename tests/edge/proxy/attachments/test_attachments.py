"""Files and links of a conversation, written as each target takes them."""

import json
from base64 import b64decode, b64encode
from typing import Any

import msgspec
import pytest

from edge.dialects.codec import TargetModel
from edge.endpoints import BY_NAME
from edge.media.fetch.downloads import Download
from edge.media.library import Files
from edge.media.part import MediaPart
from edge.media.parts import find_media, replace_media
from edge.media.resolve import Resolver
from edge.proxy.attachments.attachments import Attachments
from edge.proxy.attachments.vendor_files import VendorFiles
from edge.upstreams.provider import Provider
from middlewares.exchange import Dialect, Exchange, Principal
from middlewares.problem import Problem
from middlewares.stores.sql.database import Database
from middlewares.stores.vendor_files.sql import SqlVendorFileStore
from middlewares.uploads import Upload, Uploads

from .conftest import Clock
from .vendor import Vendor

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
PDF = b"%PDF-1.4\n" + bytes(range(256))
WAV = b"RIFF\x24\0\0\0WAVEfmt " + bytes(64)
TEXT = "größer\n".encode()
URL = "https://cdn.example/x?sig=SECRET"
CONTENTS = {"png": PNG, "pdf": PDF, "wav": WAV, "txt": TEXT}
ROWS: dict[str, str] = {
    "openai": "chat.completions",
    "responses": "responses",
    "anthropic": "messages",
}
MODEL = TargetModel(model="m")


class Served(Resolver):
    """A resolver whose links lead to `served`."""

    served: dict[str, bytes]

    async def fetch(self, owner: str | None, url: str, **options: Any) -> Download:
        content = self.served.get(url)
        if content is None:
            raise Problem("invalid_request", message="not fetched", param=options["param"])
        assert len(content) <= options["limit"]
        download = Download()
        await download.write(content)
        await download.finish()
        return download


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


class Bench:
    """Attachments, with one file of each kind that alice has."""

    def __init__(self, attachments: Attachments, vendor: Vendor, ids: dict[str, str]) -> None:
        self.attachments = attachments
        self.vendor = vendor
        self.ids = ids
        self.uploads = Uploads(total=1 << 20, each=1 << 20)

    def exchange(self, body: dict[str, Any], caller: Dialect, owner: str = "alice") -> Exchange:
        exchange = Exchange(dialect=caller, row=BY_NAME[ROWS[caller]], request_id="r1")
        exchange.principal = Principal(id=owner)
        exchange.fields = {
            name: msgspec.Raw(json.dumps(one).encode()) for name, one in body.items()
        }
        exchange.upload = Upload(self.uploads, owner)
        return exchange

    async def sent(
        self,
        parts: list[dict[str, Any]],
        caller: Dialect,
        target: Dialect,
        *,
        owner: str = "alice",
        **options: Any,
    ) -> list[dict[str, Any]]:
        """The parts as they are sent to a target."""
        member = "input" if caller == "responses" else "messages"
        body = {member: [{"role": "user", "content": parts}]}
        exchange = self.exchange(body, caller, owner)
        written = await self.resolve(exchange, target, **options)
        fields = replace_media(exchange.fields, written)
        found: list[dict[str, Any]] = json.loads(bytes(fields[member]))[0]["content"]
        return found

    async def resolve(
        self, exchange: Exchange, target: Dialect, **options: Any
    ) -> dict[MediaPart, msgspec.Raw]:
        provider = Provider(
            name="up",
            upstream=self.vendor,
            dialects=frozenset((target,)),
            base_url="https://up.example/v1",
            base_path=b"/v1",
            **options,
        )
        found = find_media(exchange.fields)
        parts = [(await self.attachments.identify(one, exchange)).part for one in found]
        return dict(await self.attachments.resolve(parts, exchange, MODEL, provider))


@pytest.fixture
async def bench(files: Files, database: Database, clock: Clock, vendor: Vendor) -> Bench:
    ids = {}
    for name, content in CONTENTS.items():
        record = await files.save("alice", f"a.{name}", content, purpose="user_data", limit=None)
        ids[name] = record.id
    resolver = Served(files, None)  # type: ignore[arg-type]
    resolver.served = {URL: PNG, f"{URL}&pdf": PDF}
    copies = VendorFiles(files, SqlVendorFileStore(database), clock=clock)
    attachments = Attachments(resolver, copies, file_limit=2000, request_limit=3000)
    return Bench(attachments, vendor, ids)


def data_url(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{b64encode(content).decode()}"


CACHED = {"cache_control": {"type": "ephemeral"}}
IMAGE = data_url(PNG, "image/png")
DOCUMENT = data_url(PDF, "application/pdf")

INLINE: list[tuple[Dialect, str, dict[str, Any], dict[str, Any]]] = [
    (
        "openai",
        "pdf",
        {"type": "file", "file": {"file_id": "ID"}, **CACHED},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": DOCUMENT}, **CACHED},
    ),
    (
        "openai",
        "png",
        {"type": "file", "file": {"file_id": "ID"}},
        {"type": "image_url", "image_url": {"url": IMAGE}},
    ),
    (
        "openai",
        "png",
        {"type": "image_url", "image_url": {"file_id": "ID", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
    ),
    (
        "openai",
        "wav",
        {"type": "file", "file": {"file_id": "ID"}},
        {
            "type": "input_audio",
            "input_audio": {"data": b64encode(WAV).decode(), "format": "wav"},
        },
    ),
    (
        "openai",
        "txt",
        {"type": "file", "file": {"file_id": "ID", "filename": "n.txt"}},
        {"type": "text", "text": "n.txt\ngrößer\n"},
    ),
    (
        "openai",
        "png",
        {"type": "input_image", "file_id": "ID", "detail": "high"},
        {"type": "image_url", "image_url": {"url": IMAGE, "detail": "high"}},
    ),
    (
        "openai",
        "pdf",
        {"type": "input_file", "file_id": "ID"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": DOCUMENT}},
    ),
    (
        "responses",
        "png",
        {"type": "input_image", "file_id": "ID", "detail": "high"},
        {"type": "input_image", "image_url": IMAGE, "detail": "high"},
    ),
    (
        "responses",
        "pdf",
        {"type": "input_file", "file_id": "ID"},
        {"type": "input_file", "filename": "a.pdf", "file_data": DOCUMENT},
    ),
    (
        "responses",
        "txt",
        {"type": "input_file", "file_id": "ID"},
        {"type": "input_text", "text": "a.txt\ngrößer\n"},
    ),
    (
        "anthropic",
        "png",
        {"type": "image", "source": {"type": "file", "file_id": "ID"}, **CACHED},
        {
            "type": "image",
            "source": {
                "type": "base64",
                "media_type": "image/png",
                "data": b64encode(PNG).decode(),
            },
            **CACHED,
        },
    ),
    (
        "anthropic",
        "pdf",
        {
            "type": "document",
            "source": {"type": "file", "file_id": "ID"},
            "title": "T",
            "context": "C",
            "citations": {"enabled": True},
        },
        {
            "type": "document",
            "source": {
                "type": "base64",
                "media_type": "application/pdf",
                "data": b64encode(PDF).decode(),
            },
            "title": "T",
            "context": "C",
            "citations": {"enabled": True},
        },
    ),
    (
        "anthropic",
        "txt",
        {"type": "document", "source": {"type": "file", "file_id": "ID"}},
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": TEXT.decode()},
        },
    ),
]


def named(part: dict[str, Any], file_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(part).replace('"ID"', json.dumps(file_id)))
    return found


@pytest.mark.parametrize("target", ["openai", "responses", "anthropic"])
@pytest.mark.parametrize(("caller", "kind", "part", "expected"), INLINE)
async def test_a_file_is_sent_inline_in_the_form_of_its_part(
    bench: Bench,
    caller: Dialect,
    kind: str,
    part: dict[str, Any],
    expected: dict[str, Any],
    target: Dialect,
) -> None:
    given = [{"type": "text", "text": "x"}, named(part, bench.ids[kind]), {"type": "text"}]
    sent = await bench.sent(given, caller, target)
    assert sent == [given[0], expected, given[2]]
    assert not bench.vendor.requests


BY_ID: list[tuple[Dialect, Dialect, str, dict[str, Any], dict[str, Any]]] = [
    (
        "openai",
        "openai",
        "pdf",
        {"type": "file", "file": {"file_id": "ID", "filename": "x"}},
        {"type": "file", "file": {"file_id": "vendor-1"}},
    ),
    (
        "openai",
        "anthropic",
        "png",
        {"type": "file", "file": {"file_id": "ID"}},
        {"type": "image", "source": {"type": "file", "file_id": "vendor-1"}},
    ),
    (
        "responses",
        "responses",
        "png",
        {"type": "input_image", "file_id": "ID", "detail": "low"},
        {"type": "input_image", "file_id": "vendor-1", "detail": "low"},
    ),
    (
        "responses",
        "anthropic",
        "pdf",
        {"type": "input_file", "file_id": "ID"},
        {"type": "input_file", "file_id": "vendor-1"},
    ),
    (
        "anthropic",
        "anthropic",
        "pdf",
        {"type": "document", "source": {"type": "file", "file_id": "ID"}, "title": "T", **CACHED},
        {
            "type": "document",
            "source": {"type": "file", "file_id": "vendor-1"},
            "title": "T",
            **CACHED,
        },
    ),
    (
        "anthropic",
        "responses",
        "png",
        {"type": "image", "source": {"type": "file", "file_id": "ID"}},
        {"type": "image", "source": {"type": "file", "file_id": "vendor-1"}},
    ),
]


@pytest.mark.parametrize(("caller", "target", "kind", "part", "expected"), BY_ID)
async def test_a_file_is_sent_as_a_file_of_the_vendor_that_keeps_files(
    bench: Bench,
    caller: Dialect,
    target: Dialect,
    kind: str,
    part: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    for _ in range(2):
        sent = await bench.sent([named(part, bench.ids[kind])], caller, target, files=True)
        assert sent == [expected]
    assert bench.vendor.files == {"vendor-1": CONTENTS[kind]}


async def test_an_image_is_inline_for_chat_which_has_none_by_id(bench: Bench) -> None:
    part = {"type": "file", "file": {"file_id": bench.ids["png"]}}
    (sent,) = await bench.sent([part], "openai", "openai", files=True)
    assert sent["image_url"]["url"] == IMAGE
    assert not bench.vendor.requests


async def test_a_file_is_inline_where_the_vendor_does_not_take_it(bench: Bench) -> None:
    bench.vendor.refuses = 400
    part = {"type": "input_file", "file_id": bench.ids["pdf"]}
    (sent,) = await bench.sent([part], "responses", "responses", files=True)
    assert sent["file_data"] == DOCUMENT


@pytest.mark.parametrize(
    ("caller", "target", "part"),
    [
        ("openai", "openai", {"type": "image_url", "image_url": {"url": URL}}),
        ("openai", "anthropic", {"type": "image_url", "image_url": {"url": URL}}),
        ("responses", "responses", {"type": "input_file", "file_url": URL}),
        ("anthropic", "anthropic", {"type": "document", "source": {"type": "url", "url": URL}}),
    ],
)
async def test_a_link_stays_for_a_target_that_takes_it(
    bench: Bench, caller: Dialect, target: Dialect, part: dict[str, Any]
) -> None:
    assert await bench.sent([part], caller, target) == [part]


@pytest.mark.parametrize(
    ("caller", "target", "part", "fetches", "expected"),
    [
        (
            "openai",
            "openai",
            {"type": "image_url", "image_url": {"url": URL}},
            False,
            {"type": "image_url", "image_url": {"url": IMAGE}},
        ),
        (
            "openai",
            "openai",
            {"type": "file", "file": {"file_id": URL}},
            True,
            {"type": "image_url", "image_url": {"url": IMAGE}},
        ),
        (
            "openai",
            "openai",
            {"type": "file", "file": {"file_id": f"{URL}&pdf"}},
            True,
            {"type": "file", "file": {"filename": "document.pdf", "file_data": DOCUMENT}},
        ),
        (
            "responses",
            "openai",
            {"type": "input_file", "file_url": f"{URL}&pdf"},
            True,
            {"type": "input_file", "filename": "document.pdf", "file_data": DOCUMENT},
        ),
        (
            "anthropic",
            "openai",
            {"type": "document", "source": {"type": "url", "url": f"{URL}&pdf"}},
            True,
            {
                "type": "document",
                "source": {
                    "type": "base64",
                    "media_type": "application/pdf",
                    "data": b64encode(PDF).decode(),
                },
            },
        ),
    ],
)
async def test_a_link_is_fetched_where_the_target_takes_none(
    bench: Bench,
    caller: Dialect,
    target: Dialect,
    part: dict[str, Any],
    fetches: bool,
    expected: dict[str, Any],
) -> None:
    assert await bench.sent([part], caller, target, fetches_urls=fetches) == [expected]


async def test_parts_in_results_of_tools_are_written_too(bench: Bench) -> None:
    image = {"type": "image", "source": {"type": "file", "file_id": bench.ids["png"]}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image]}
    (sent,) = await bench.sent([result], "anthropic", "anthropic")
    assert b64decode(sent["content"][0]["source"]["data"]) == PNG
    output = {
        "type": "function_call_output",
        "call_id": "c",
        "output": [{"type": "input_file", "file_id": bench.ids["pdf"]}],
    }
    exchange = bench.exchange({"input": [output]}, "responses")
    fields = replace_media(exchange.fields, await bench.resolve(exchange, "responses"))
    assert json.loads(bytes(fields["input"]))[0]["output"][0]["file_data"] == DOCUMENT


PARTS: list[tuple[Dialect, dict[str, Any], str]] = [
    ("openai", {"type": "file", "file": {"file_id": "ID"}}, ".content[0].file.file_id"),
    ("responses", {"type": "input_file", "file_id": "ID"}, ".content[0].file_id"),
    ("responses", {"type": "input_image", "file_id": "ID"}, ".content[0].file_id"),
    (
        "anthropic",
        {"type": "image", "source": {"type": "file", "file_id": "ID"}},
        ".content[0].source.file_id",
    ),
    (
        "anthropic",
        {"type": "document", "source": {"type": "file", "file_id": "ID"}},
        ".content[0].source.file_id",
    ),
]


@pytest.mark.parametrize(("caller", "part", "path"), PARTS)
async def test_a_file_of_another_is_answered_like_one_that_does_not_exist(
    bench: Bench, caller: Dialect, part: dict[str, Any], path: str
) -> None:
    seen = []
    for file_id in (bench.ids["png"], "file-" + "0" * 27, "file_vendor", "../x", "x" * 65, "ü"):
        for files in (False, True):
            with pytest.raises(Problem) as raised:
                part_ = named(part, file_id)
                await bench.sent([part_], caller, caller, owner="bob", files=files)
            problem = raised.value
            message = (problem.message or "").replace(file_id, "ID")
            seen.append((problem.kind, message, problem.issue, problem.extra))
            assert (problem.param or "").endswith(path)
    assert {one[0] for one in seen} == {"not_found"}
    assert len(set(map(str, seen[:2]))) == len(set(map(str, seen[:6]))) == 1
    assert not bench.vendor.requests


async def test_a_caller_without_an_identity_has_no_files(bench: Bench) -> None:
    for owner in ("", "unknown"):
        with pytest.raises(Problem) as raised:
            part = {"type": "input_file", "file_id": bench.ids["pdf"]}
            await bench.sent([part], "responses", "responses", owner=owner)
        assert raised.value.kind == "not_found"


async def test_files_over_the_limits_are_refused_by_their_path(bench: Bench, files: Files) -> None:
    large = await files.save("alice", "b.pdf", PDF * 8, purpose="user_data", limit=None)
    many = [{"type": "input_file", "file_id": bench.ids["pdf"]}] * 12
    for parts, path in (
        ([{"type": "input_file", "file_id": large.id}], "input[0].content[0].file_id"),
        (many, "input[0].content[11].file_id"),
    ):
        with pytest.raises(Problem) as raised:
            await bench.sent(parts, "responses", "responses")
        assert (raised.value.kind, raised.value.param) == ("invalid_request", path)


async def test_in_older_turns_a_note_stands_for_what_is_gone(bench: Bench) -> None:
    gone = {"type": "image_url", "image_url": {"url": "https://gone.example/"}}
    lost = {"type": "file", "file": {"file_id": "file-0"}}
    turns = [
        {"role": "user", "content": [gone, lost]},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "y"},
    ]
    exchange = bench.exchange({"messages": turns}, "openai")
    written = await bench.resolve(exchange, "openai", fetches_urls=False)
    fields = replace_media(exchange.fields, written)
    texts = [part["text"] for part in json.loads(bytes(fields["messages"]))[0]["content"]]
    assert texts == ["(this image could not be read)", "(this document could not be read)"]
    exchange = bench.exchange({"messages": turns[:1]}, "openai")
    with pytest.raises(Problem):
        await bench.resolve(exchange, "openai", fetches_urls=False)


async def test_of_many_links_the_newest_are_fetched(bench: Bench) -> None:
    links = [{"type": "image_url", "image_url": {"url": URL}}] * 60
    turns = [
        {"role": "user", "content": links},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": links},
    ]
    bench.attachments = Attachments(
        bench.attachments.resolver, bench.attachments.vendor_files, request_limit=1 << 20
    )
    exchange = bench.exchange({"messages": turns}, "openai")
    exchange.upload = None
    written = await bench.resolve(exchange, "openai", fetches_urls=False)
    messages = json.loads(bytes(replace_media(exchange.fields, written)["messages"]))
    kinds = [part["type"] for message in messages[::2] for part in message["content"]]
    assert kinds == ["text"] * 20 + ["image_url"] * 100
    exchange = bench.exchange({"messages": [{"role": "user", "content": links * 2}]}, "openai")
    with pytest.raises(Problem) as raised:
        await bench.resolve(exchange, "openai", fetches_urls=False)
    assert raised.value.param == "messages[0].content[0].image_url.url"


async def test_bytes_sent_inline_count_as_body_once_for_all_attempts(bench: Bench) -> None:
    part = {"type": "input_image", "file_id": bench.ids["png"]}
    body = {"input": [{"role": "user", "content": [part]}]}
    exchange = bench.exchange(body, "responses")
    for _ in range(3):
        await bench.resolve(exchange, "responses")
        assert bench.uploads.held == exchange.attached == 4 * ((len(PNG) + 2) // 3)
    assert exchange.upload is not None
    exchange.upload.close()
    assert bench.uploads.held == 0


async def test_without_room_for_the_bytes_the_target_is_not_blamed(bench: Bench) -> None:
    bench.uploads = Uploads(total=64, each=64)
    busy = Upload(bench.uploads, "bob")
    busy.add(60)
    part = {"type": "input_image", "file_id": bench.ids["png"]}
    with pytest.raises(Problem) as raised:
        await bench.sent([part], "responses", "responses")
    assert raised.value.kind == "upstream_unavailable"
    assert not raised.value.held


async def test_audio_is_refused_in_messages_which_have_none(bench: Bench) -> None:
    part = {"type": "document", "source": {"type": "file", "file_id": bench.ids["wav"]}}
    with pytest.raises(Problem) as raised:
        await bench.sent([part], "anthropic", "anthropic")
    assert raised.value.kind == "audio_not_supported_by_model"


async def test_load_gives_the_bytes_to_a_describer(bench: Bench) -> None:
    link = {"type": "image_url", "image_url": {"url": URL}}
    file = {"type": "file", "file": {"file_id": bench.ids["pdf"]}}
    exchange = bench.exchange({"messages": [{"role": "user", "content": [link, file]}]}, "openai")
    image, document = find_media(exchange.fields)
    assert (await bench.attachments.load(image, exchange, 1000)).content == PNG
    loaded = await bench.attachments.load(document, exchange, 1000)
    assert (loaded.content, loaded.name) == (PDF, "a.pdf")
    with pytest.raises(Problem):
        await bench.attachments.load(document, exchange, 10)
    known = await bench.attachments.identify(document, exchange)
    assert (known.part.kind, known.part.media_type) == ("document", "application/pdf")
    assert len(known.digest) == 32
    assert (await bench.attachments.identify(image, exchange)).part is image
