"""What callers send as a key appears in no log, answer or query."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from edge.management import keys as operations
from edge.management.fields import Refused
from middlewares import AuthMiddleware, ErrorsMiddleware, Exchange
from middlewares.asgi import Receive, Scope, Send
from middlewares.stores import KeyDirectory, KeyPrefixes, mint
from middlewares.stores.keys.sql import Database, SqlKeyStore
from tests.asgi import Call, http_scope
from tests.middlewares.stores.sqlite_files import new_sqlite


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"in"})


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("the app fails behind a good key")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = await Database.open(new_sqlite(tmp_path / "keys.db"))
    yield database
    await database.aclose()


@pytest.fixture
async def directory(database: Database) -> AsyncIterator[KeyDirectory]:
    directory = KeyDirectory(SqlKeyStore(database), unknown=0.0)
    await directory.start()
    yield directory
    await directory.aclose()


HEADER = st.binary(min_size=1, max_size=300).filter(lambda value: bool(value.strip()))


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(HEADER)
@example(b"' OR '1'='1")
@example(b"'; DROP TABLE api_keys; --")
@example(b'" OR ""="')
@example(b"%")
@example(b"sk-\x00")
@example(b"\xff\xfe")
@example("sk-é".encode("latin-1"))
@example(b"sk-penstock-live-" + b"A" * 43)
@example(b"x" * 256)
async def test_no_bytes_are_a_key(
    database: Database, directory: KeyDirectory, value: bytes
) -> None:
    """Every statement that a presented key causes has one parameter: 32 bytes that are not it."""
    statements: list[tuple[str, object]] = []

    def record(_c: object, _cursor: object, sql: str, values: object, *_rest: object) -> None:
        statements.append((sql, values))

    event.listen(Engine, "before_cursor_execute", record)
    try:
        for header in ((b"x-api-key", value), (b"authorization", b"Bearer " + value)):
            scope = http_scope(headers=[header])
            async with Call(AuthMiddleware(inner, keys=directory), scope) as call:
                assert (await call.done()).status == 401
            assert Exchange.of(scope).principal is None
    finally:
        event.remove(Engine, "before_cursor_execute", record)
    for sql, values in statements:
        if "api_keys" not in sql or "revision >" in sql:
            continue
        assert isinstance(values, tuple)
        assert [len(each) for each in values] == [32] * len(values)
        assert value not in values


async def test_two_keys_that_begin_alike_are_two_keys(
    database: Database, directory: KeyDirectory
) -> None:
    store = SqlKeyStore(database)
    key, secret = await operations.create(
        store, KeyPrefixes.of_brand("Penstock"), name="one", now=1.0
    )
    app = AuthMiddleware(inner, keys=directory)
    for other in (secret[:-1], secret + "A", secret[:-1] + ("B" if secret[-1] == "A" else "A")):
        for sent, status in ((secret, 200), (other, 401)):
            scope = http_scope(headers={"x-api-key": sent})
            async with Call(app, scope) as call:
                assert (await call.done()).status == status
    assert key.id


async def test_a_secret_is_nowhere_but_with_its_owner(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Through creation, use, misuse, failure, rotation and revocation, then grep."""
    caplog.set_level(logging.DEBUG)
    database = await Database.open(new_sqlite(tmp_path / "keys.db"))
    store = SqlKeyStore(database)
    directory = KeyDirectory(store)
    await directory.start()
    key, first = await operations.create(
        store, KeyPrefixes.of_brand("Penstock"), name="canary", now=1.0
    )
    rotated, second = await operations.rotate(
        store, KeyPrefixes.of_brand("Penstock"), key.id, now=2.0, grace=3e9
    )
    foreign = mint("Penstock")
    said: list[str] = [repr(key), repr(rotated)]

    async def ask(secret: str, *, app: object = inner) -> None:
        guarded = ErrorsMiddleware(AuthMiddleware(app, keys=directory))  # type: ignore[arg-type]
        for headers in (
            {"x-api-key": secret},
            {"authorization": f"Bearer {secret}"},
            {"x-api-key": secret, "authorization": f"Bearer {foreign}"},
        ):
            scope = http_scope(headers=headers)
            async with Call(guarded, scope) as call:
                record = await call.done()
            said.extend([record.text, repr(record.headers), repr(Exchange.of(scope))])

    for secret in (first, second, foreign):
        await ask(secret)
        await ask(secret, app=broken)
        for misuse in (
            operations.show(store, secret + "x"),
            operations.revoke(store, secret, now=3.0),
            operations.edit(store, key.id, now=3.0, name=f"for {secret}"),
            operations.create(
                store, KeyPrefixes.of_brand("Penstock"), now=3.0, name="x", owner=secret
            ),
        ):
            with pytest.raises(Refused) as refused:
                await misuse
            said.append(str(refused.value))
    await operations.revoke(store, key.id, now=3.0)
    await directory.refresh()
    for secret in (first, second, foreign):
        await ask(secret)
    said.append(repr([directory.__dict__, await store.every()]))
    await directory.aclose()
    await database.aclose()
    await asyncio.sleep(0)

    captured = capfd.readouterr()
    said += [caplog.text, captured.out, captured.err]
    said += [str(record.__dict__) for record in caplog.records]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(map(len, files)) > 10_000
    assert any(key.id.encode() in content for content in files)
    assert any(key.id in text for text in said)
    for secret in (first, second, foreign):
        random = secret.rpartition("-")[2]
        for text in said:
            assert random not in text
        for content in files:
            assert random.encode() not in content
