"""What every key store keeps to: in memory, in a SQLite file, in PostgreSQL."""

import asyncio

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, update

from middlewares.stores import Key, KeyStore, UnknownKey, digest
from middlewares.stores.keys.base import KeyWithTeam
from middlewares.stores.keys.sql import Database, SqlKeyStore
from middlewares.stores.sql.tables import api_keys, revisions
from tests.middlewares.stores.samples import new_key
from tests.waiting import DEADLINE

replace = msgspec.structs.replace


async def test_a_key_comes_back_as_it_was_put(store: KeyStore) -> None:
    key, secret = new_key(
        name="laptop",
        owner="ann",
        plan="pro",
        models=("a", "b/c"),
        endpoints=("chat.completions",),
        networks=("10.0.0.0/8",),
        limits={"requests": "30/min", "windows": [{"length": "5h", "credits": "1.50"}]},
        expires_at=1e9 + 0.25,
        disabled=True,
        revoked_at=7.5,
        previous_digest=b"\x00'\xff" + bytes(29),
        previous_until=9.5,
    )
    kept = await store.insert(key)
    assert kept == replace(key, revision=1)
    assert await store.find(digest(secret)) == kept
    assert await store.find(b"\x00'\xff" + bytes(29)) == kept
    assert await store.get(key.id) == kept
    assert await store.every() == [kept]
    for text in (key.id, key.prefix, "laptop"):
        assert await store.match(text) == [kept]


async def test_what_is_not_there_is_not_found(store: KeyStore) -> None:
    key, _ = await put(store)
    assert await store.find(digest("other")) is None
    assert await store.get("other") is None
    assert await store.match("other") == []
    assert await store.match(key.name[:-1] + "%") == []
    with pytest.raises(UnknownKey):
        await store.update("other", lambda key: key)


async def put(store: KeyStore, **fields: object) -> tuple[Key, str]:
    key, secret = new_key(**{"name": "some name", **fields})
    return await store.insert(key), secret


async def changed_keys(store: KeyStore, since: int, limit: int) -> list[Key]:
    changes = await store.changes(since, limit)
    return [change.key for change in changes if isinstance(change, KeyWithTeam)]


async def test_changes_come_once_each_in_order_and_in_pages(store: KeyStore) -> None:
    first, _ = await put(store)
    second, _ = await put(store)
    third, _ = await put(store)
    assert await store.revision() == 3
    first = await store.update(first.id, lambda key: replace(key, revoked_at=1.0))
    assert await store.revision() == first.revision == 4
    assert await changed_keys(store, 0, 10) == [second, third, first]
    assert await changed_keys(store, 0, 2) == [second, third]
    assert await changed_keys(store, 3, 10) == [first]
    assert await store.changes(4, 10) == []
    assert await store.every() == [first, second, third]


