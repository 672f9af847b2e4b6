"""Operations on keys, on a real SQLite file."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.management.fields import Refused, looks_secret
from edge.management.keys import KeyRefused, create, edit, every, revoke, rotate, show
from middlewares.stores import Key, KeyPrefixes, Mode, digest
from middlewares.stores.keys.sql import Database, SqlKeyStore
from tests.middlewares.stores.sqlite_files import new_sqlite

NOW = 1_000_000.0
PREFIXES = KeyPrefixes.of_brand("Penstock")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlKeyStore]:
    database = await Database.open(new_sqlite(tmp_path / "keys.db"))
    yield SqlKeyStore(database)
    await database.aclose()


async def make(store: SqlKeyStore, name: str = "laptop", **fields: Any) -> tuple[Key, str]:
    return await create(store, PREFIXES, now=NOW, name=name, **fields)


async def test_create_returns_key_and_secret(store: SqlKeyStore) -> None:
    key, secret = await make(
        store,
        name=" laptop ",
        owner="ann",
        plan="pro",
        mode="test",
        models=["a", "b", "a"],
        endpoints=["chat.completions"],
        networks=["10.0.0.0/8", "192.0.2.7", "2001:DB8::/32"],
        limits={"requests": "30/min"},
        expires_in=60.0,
        plans={"pro", "free"},
    )
    assert re.fullmatch(r"sk-penstock-test-[0-9A-Za-z]{43}", secret)
    assert re.fullmatch(r"key_[0-9a-z]{20}", key.id)
    assert key.digest == digest(secret)
    assert secret.startswith(key.prefix)
    assert key == Key(
        id=key.id,
        digest=key.digest,
        prefix=key.prefix,
        created_at=NOW,
        name="laptop",
        owner="ann",
        plan="pro",
        models=("a", "b"),
        endpoints=("chat.completions",),
        networks=("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"),
        limits={"requests": "30/min"},
        expires_at=NOW + 60.0,
        revision=1,
    )
    assert await every(store) == [key]


async def test_create_default_key_has_no_restrictions(store: SqlKeyStore) -> None:
    key, secret = await make(store)
    assert secret.startswith("sk-penstock-live-")
    assert (key.models, key.endpoints, key.networks, key.expires_at) == (None, None, None, None)


@pytest.mark.parametrize(
    ("fields", "field", "expected"),
    [
        ({"name": ""}, "name", "at least one character"),
        ({"name": " \t"}, "name", "at least one character"),
        ({"name": "x" * 201}, "name", "at most 200"),
        ({"name": "a\x00b"}, "name", "printable"),
        ({"owner": "a\nb"}, "owner", "printable"),
        ({"owner": "\ud800"}, "owner", "printable"),
        ({"plan": "pro"}, "plan", "'pro' is none of the plans: free, max"),
        ({"plan": ""}, "plan", "at least one character"),
        ({"mode": "prod"}, "mode", "live or test"),
        ({"models": []}, "models", "at least one; leave it out to allow all"),
        ({"models": "gpt"}, "models", "a list"),
        ({"models": ["a", " "]}, "models", "at least one character"),
        ({"endpoints": []}, "endpoints", "at least one"),
        ({"networks": []}, "networks", "at least one"),
        ({"networks": ["10.0.0.1/8"]}, "networks", "has host bits set"),
        ({"networks": ["home"]}, "networks", "CIDR such as 10.0.0.0/8"),
        ({"expires_in": 0}, "expires_in", "more than 0 seconds"),
        ({"expires_in": -5}, "expires_in", "more than 0 seconds"),
        ({"expires_in": float("nan")}, "expires_in", "more than 0 seconds"),
        ({"expires_in": float("inf")}, "expires_in", "more than 0 seconds"),
    ],
)
async def test_create_invalid_field_is_named(
    store: SqlKeyStore, fields: dict[str, Any], field: str, expected: str
) -> None:
    with pytest.raises(Refused, match=re.escape(expected)) as refused:
        await make(store, plans=["max", "free"], **fields)
    assert refused.value.field == field
    assert str(refused.value).startswith(f"{field}: ")
    assert await every(store) == []
    key, _ = await make(store)
    if field == "mode":
        return
    with pytest.raises(Refused, match=re.escape(expected)):
        await edit(store, key.id, now=NOW, plans=["max", "free"], **fields)
    assert await every(store) == [key]


async def test_show_by_id_prefix_name_and_secret(store: SqlKeyStore) -> None:
    key, secret = await make(store, name="one")
    await make(store, name="two")
    for text in (key.id, "one", key.prefix, key.prefix + "…", key.prefix + "...", secret):
        assert await show(store, text) == key


@pytest.mark.parametrize("text", ["missing", "", "…", "%", "a\x00b", "' OR '1'='1", "key_"])
async def test_show_unknown_name_is_refused(store: SqlKeyStore, text: str) -> None:
    await make(store)
    with pytest.raises(KeyRefused, match="no key has"):
        await show(store, text)


async def test_show_name_of_two_keys_gives_their_ids(store: SqlKeyStore) -> None:
    one, _ = await make(store, name="laptop")
    two, _ = await make(store, name="laptop")
    with pytest.raises(KeyRefused, match="'laptop' is 2 keys; give the id of one") as refused:
        await show(store, "laptop")
    assert one.id in str(refused.value)
    assert two.id in str(refused.value)
    three, _ = await make(store, name=one.id)
    assert await show(store, one.id) == one
    assert await show(store, three.id) == three


async def test_rotate_changes_the_secret_only(store: SqlKeyStore) -> None:
    key, first = await make(store, plan="pro", mode="test", models=["a"], expires_in=1e6)
    rotated, second = await rotate(store, PREFIXES, key.id, now=NOW + 5, grace=60)
    assert second.startswith("sk-penstock-test-")
    assert second != first
    assert (rotated.id, rotated.plan, rotated.models) == (key.id, "pro", ("a",))
    assert (rotated.created_at, rotated.expires_at) == (key.created_at, key.expires_at)
    assert second.startswith(rotated.prefix)
    assert rotated.usable_until(digest(first)) == NOW + 65
    assert rotated.usable_until(digest(second)) == key.expires_at

    again, third = await rotate(store, PREFIXES, key.id, now=NOW + 6, grace=30)
    assert await store.find(digest(first)) is None
    assert again.usable_until(digest(second)) == NOW + 36
    last, fourth = await rotate(store, PREFIXES, key.id, now=NOW + 7)
    assert last.previous_digest is None
    assert await store.find(digest(third)) is None
    assert await store.find(digest(fourth)) == last


async def test_rotate_live_key_of_brand_test_stays_live(store: SqlKeyStore) -> None:
    prefixes = KeyPrefixes.of_brand("My test lab")
    key, _ = await create(store, prefixes, now=NOW, name="x")
    _, secret = await rotate(store, prefixes, key.id, now=NOW)
    assert secret.startswith("sk-my-test-lab-live-")


@pytest.mark.parametrize("mode", ["live", "test"])
async def test_rotate_takes_the_prefix_of_now_and_keeps_the_mode(
    store: SqlKeyStore, mode: Mode
) -> None:
    key, before = await create(store, PREFIXES, now=NOW, name="x", mode=mode)
    prefixes = KeyPrefixes.of("sk_cdx_")
    for _ in range(2):
        key, secret = await rotate(store, prefixes, key.id, now=NOW, grace=60)
        begin = prefixes.test if mode == "test" else prefixes.live
        assert (secret[:-43], key.prefix) == (begin, secret[: len(begin) + 4])
    assert before.startswith(f"sk-penstock-{mode}-")
    with pytest.raises(KeyRefused, match="no key has this secret") as raised:
        await show(store, f"sk_cdx_{'x1' * 21}y")
    assert "x1x1" not in str(raised.value)
    with pytest.raises(Refused, match="name: looks like a secret"):
        await create(store, prefixes, now=NOW, name=secret)


@pytest.mark.parametrize("grace", [-1.0, float("nan"), float("inf")])
async def test_rotate_invalid_grace_is_refused(store: SqlKeyStore, grace: float) -> None:
    key, _ = await make(store)
    with pytest.raises(KeyRefused, match="grace: expected 0 seconds to a century"):
        await rotate(store, PREFIXES, key.id, now=NOW, grace=grace)


async def test_revoke_is_final(store: SqlKeyStore) -> None:
    key, secret = await make(store)
    revoked = await revoke(store, key.id, now=NOW + 1)
    assert revoked.revoked_at == NOW + 1
    assert (await revoke(store, key.id, now=NOW + 9)).revoked_at == NOW + 1
    with pytest.raises(KeyRefused, match="revoked, which is final"):
        await rotate(store, PREFIXES, key.id, now=NOW)
    with pytest.raises(KeyRefused, match="revoked, which is final"):
        await edit(store, key.id, now=NOW, disabled=False)
    found = await store.find(digest(secret))
    assert found is not None
    assert found.revoked_at == NOW + 1


async def test_rotate_expired_key_is_refused(store: SqlKeyStore) -> None:
    key, _ = await make(store, expires_in=10)
    with pytest.raises(KeyRefused, match="has expired"):
        await rotate(store, PREFIXES, key.id, now=NOW + 10)
    await edit(store, key.id, now=NOW + 10, expires_in=None)
    rotated, _ = await rotate(store, PREFIXES, key.id, now=NOW + 10)
    assert rotated.expires_at is None


async def test_edit_changes_given_fields_only(store: SqlKeyStore) -> None:
    key, _ = await make(store, owner="ann", plan="pro", models=["a"], networks=["10.0.0.0/8"])
    edited = await edit(
        store, key.id, now=NOW + 5, name="new", models=None, disabled=True, expires_in=10
    )
    assert (edited.name, edited.models, edited.disabled) == ("new", None, True)
    assert edited.expires_at == NOW + 15
    assert (edited.owner, edited.plan, edited.networks) == ("ann", "pro", ("10.0.0.0/8",))
    assert edited.digest == key.digest
    for field in ("digest", "id", "revision", "revoked_at", "previous_digest", "admin"):
        with pytest.raises(KeyRefused, match=f"{field}: cannot be edited; expected one of"):
            given: dict[str, Any] = {field: "x"}
            await edit(store, key.id, now=NOW, **given)
    assert await store.get(key.id) == edited


async def test_get_unknown_id_is_refused(store: SqlKeyStore) -> None:
    for operation in (
        revoke(store, "key_x", now=NOW),
        rotate(store, PREFIXES, "key_\x00", now=NOW),
        edit(store, "key_x", now=NOW, name="x"),
    ):
        with pytest.raises(KeyRefused, match="no key has this id"):
            await operation


async def test_concurrent_operations_keep_each_others_changes(store: SqlKeyStore) -> None:
    key, _ = await make(store)
    await asyncio.gather(
        edit(store, key.id, now=NOW, owner="ann"),
        edit(store, key.id, now=NOW, plan="pro"),
        edit(store, key.id, now=NOW, networks=["10.0.0.0/8"]),
        rotate(store, PREFIXES, key.id, now=NOW),
        rotate(store, PREFIXES, key.id, now=NOW),
    )
    last = await revoke(store, key.id, now=NOW)
    assert (last.owner, last.plan, last.networks) == ("ann", "pro", ("10.0.0.0/8",))
    assert last.digest != key.digest
    assert last.revision == 7


@pytest.mark.parametrize("before", ["", "a b ", "sk-", "sk-a/", "(", "x\nsk- sk-"])
@pytest.mark.parametrize("after", ["", " c", "-", ")"])
def test_looks_secret(before: str, after: str) -> None:
    assert looks_secret(f"{before}sk-proj-{'a1' * 10}{after}")
    assert looks_secret(f"{before}sk-./-{'a1' * 10}{after}")
    for harmless in ("task-" + "a" * 20, "sk- " + "a" * 20, "sk-" + "a" * 19, "ask-me-anything"):
        assert not looks_secret(f"x {harmless} {after}")


def test_looks_secret_long_text_takes_linear_time() -> None:
    """One pass for all marks: a pass for each would exceed the time of a test."""
    assert not looks_secret("sk-" * 300_000)
