"""Sessions in memory, SQLite and PostgreSQL: found, listed, ended, swept."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest

from middlewares.stores.sessions.base import (
    IDLE,
    MOST,
    MemorySessionStore,
    Session,
    SessionStore,
    new_id,
)
from middlewares.stores.sessions.sql import SqlSessionStore
from middlewares.stores.sessions.sweep import SessionSweeper
from middlewares.stores.sql.database import Database
from tests.middlewares.stores.conftest import database_url
from tests.waiting import until

NOW = 1_000_000.0


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[SessionStore]:
    if request.param == "memory":
        yield MemorySessionStore()
        return
    database = await Database.open(await database_url(request.param, request))
    yield SqlSessionStore(database)
    await database.aclose()


def session(id_: str, **fields: Any) -> Session:
    made: dict[str, Any] = {
        "digest": sha256(id_.encode()).digest(),
        "how": "key",
        "role": "holder",
        "subject": "key_1",
        "bound_to": b"\x00secret",
        "created_at": NOW,
        "seen_at": NOW,
        "expires_at": NOW + 1000,
        **fields,
    }
    return Session(**made)


async def test_session_is_found_as_it_was_kept(store: SessionStore) -> None:
    kept = session("a", owner="ann", name="Ann", address="::1", agent="Browser <b>")
    await store.insert(kept)
    assert await store.find(kept.digest) == kept
    assert await store.find(session("b").digest) is None


async def test_seen_changes_a_session_that_is_there(store: SessionStore) -> None:
    await store.insert(session("a"))
    await store.seen(session("a").digest, NOW + 5)
    await store.seen(session("gone").digest, NOW + 5)
    found = await store.find(session("a").digest)
    assert found == session("a", seen_at=NOW + 5)
    assert await store.find(session("gone").digest) is None


async def test_deleted_session_is_gone(store: SessionStore) -> None:
    await store.insert(session("a"))
    await store.delete(session("a").digest)
    await store.delete(session("a").digest)
    assert await store.find(session("a").digest) is None


async def test_sessions_of_one_identity_are_listed_and_deleted_together(
    store: SessionStore,
) -> None:
    await store.insert(session("a"))
    await store.insert(session("b", seen_at=NOW + 1))
    await store.insert(session("other", subject="key_2"))
    await store.insert(session("kind", how="password"))
    listed = await store.of_subject("key", "key_1")
    assert listed == [session("b", seen_at=NOW + 1), session("a")]
    assert await store.delete_of("key", "key_1") == 2
    assert await store.of_subject("key", "key_1") == []
    assert await store.find(session("other").digest) is not None
    assert await store.find(session("kind").digest) is not None


async def test_one_identity_keeps_the_sessions_it_used_last(store: SessionStore) -> None:
    for n in range(MOST + 3):
        await store.insert(session(str(n), seen_at=NOW + n))
    assert len(await store.of_subject("key", "key_1", 1000)) == MOST
    assert await store.find(session("2").digest) is None
    assert await store.find(session("3").digest) is not None


async def test_purge_deletes_what_has_ended_and_nothing_else(store: SessionStore) -> None:
    now = NOW + IDLE["holder"]
    rows = {
        "lives": session("lives", seen_at=NOW + 1, expires_at=now + 1),
        "old": session("old", seen_at=now, expires_at=now),
        "idle": session("idle", expires_at=now + 1),
        "admin idle": session(
            "admin idle",
            role="admin",
            how="password",
            seen_at=now - IDLE["admin"],
            expires_at=now + 1,
        ),
        "admin lives": session(
            "admin lives",
            role="admin",
            how="password",
            seen_at=now - IDLE["admin"] + 1,
            expires_at=now + 1,
        ),
    }
    for row in rows.values():
        await store.insert(row)
    assert await store.purge(now) == 3
    left = {name for name, row in rows.items() if await store.find(row.digest) is not None}
    assert left == {"lives", "admin lives"}
    assert {name for name, row in rows.items() if not row.ended(now)} == left


async def test_sweeper_deletes_ended_sessions() -> None:
    store = MemorySessionStore()
    await store.insert(session("a"))
    sweeper = SessionSweeper(store, period=0.001, clock=lambda: NOW + 1000)
    sweeper.start()
    try:
        await until(lambda: not store.sessions)
    finally:
        await sweeper.aclose()


def test_ids_have_256_bits_and_differ() -> None:
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(one) == 43 for one in ids)


async def test_many_insertions_at_once_are_all_kept(store: SessionStore) -> None:
    rows = [session(f"s{n}", subject=f"key_{n}") for n in range(20)]
    await asyncio.gather(*(store.insert(row) for row in rows))
    assert [await store.find(row.digest) for row in rows] == rows
