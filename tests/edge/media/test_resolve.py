"""What callers write for media, read: ids, links, data URLs."""

from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.media.fetch.fetcher import Fetcher
from edge.media.fetch.rules import FetchRules
from edge.media.library import Files
from edge.media.objects import Objects
from edge.media.resolve import Resolver
from middlewares.problem import Problem
from middlewares.stores.files.sql import SqlFileStore
from middlewares.stores.responses.sql import SqlSecretStore
from middlewares.stores.sql.database import Database
from tests.middlewares.stores.sqlite_files import new_sqlite

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
OPTIONS: dict[str, Any] = {"param": "image", "kinds": ("image",), "limit": 1000}


@pytest.fixture
async def resolver(tmp_path: Path) -> AsyncIterator[Resolver]:
    database = await Database.open(new_sqlite(tmp_path / "penstock.db"))
    objects = Objects(f"file:{tmp_path}/objects")
    files = Files(SqlFileStore(database), objects, SqlSecretStore(database))
    fetcher = Fetcher(FetchRules())
    yield Resolver(files, fetcher)
    await fetcher.aclose()
    await files.aclose()
    await database.aclose()


async def refused(resolver: Resolver, value: str, **changed: Any) -> Problem:
    with pytest.raises(Problem) as raised:
        await resolver.resolve_media("alice", value, **{**OPTIONS, **changed})
    assert raised.value.param == "image"
    return raised.value


async def test_a_file_of_the_owner_is_read(resolver: Resolver) -> None:
    saved = await resolver.files.save("alice", "a.png", PNG, purpose="vision", limit=None)
    found = await resolver.resolve_media("alice", saved.id, **OPTIONS)
    assert (await found.read(), found.kind, found.size) == (PNG, "image/png", len(PNG))
    assert found.name == "a.png"
    assert (await refused(resolver, saved.id, kinds=("audio",))).kind == "invalid_media"
    assert (await refused(resolver, saved.id, limit=10)).kind == "invalid_request"
    for owner in ("bob", "", None):
        with pytest.raises(Problem) as raised:
            await resolver.resolve_media(owner, saved.id, **OPTIONS)
        assert raised.value.kind == "not_found"


@pytest.mark.parametrize("value", ["file-0", "", "x" * 65, "a b", "ftp://x.example/", "../x"])
async def test_every_other_text_is_no_such_file(resolver: Resolver, value: str) -> None:
    assert (await refused(resolver, value)).kind == "not_found"


async def test_a_data_url_is_decoded(resolver: Resolver) -> None:
    url = f"data:image/png;base64,{b64encode(PNG).decode()}"
    found = await resolver.resolve_media("alice", url, **OPTIONS)
    assert (await found.read(), found.kind) == (PNG, "image/png")
    text = await resolver.resolve_media(
        None, "DATA:text/plain,a%20b", **{**OPTIONS, "kinds": ("document",)}
    )
    assert await text.read() == b"a b"
    assert (await refused(resolver, url, limit=100)).kind == "invalid_request"
    assert (await refused(resolver, url, kinds=("video",))).kind == "invalid_media"
    for broken in ("data:image/png;base64", "data:image/png;base64,A*A=", 'data:a"b,x'):
        assert (await refused(resolver, broken)).kind == "invalid_request"


async def test_a_link_goes_through_the_fetcher(resolver: Resolver) -> None:
    problem = await refused(resolver, "https://127.0.0.1/x.png")
    assert problem.reason == "127.0.0.1: 127.0.0.1 is not public (loopback)"
