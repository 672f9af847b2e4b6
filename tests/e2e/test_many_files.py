"""Lists of very many files by the vendors' SDKs, which are called without arguments."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import anthropic
import openai
import pytest

from .conftest import Start
from .program import Gateway

MANY = 2500
DOCUMENT: dict[str, Any] = {
    "upstreams": [{"name": "near", "dialect": "simulator"}],
    "models": [{"id": "sim-1", "targets": ["near/sim-1"]}],
}


@pytest.fixture
def crowded(start: Start) -> Iterator[Gateway]:
    """A gateway whose key has 2,500 files, and another key one that must not be listed."""
    gateway = start(DOCUMENT)
    other = gateway.new_key("other")
    for key in (other, gateway.key):
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key) as client:
            made = client.files.create(file=b"bytes", purpose="user_data")
    with closing(sqlite3.connect(gateway.database, timeout=30)) as sql, sql:
        sql.row_factory = sqlite3.Row
        row = dict(sql.execute("SELECT * FROM files WHERE id = ?", (made.id,)).fetchone())
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        # Ten in each second: pages have to end between files of the same time.
        copies = [
            {**row, "id": f"file-{n:027d}", "created_at": row["created_at"] - n // 10}
            for n in range(1, MANY)
        ]
        statement = f"INSERT INTO files ({names}) VALUES ({marks})"
        sql.executemany(statement, [tuple(copy.values()) for copy in copies])
    yield gateway


def test_list_without_arguments_has_every_file_once_in_both_dialects(crowded: Gateway) -> None:
    with openai.OpenAI(base_url=f"{crowded.url}/v1", api_key=crowded.key, max_retries=0) as client:
        listed = [(file.created_at, file.id) for file in client.files.list()]
        page = client.files.list()
        assert page.has_more and len(page.data) <= 1000
    assert len(listed) == len(set(listed)) == MANY
    assert [at for at, _ in listed] == sorted((at for at, _ in listed), reverse=True)
    with anthropic.Anthropic(base_url=crowded.url, api_key=crowded.key, max_retries=0) as claude:
        theirs = [file.id for file in claude.files.list(limit=500)]
        assert len(claude.files.list().data) == 20
    assert theirs == [file_id for _, file_id in listed]
