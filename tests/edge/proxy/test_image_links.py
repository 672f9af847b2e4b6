"""Images as links of this gateway, over a real folder and a real database."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import pytest

from edge.media.fetch.fetcher import Fetcher
from edge.media.fetch.rules import FetchRules
from edge.media.library import Files
from edge.media.objects import Objects
from edge.proxy import long_strings
from edge.proxy.image_links import ImageLinks
from edge.upstreams import Request
from middlewares.stores.files.sql import SqlFileStore
from middlewares.stores.responses.sql import SqlSecretStore
from middlewares.stores.sql.database import Database
from tests.asgi import request
from tests.edge.scripted import JSON, Answer, Scripted, ScriptedGateway
from tests.middlewares.stores.sqlite_files import new_sqlite

PATH = "/v1/images/generations"
ASKED = {"model": "painter", "prompt": "a gate", "response_format": "url"}
OURS = "https://gate.example"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 1200
VENDOR = "https://files.vendor.example/a.png?sig=secret"


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
async def vendor() -> AsyncIterator[int]:
    """The port of a server that has the image at every path."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = b"<html>" if b"/page" in head else PNG
        said = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(said.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def fetcher(vendor: int) -> AsyncIterator[Fetcher]:
    rules = FetchRules(http=True, ports=(vendor,), allowed=(ip_network("127.0.0.1/32"),))
    opened = Fetcher(rules)
    yield opened
    await opened.aclose()


def drawn(*images: dict[str, Any]) -> Answer:
    return Answer([json.dumps({"created": 1, "data": images}).encode()], headers=[JSON])


def gateway(
    files: Files,
    *answers: Answer,
    fetcher: Any = None,
    urls: Literal["gateway", "provider"] = "gateway",
    quota: int = 1 << 30,
) -> ScriptedGateway:
    models = [{"id": "painter", "targets": ["oai/x", "both/y"], "price": {"image": "0.04"}}]
    links = ImageLinks(files, fetcher, storage=lambda _: quota, base=lambda _: OURS, urls=urls)
    return ScriptedGateway(Scripted(*answers), document={"models": models}, image_links=links)


def sent_body(sent: Request) -> Any:
    assert isinstance(sent.body, bytes)
    return json.loads(sent.body)


async def content(files: Files, url: str) -> bytes:
    """The bytes that a link of ours leads to."""
    query = {name: value for name, (value,) in parse_qs(urlsplit(url).query).items()}
    file_id = urlsplit(url).path.removeprefix("/v1/links/")
    record = await files.find_linked(file_id, query["exp"], query["sig"])
    assert record is not None
    assert (record.mime, record.filename[:6]) == ("image/png", "image-")
    assert record.expires_at == pytest.approx(record.created_at + 3600, abs=60)
    return b"".join([piece async for piece in files.read(record)])


@pytest.mark.parametrize(
    "text",
    [
        b64encode(PNG).decode(),
        "data:image/png;base64," + b64encode(PNG).decode(),
        b64encode(PNG).decode().rstrip("="),
        b64encode(PNG, b"-_").decode(),
    ],
)
async def test_link_leads_to_the_image_and_is_ours(files: Files, text: str) -> None:
    home = gateway(files, drawn({"b64_json": text, "revised_prompt": "r"}, {"b64_json": text}))
    answer = await request(home.app, "POST", PATH, json={**ASKED, "n": 2})
    assert answer.status == 200, answer.text
    first, second = answer.json()["data"]
    assert first.keys() == {"url", "revised_prompt"} and second.keys() == {"url"}
    for image in (first, second):
        assert image["url"].startswith(f"{OURS}/v1/links/file-")
        assert await content(files, image["url"]) == PNG
    assert first["url"] != second["url"]
    (sent,) = home.upstream.requests
    assert sent_body(sent)["response_format"] == "b64_json"
    assert long_strings.HELD_BYTES.held == 0
    assert answer.header("x-credits-used") == "0.08"


async def test_escaped_slashes_of_php_are_read(files: Files) -> None:
    text = json.dumps(b64encode(PNG).decode()).replace("/", "\\/")
    body = b'{"created":1,"data":[{"b64_json":' + text.encode() + b"}]}"
    cut = [body[at : at + 999] for at in range(0, len(body), 999)]
    home = gateway(files, Answer(cut, headers=[JSON]))
    answer = await request(home.app, "POST", PATH, json=ASKED)
    assert await content(files, answer.json()["data"][0]["url"]) == PNG


async def test_link_of_the_provider_passes_where_the_operator_says_so(files: Files) -> None:
    home = gateway(files, drawn({"url": VENDOR}), urls="provider")
    answer = await request(home.app, "POST", PATH, json=ASKED)
    assert answer.json()["data"] == [{"url": VENDOR}]
    (sent,) = home.upstream.requests
    assert sent_body(sent)["response_format"] == "url"


async def test_link_of_an_upstream_in_this_process_never_passes(files: Files) -> None:
    no_fetcher: Any = None
    links = ImageLinks(
        files, no_fetcher, storage=lambda _: 1 << 30, base=lambda _: OURS, urls="provider"
    )
    near = {
        "upstreams": [{"name": "near", "dialect": "simulator"}],
        "models": [{"id": "painter", "targets": ["near/x"]}],
    }
    up = Scripted(drawn({"b64_json": b64encode(PNG).decode()}))
    home = ScriptedGateway(up, document=near, configured=True, image_links=links)
    answer = await request(home.app, "POST", PATH, json=ASKED)
    assert await content(files, answer.json()["data"][0]["url"]) == PNG
    assert sent_body(up.requests[0])["response_format"] == "b64_json"


async def test_link_of_the_provider_does_not_pass_beside_base64(files: Files) -> None:
    text = b64encode(PNG).decode()
    for asked in (ASKED, {**ASKED, "response_format": "b64_json"}):
        home = gateway(files, drawn({"b64_json": text, "url": VENDOR}))
        answer = await request(home.app, "POST", PATH, json=asked)
        assert "vendor" not in answer.text


async def test_image_that_does_not_fit_into_the_storage_stays_base64(files: Files) -> None:
    text = b64encode(PNG).decode()
    home = gateway(files, drawn({"b64_json": text}), quota=1000)
    answer = await request(home.app, "POST", PATH, json=ASKED)
    assert answer.json()["data"] == [{"b64_json": text}]


async def test_text_that_is_not_base64_is_a_failed_attempt(files: Files) -> None:
    text = b64encode(PNG).decode()
    home = gateway(files, drawn({"b64_json": "!" * 99}), drawn({"b64_json": text}))
    answer = await request(home.app, "POST", PATH, json=ASKED)
    assert await content(files, answer.json()["data"][0]["url"]) == PNG
    first, _ = home.exchanges[0].attempts
    assert first.problem == "upstream_error"


async def test_image_behind_a_link_of_the_provider_is_fetched(
    files: Files, fetcher: Fetcher, vendor: int
) -> None:
    """It has a link where base64 was asked for, or where our own link is to be given."""
    link = f"http://127.0.0.1:{vendor}/a.png?sig=secret"
    home = gateway(files, drawn({"url": link}), fetcher=fetcher)
    answer = await request(home.app, "POST", PATH, json={**ASKED, "response_format": "b64_json"})
    assert answer.json()["data"] == [{"b64_json": b64encode(PNG).decode()}]
    assert answer.header("content-length") == str(len(answer.body))
    home = gateway(files, drawn({"url": link}), fetcher=fetcher)
    answer = await request(home.app, "POST", PATH, json=ASKED)
    assert await content(files, answer.json()["data"][0]["url"]) == PNG
    home = gateway(files, drawn({"url": link}), fetcher=fetcher, quota=1000)
    answer = await request(home.app, "POST", PATH, json=ASKED)
    assert answer.json()["data"] == [{"b64_json": b64encode(PNG).decode()}]
    assert long_strings.HELD_BYTES.held == 0


@pytest.mark.parametrize(
    "link", ["http://127.0.0.1:{port}/page?sig=secret", "https://10.0.0.1/a", "file:///a"]
)
async def test_link_that_leads_to_no_image_is_a_failed_attempt(
    files: Files, fetcher: Fetcher, vendor: int, link: str
) -> None:
    text = b64encode(PNG).decode()
    bad, good = drawn({"url": link.format(port=vendor)}), drawn({"b64_json": text})
    home = gateway(files, bad, good, fetcher=fetcher)
    answer = await request(home.app, "POST", PATH, json={**ASKED, "response_format": "b64_json"})
    assert answer.json()["data"] == [{"b64_json": text}]
    first, _ = home.exchanges[0].attempts
    assert first.problem == "upstream_error"
    for line in home.log:
        assert "sig=" not in str(line)
