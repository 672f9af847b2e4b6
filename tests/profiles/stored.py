"""All that a gateway keeps: files of its folder, rows of its SQL store, entries of its Redis."""

import asyncio
import json
import sqlite3
from contextlib import closing
from typing import Any

import asyncpg
import redis

from tests.e2e.program import DEADLINE, Gateway


def everything_of(gateway: Gateway) -> str:
    """Every byte of its files, its log among them, every value of its tables and of its Redis."""
    files = [path for path in sorted(gateway.folder.rglob("*")) if path.is_file()]
    text = "".join(path.read_bytes().decode("latin-1") for path in files)
    return text + repr(_rows(gateway.sql)) + repr(_entries(gateway))


def change(gateway: Gateway, statement: str) -> None:
    """Run a statement in its SQL store."""
    if gateway.sql.startswith("sqlite:///"):
        with closing(_sqlite(gateway.sql)) as database, database:
            assert database.execute(statement).rowcount > 0
        return

    async def run() -> None:
        connection = await asyncpg.connect(gateway.sql)
        try:
            assert not (await connection.execute(statement)).endswith(" 0")
        finally:
            await connection.close()

    asyncio.run(run())


def _sqlite(sql: str) -> sqlite3.Connection:
    return sqlite3.connect(sql.removeprefix("sqlite:///"), timeout=DEADLINE)


def _rows(sql: str) -> list[Any]:
    if sql.startswith("sqlite:///"):
        with closing(_sqlite(sql)) as database:
            tables = database.execute("select name from sqlite_master where type = 'table'")
            names = [name for (name,) in tables.fetchall()]
            return [database.execute(f'select * from "{name}"').fetchall() for name in names]

    async def run() -> list[Any]:
        connection = await asyncpg.connect(sql)
        try:
            tables = await connection.fetch(
                "select tablename from pg_tables where schemaname = 'public'"
            )
            return [
                [tuple(row) for row in await connection.fetch(f'select * from "{name}"')]
                for (name,) in tables
            ]
        finally:
            await connection.close()

    return asyncio.run(run())


def _entries(gateway: Gateway) -> list[Any]:
    url = json.loads(gateway.file.read_text())["store"].get("counters", "")
    if not url.startswith("redis"):
        return []
    readers: dict[bytes, Any] = {}
    with redis.Redis.from_url(url) as server:
        readers = {
            b"string": server.get,
            b"hash": server.hgetall,
            b"set": server.smembers,
            b"list": lambda key: server.lrange(key, 0, -1),
            b"zset": lambda key: server.zrange(key, 0, -1, withscores=True),
        }
        return [(key, readers[server.type(key)](key)) for key in server.scan_iter()]
