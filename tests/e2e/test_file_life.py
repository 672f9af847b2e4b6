"""Files of a real process over time: long lists, expiry, links, and stores that go away."""

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from edge.media.library import Files
from edge.media.objects import Objects
from middlewares.stores.files.base import FileRecord
from middlewares.stores.files.sql import SqlFileStore
from middlewares.stores.responses.sql import SqlSecretStore
from middlewares.stores.sql.database import Database

from .conftest import SECRETS, Start, shared_store
from .program import DEADLINE, Gateway, until

DOCUMENT: dict[str, Any] = {
    "auth": {"admin_token": "env:ADMIN_TOKEN"},
    "upstreams": [{"name": "sim", "dialect": "simulator"}],
    "models": [{"id": "sim-1", "targets": ["sim/sim-1"]}],
    "files": {"sweep_interval": "1h"},
}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(200)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    program = Gateway(tmp_path_factory.mktemp("life"), DOCUMENT, env=SECRETS)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=gateway.url, headers=gateway.bearer, trust_env=False, timeout=DEADLINE
    ) as opened:
        yield opened


def upload(client: httpx.Client, content: bytes = b"abc", name: str = "a.bin") -> dict[str, Any]:
    answer = client.post(
        "/v1/files", data={"purpose": "user_data"}, files={"file": (name, content)}
    )
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def owner_of(gateway: Gateway, file_id: str) -> str:
    with closing(sqlite3.connect(gateway.database)) as connection:
        found: str = connection.execute(
            "SELECT owner FROM files WHERE id = ?", (file_id,)
        ).fetchone()[0]
    return found


def test_plain_lists_of_both_sdks_walk_2500_files(gateway: Gateway) -> None:
    key = gateway.new_key("many")
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as oai,
        anthropic.Anthropic(base_url=gateway.url, api_key=key, max_retries=0) as ant,
    ):
        owner = owner_of(gateway, oai.files.create(file=b"first", purpose="user_data").id)
        rows = [
            (f"file-{number:027}", owner, "ready", "k", "n", "text/plain", 1, "", "user_data")
            for number in range(2499)
        ]
        with closing(sqlite3.connect(gateway.database)) as connection, connection:
            connection.executemany(
                "INSERT INTO files (id, owner, state, key, filename, mime, size, sha256, purpose,"
                " created_at, reserved, lease_until) VALUES (?,?,?,?,?,?,?,?,?,1700000000,0,0)",
                rows,
            )
        found = [one.id for one in oai.files.list()]
        assert len(found) == len(set(found)) == 2500
        assert found[1:] == sorted((row[0] for row in rows), reverse=True)
        assert [one.id for one in oai.files.list(limit=10000)] == found
        assert [one.id for one in oai.files.list(order="asc")] == found[::-1]
        assert [one.id for one in ant.files.list(limit=1000)] == found
        assert [one.id for one in ant.files.list()] == found


def test_expired_file_is_not_found_and_anthropic_clients_read_why(
    gateway: Gateway, client: httpx.Client
) -> None:
    file_id = upload(client)["id"]
    with closing(sqlite3.connect(gateway.database)) as connection, connection:
        connection.execute("UPDATE files SET expires_at = 1 WHERE id = ?", (file_id,))
    for tail in ("", "/content"):
        answer = client.get(f"/v1/files/{file_id}{tail}")
        assert answer.status_code == 404 and "details" not in answer.json()["error"]
        answer = client.get(
            f"/v1/files/{file_id}{tail}", headers={"anthropic-version": "2026-10-21"}
        )
        assert answer.status_code == 404
        assert answer.json()["error"]["details"] == {"error_code": "file_expired"}
    assert file_id not in client.get("/v1/files").text


