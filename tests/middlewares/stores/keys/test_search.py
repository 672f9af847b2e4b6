"""Search in keys, against all of them."""

import random
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, event, insert

from middlewares.stores import Key, KeyStore
from middlewares.stores.keys import sql_search
from middlewares.stores.keys.base import KeysWanted
from middlewares.stores.keys.sql import Database, SqlKeyStore
from middlewares.stores.sql.tables import api_keys

NOW = 1_000_000.0


def keys(count: int, seed: int) -> list[Key]:
    chance = random.Random(seed)
    return [
        Key(
            id=f"key_{number:05d}",
            digest=number.to_bytes(32, "big"),
            prefix=chance.choice(["sk-penstock-live-", "sk-old-test-"]) + f"{number:04d}",
            created_at=float(chance.randrange(count // 3)),
            name=chance.choice(["Laptop", "laptop of Ann", "server", "été", "50%", "a_b"]),
            owner=chance.choice(["", "ann", "Bo", "server room"]),
            team=chance.choice([None, "team_a", "team_b"]),
            disabled=chance.random() < 0.2,
            revoked_at=5.0 if chance.random() < 0.2 else None,
            expires_at=chance.choice([None, NOW - 1, NOW, NOW + 1]),
        )
        for number in range(count)
    ]


async def filled(store: KeyStore, made: list[Key]) -> list[Key]:
    return [await store.insert(key) for key in made]


async def walked(store: KeyStore, wanted: KeysWanted, limit: int) -> tuple[list[Key], int]:
    after: tuple[float, str] | None = None
    found: list[Key] = []
    pages = 0
    while True:
        page = await store.search(wanted, now=NOW, after=after, limit=limit)
        assert len(page.keys) <= limit
        found += page.keys
        pages += 1
        if page.next is None:
            return found, pages
        assert page.next != after
        after = page.next


WANTED: list[dict[str, Any]] = [
    {},
    {"owner": "ann"},
    {"owner": ""},
    {"team": "team_a"},
    {"team": ""},
    {"state": "active"},
    {"state": "revoked"},
    {"state": "disabled"},
    {"state": "expired"},
    {"text": "lap"},
    {"text": "LAPTOP OF"},
    {"text": "é"},
    {"text": "50%"},
    {"text": "a_"},
    {"text": "s"},
    {"text": "sk-penstock-live-00"},
    {"text": "key_00007"},
    {"text": "nothing"},
    {"text": "server", "owner": "Bo", "state": "active"},
    {"text": "s", "team": "team_b", "owner": "ann"},
    {"owner": "ann", "team": "team_a", "state": "expired"},
]


@pytest.mark.parametrize("few", [10, 1000])
async def test_every_filter_finds_all_keys_that_match_in_one_order(
    store: KeyStore, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_search, "SCAN", 25)
    monkeypatch.setattr(sql_search, "FEW", few)
    made = await filled(store, keys(90, 1))
    oldest = sorted(made, key=lambda key: (key.created_at, key.id))
    for fields in WANTED:
        for newest in (True, False):
            wanted = KeysWanted(**fields, newest=newest)
            found, _ = await walked(store, wanted, 8)
            order = reversed(oldest) if newest else oldest
            assert found == [key for key in order if wanted.matches(key, NOW)], wanted


async def test_no_search_reads_all_keys(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url)
    store = SqlKeyStore(database)
    async with database.write() as connection:
        rows = [
            {**msgspec.structs.asdict(key), "revision": number}
            for number, key in enumerate(keys(30, 2), 1)
        ]
        await connection.execute(insert(api_keys), rows)
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        asked.append((statement, values))

    event.listen(Engine, "before_cursor_execute", note)
    for fields in WANTED:
        await store.search(KeysWanted(**fields), now=NOW, after=(9.0, "x"))
    event.remove(Engine, "before_cursor_execute", note)
    steps = set()
    async with database.read() as connection:
        for statement, values in asked:
            plan = await connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, values)
            steps |= {row["detail"] for row in plan.mappings()}
    await database.aclose()
    assert not [step for step in steps if step.startswith("SCAN api_keys")], steps
    for name in ("name", "owner", "prefix"):
        assert any(f"INDEX api_keys_{name}_search " in step for step in steps), (name, steps)
    for name in ("owner", "team", "created_at"):
        assert any(f"INDEX api_keys_{name} " in step for step in steps), (name, steps)