async def test_pages_have_each_key_once_oldest_first(store: KeyStore) -> None:
    made = [(await put(store, created_at=float(n // 3)))[0] for n in range(8)]
    expected = sorted((key.created_at, key.id) for key in made)
    seen: list[tuple[float, str]] = []
    while found := await store.page(seen[-1] if seen else None, 3):
        assert len(found) <= 3
        seen += [(key.created_at, key.id) for key in found]
    assert seen == expected
    assert [key.id for key in await store.page(None, 100)] == [key_id for _, key_id in expected]


async def test_a_rotated_out_secret_is_found_until_it_is_dropped(store: KeyStore) -> None:
    key, oldest = await put(store)
    await store.update(
        key.id, lambda key: replace(key, digest=digest("2"), previous_digest=key.digest)
    )
    assert (await store.find(digest(oldest))) == (await store.find(digest("2"))) is not None
    await store.update(
        key.id, lambda key: replace(key, digest=digest("3"), previous_digest=key.digest)
    )
    assert await store.find(digest(oldest)) is None
    found = await store.find(digest("2"))
    assert found is not None
    assert found.digest == digest("3")


async def test_a_change_that_fails_writes_nothing(store: KeyStore) -> None:
    key, _ = await put(store)

    def refuse(_key: Key) -> Key:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await store.update(key.id, refuse)
    assert await store.get(key.id) == key
    assert await store.revision() == key.revision


async def test_an_id_or_secret_that_exists_is_refused(store: KeyStore) -> None:
    key, _ = await put(store)
    other, _ = new_key()
    for twin in (replace(other, id=key.id), replace(other, digest=key.digest)):
        with pytest.raises(ValueError, match=r".+"):
            await store.insert(twin)
    assert await store.every() == [key]
    assert await store.revision() == key.revision


async def test_no_change_of_many_at_once_is_lost(store: KeyStore) -> None:
    key, _ = await put(store, limits={"count": 0})

    def count(key: Key) -> Key:
        assert key.limits is not None
        return replace(key, limits={"count": key.limits["count"] + 1})

    changed = await asyncio.gather(*(store.update(key.id, count) for _ in range(25)))
    assert sorted(each.revision for each in changed) == list(range(2, 27))
    last = await store.get(key.id)
    assert last is not None
    assert last.limits == {"count": 25}


async def test_a_reader_never_misses_a_revision_that_commits_late(sql_url: str) -> None:
    """Writers on connections of their own, as in other processes, while somebody reads on."""
    databases = [await Database.open(sql_url, patience=20) for _ in range(4)]
    writers, reader = [SqlKeyStore(database) for database in databases[:3]], databases[3]
    keys = [new_key()[0] for _ in range(45)]
    seen: list[Key] = []

    async def write(number: int) -> None:
        for key in keys[number::3]:
            await writers[number].insert(key)

    async def read() -> None:
        store = SqlKeyStore(reader)
        while len(seen) < len(keys):
            seen.extend(await changed_keys(store, seen[-1].revision if seen else 0, 7))

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        group.create_task(read())
        for number in range(3):
            group.create_task(write(number))
    for database in databases:
        await database.aclose()
    assert [key.revision for key in seen] == list(range(1, len(keys) + 1))
    assert {key.id for key in seen} == {key.id for key in keys}


async def test_an_uncommitted_revision_holds_back_the_later_ones(postgres_url: str) -> None:
    """A sequence would hand out n + 1 while n is open; a reader of n + 1 would never see n."""
    database = await Database.open(postgres_url, patience=30)
    other = await Database.open(postgres_url, patience=30)
    first, _ = new_key()
    second, _ = new_key()
    inside, leave = asyncio.Event(), asyncio.Event()

    async def insert_slowly() -> None:
        async with database.write() as connection:
            await connection.execute(update(revisions).values(value=1))
            await connection.execute(
                insert(api_keys), msgspec.structs.asdict(replace(first, revision=1))
            )
            inside.set()
            await leave.wait()

    held = asyncio.create_task(insert_slowly())
    await inside.wait()
    late = asyncio.create_task(SqlKeyStore(other).insert(second))
    async with asyncio.timeout(DEADLINE):
        while not await somebody_waits(database):
            await asyncio.sleep(0.02)
    assert not late.done()
    assert await SqlKeyStore(other).changes(0, 10) == []
    leave.set()
    await held
    assert (await late).revision == 2
    assert [key.id for key in await changed_keys(SqlKeyStore(other), 0, 10)] == [
        first.id,
        second.id,
    ]
    await database.aclose()
    await other.aclose()


async def somebody_waits(database: Database) -> bool:
    """Whether some session of this database waits for a lock."""
    async with database.read() as connection:
        found = await connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(found.scalar_one())


NASTY = st.one_of(
    st.sampled_from(
        [
            "' OR '1'='1",
            "'; DROP TABLE api_keys; --",
            '" OR ""="',
            "%",
            "_",
            "\\",
            ":digest",
            "$1",
            "%(id)s",
            "{id}",
            "\u202e",
            "😀",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40),
)


@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(name=NASTY, plan=NASTY, model=NASTY, probe=NASTY)
async def test_no_text_is_ever_read_as_sql(
    sql_store: SqlKeyStore, name: str, plan: str, model: str, probe: str
) -> None:
    key, secret = new_key(name=name, owner=name, plan=plan, models=(model,), limits={model: plan})
    kept = await sql_store.insert(key)
    assert await sql_store.find(digest(secret)) == kept
    assert kept in await sql_store.match(name)
    assert all(
        probe in (found.id, found.prefix, found.name) for found in await sql_store.match(probe)
    )
    assert await sql_store.get(probe) is None