def test_link_opens_for_anybody_and_shows_in_no_log(gateway: Gateway, client: httpx.Client) -> None:
    file_id = upload(client, PNG, "shot.png")["id"]

    async def link() -> str:
        database = await Database.open(gateway.sql, create=False)
        try:
            store = SqlFileStore(database)
            files = Files(store, Objects(f"file:{gateway.folder}"), SqlSecretStore(database))
            record = await store.find_any(file_id)
            assert isinstance(record, FileRecord)
            return await files.link(record, gateway.url)
        finally:
            await database.aclose()

    url = asyncio.run(link())
    signature = url.rpartition("=")[2]
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": "wrong"}):
        answer = httpx.get(url, headers=headers, trust_env=False)
        assert (answer.status_code, answer.content) == (200, PNG)
        assert answer.headers["content-type"] == "image/png"
        assert "x-storage-used-bytes" not in answer.headers
    assert httpx.head(url, trust_env=False).headers["content-length"] == str(len(PNG))
    part = httpx.get(url, headers={"range": "bytes=0-3"}, trust_env=False)
    assert (part.status_code, part.content) == (206, PNG[:4])
    for broken in (url[:-2], url.replace("exp=", "exp=9"), url.partition("?")[0]):
        assert httpx.get(broken, trust_env=False).status_code == 404
    assert httpx.post(url, trust_env=False).status_code == 405
    client.delete(f"/v1/files/{file_id}")
    assert httpx.get(url, trust_env=False).status_code == 404
    log = gateway.whole_log()
    assert signature not in log and "sig=" not in log
    assert "links" in log
    metrics = gateway.get("/metrics").text
    assert signature not in metrics and file_id not in metrics


def test_objects_that_go_away_refuse_and_count_nothing(start: Start, tmp_path: Path) -> None:
    objects = tmp_path / "elsewhere"
    program = start({**DOCUMENT, "store": {"objects": f"file:{objects}"}})
    with httpx.Client(
        base_url=program.url, headers=program.bearer, trust_env=False, timeout=DEADLINE
    ) as client:
        kept = upload(client)["id"]
        objects.rename(tmp_path / "away")
        objects.write_text("not a folder")
        refused = client.post(
            "/v1/files", data={"purpose": "user_data"}, files={"file": ("a", b"xyz")}
        )
        assert refused.status_code == 503, refused.text
        assert refused.json()["error"]["code"] == "store_unavailable"
        assert str(tmp_path) not in refused.text
        answer = client.get(f"/v1/files/{kept}/content")
        assert answer.status_code in (404, 503)
        assert client.get(f"/v1/files/{kept}").status_code == 200
        objects.unlink()
        (tmp_path / "away").rename(objects)
        assert client.get(f"/v1/files/{kept}/content").content == b"abc"
        upload(client)


def test_sql_that_goes_away_refuses(start: Start) -> None:
    program = start(DOCUMENT)
    with httpx.Client(
        base_url=program.url, headers=program.bearer, trust_env=False, timeout=DEADLINE
    ) as client:
        kept = upload(client)["id"]
        files = list(program.folder.glob("penstock.db*"))
        aside = program.folder / "aside"
        aside.mkdir()
        for path in files:
            path.rename(aside / path.name)

        def refused() -> bool:
            answer = client.get(f"/v1/files/{kept}")
            return answer.status_code == 503 and "store_unavailable" in answer.text

        until(refused, what="a refusal")
        answer = client.post(
            "/v1/files", data={"purpose": "user_data"}, files={"file": ("a", b"xyz")}
        )
        assert answer.status_code == 503
        for path in files:
            shutil.move(aside / path.name, path)
        until(lambda: client.get(f"/v1/files/{kept}").status_code == 200, what="the store again")
        assert client.get("/v1/files").headers["x-storage-used-bytes"] == "3"


async def test_race_on_postgresql_over_two_workers_admits_exactly_one(
    start: Start, request: pytest.FixtureRequest
) -> None:
    """Twenty uploads at once, each of 60 % of what is left."""
    mib = 1 << 20
    document = {
        **DOCUMENT,
        "server": {"workers": 2},
        "store": await shared_store(request),
        "plans": [{"id": "small", "storage": "20MiB"}],
    }
    program = await asyncio.to_thread(start, document)
    key = await asyncio.to_thread(partial(program.new_key, "racer", plan="small"))

    async def one(size: int) -> int:
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE) as client:
            answer = await client.post(
                f"{program.url}/v1/files",
                headers={"authorization": f"Bearer {key}"},
                data={"purpose": "user_data"},
                files={"file": ("a", bytes(size))},
            )
        used = int(answer.headers["x-storage-used-bytes"])
        assert used <= 20 * mib, used
        return answer.status_code

    assert await one(8 * mib) == 200
    raced = await asyncio.gather(*(one(12 * mib * 6 // 10) for _ in range(20)))
    assert sorted(raced) == [200] + [413] * 19
    assert await one(12 * mib * 4 // 10 - mib) == 200
