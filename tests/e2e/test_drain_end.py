"""The end of the drain: what callers hear whose upstreams are silent, and what is written down."""

import asyncio
import signal
from typing import Any

from .conftest import Start
from .ledger import rows, rows_when
from .program import until
from .silent_upstream import over_silent_upstream, silent_upstream
from .surfaces import SURFACES, Wish
from .wire import CHAT, Reply, bearer, events, line, request


def error_in(body: bytes) -> dict[str, Any]:
    """The error that ends a stream, in any of the dialects."""
    last = events(body)[-1]
    assert last.get("type") in ("error", "response.failed", None)
    found = last.get("error") or last["response"]["error"]
    assert isinstance(found, dict)
    return found


async def test_end_of_drain_tells_every_caller_and_leaves_no_traceback(start: Start) -> None:
    """Streams of all dialects, requests that wait for a first token, in line, for a kept answer,
    or still send their body."""
    async with silent_upstream() as url:
        gateway = await asyncio.to_thread(start, over_silent_upstream(url))
        narrow = bearer(await asyncio.to_thread(gateway.new_key, "narrow", plan="one"))
        wide = gateway.bearer

        async def one(surface: str, model: str, stream: bool, **headers: str) -> Reply:
            by = SURFACES[surface]
            body = by.body("Hi", model, stream, Wish(limit=50))
            async with line(gateway.url) as connection:
                given = {**by.headers, **(headers or wide)}
                await connection.send(request(by.path, body, given))
                return await connection.reply()

        async def unfinished() -> Reply:
            async with line(gateway.url) as connection:
                head = [f"POST {CHAT} HTTP/1.1", "host: a", "content-length: 99", *map(
                    ": ".join, {**wide, "content-type": "application/json"}.items()
                )]  # fmt: skip
                await connection.send("\r\n".join([*head, "", "{"]).encode())
                return await connection.reply()

        some = [asyncio.create_task(one(surface, "some", True)) for surface in SURFACES]
        some.append(asyncio.create_task(one("chat", "some", True, **wide, **once("a"))))
        none = [
            asyncio.create_task(one(surface, "none", stream))
            for surface in SURFACES
            for stream in (True, False)
        ]
        none.append(asyncio.create_task(one("chat", "none", False, **wide, **once("b"))))
        none += [asyncio.create_task(one("chat", "none", False, **narrow)) for _ in range(2)]
        none.append(asyncio.create_task(unfinished()))
        count = len(some) + len(none)
        await asyncio.to_thread(until, lambda: gateway.in_flight() == count, what="all")
        gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(gateway.ended) == 0
        streamed, plain = await asyncio.gather(*some), await asyncio.gather(*none)
    for reply in streamed:
        assert (reply.status, reply.whole) == (200, True)
        assert "restarted" in error_in(reply.body)["message"]
        assert b"[DONE]" not in reply.body
        assert b"message_stop" not in reply.body
    for reply in plain:
        assert reply.status in (503, 529)
        assert reply.header("retry-after") == "1"
        assert "restarted" in reply.error["message"]
    assert [entry for entry in gateway.log if entry["level"] != "info"] == []
    lines = [entry for entry in gateway.log if entry.get("path", "").startswith("/v1/")]
    ids = [reply.header("x-request-id") for reply in (*streamed, *plain)]
    assert sorted(entry["request_id"] for entry in lines) == sorted(ids)
    assert {entry["outcome"] for entry in lines} <= {"cut", "failed", "refused"}
    found = {row.id: row for row in await rows(gateway.sql)}
    assert {found[name].ended for name in ids[: len(streamed)]} == {"cut"}
    assert all(found[name].output > 0 for name in ids[: len(streamed)])
    failed = [found[name] for name in ids[len(streamed) :] if name in found]
    assert {(row.ended, row.input, row.output) for row in failed} == {("failed", 0, 0)}
    assert not list((gateway.folder / "journal").glob("*.journal"))


async def test_end_of_drain_does_not_wait_for_a_store_that_is_away(start: Start) -> None:
    """Requests are ended two seconds before the drain is, so what is left is for closing: the rows
    are in the journal."""
    async with silent_upstream() as url:
        gateway = await asyncio.to_thread(start, over_silent_upstream(url))
        by, wide = SURFACES["chat"], gateway.bearer

        async def one(model: str) -> Reply:
            async with line(gateway.url) as connection:
                body = by.body("Hi", model, True, Wish(limit=50))
                await connection.send(request(by.path, body, wide))
                return await connection.reply()

        asked = [asyncio.create_task(one(model)) for model in ("some", "none", "some", "none")]
        await asyncio.to_thread(until, lambda: gateway.in_flight() == len(asked), what="all")
        elsewhere = gateway.folder / "elsewhere"
        elsewhere.mkdir()
        for path in gateway.folder.glob("penstock.db*"):
            path.rename(elsewhere / path.name)
        gateway.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(gateway.ended) == 0
        replies = await asyncio.gather(*asked)
    assert "did not stop in time" not in gateway.stderr
    assert "Traceback" not in gateway.stderr
    assert gateway.stderr.count("rows are not in the ledger's store; the journal has them") == 1
    assert not gateway.database.exists()
    for path in elsewhere.iterdir():
        path.rename(gateway.folder / path.name)
    again = await asyncio.to_thread(start, over_silent_upstream(url), folder=gateway.folder)
    found = await rows_when(again, len(replies))
    assert {row.id for row in found} == {reply.header("x-request-id") for reply in replies}
    assert sorted(row.ended for row in found) == ["cut", "cut", "failed", "failed"]


async def test_end_of_drain_does_not_wait_for_a_client_that_does_not_read(start: Start) -> None:
    """The server waits for it, and its worker is ended with the drain; the row is there."""
    async with silent_upstream() as url:
        gateway = await asyncio.to_thread(start, over_silent_upstream(url))
        body = SURFACES["chat"].body("Hi", "flood", True, Wish(limit=50))
        async with line(gateway.url) as deaf:
            await deaf.send(request(CHAT, body, gateway.bearer))
            asked = (await deaf.head()).header("x-request-id")
            gateway.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(gateway.ended) == 0
    assert gateway.request_line(asked)["outcome"] == "cut"
    assert "Traceback" not in gateway.stderr
    (row,) = await rows(gateway.sql)
    assert (row.id, row.ended, row.output) == (asked, "cut", 50)


def once(key: str) -> dict[str, str]:
    return {"idempotency-key": key}
