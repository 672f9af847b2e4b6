"""Request bodies under way: their framing, their time, and how many bytes of them are held."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from edge.upstreams.provider import MAX_HEADER_BYTES, MAX_HEADERS, MAX_HEADERS_BYTES
from middlewares.uploads import SMALL_BODY

from .conftest import ADMIN_TOKEN, SECRETS, Figures, Start, over_http
from .program import DEADLINE, Gateway, Program, peak_rss, release, until
from .scripted_upstream import Answer, scripted_upstream
from .wire import ANTHROPIC, CHAT, MESSAGES, Line, Reply, ask, chat, events, line, request

MiB = 1 << 20
LARGE = 700_000
"""Bytes; one such body has room, a second of the same key has none, nor a third of anybody."""

KEYS = "/admin/v1/keys"
HELD = "[[sim fault=hold:600]]"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Gateway]:
    document = over_http(simulator.url)
    document["server"] = {"max_body": "1MiB", "upload_idle_timeout": "2s", "upload_timeout": "8s"}
    document["limits"] = {"max_body_memory": "1536KiB", "max_body_memory_per_key": "1MiB"}
    document["plans"] = [
        {"id": "one", "requests": "1/day"},
        {"id": "slot", "concurrency": 1},
        {"id": "patient", "concurrency": 1, "on_excess": "throttle"},
        {"id": "tokens", "requests": "3/day", "tokens": "100/day"},
    ]
    program = Gateway(tmp_path_factory.mktemp("uploads"), document, env=SECRETS)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


def held(gateway: Gateway) -> float:
    return gateway.metrics()["penstock_request_body_bytes", ()]


async def until_held(gateway: Gateway, size: int) -> None:
    """Wait until so many bytes are held, and some for the rest of their bodies."""
    await asyncio.to_thread(
        until, lambda: size <= held(gateway) < size + 2000, what=f"{size} bytes held"
    )


def head(path: str, headers: dict[str, str], *framing: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: penstock.test", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, *framing, "", ""]).encode()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def large(text: str = HELD, model: str = "chat", **fields: Any) -> bytes:
    body = chat(text, model, **fields)
    return json.dumps({**body, "user": "x" * LARGE}).encode()


async def new_key(gateway: Gateway, **fields: Any) -> dict[str, str]:
    return bearer(await asyncio.to_thread(gateway.new_key, "uploader", **fields))


@asynccontextmanager
async def waiting(gateway: Gateway, headers: dict[str, str], body: bytes) -> AsyncIterator[Line]:
    """A request whose upstream does not answer until it is released."""
    async with line(gateway.url) as connection:
        await connection.send(request(CHAT, body, headers))
        yield connection


# Framing

CHUNKED = "transfer-encoding: chunked"
BROKEN = {
    "chunk size": (CHUNKED, b"zz\r\n{}\r\n0\r\n\r\n", False),
    "chunk size behind a good one": (CHUNKED, b"2\r\n{}\r\nzz\r\n", False),
    "chunk longer than its size": (CHUNKED, b"2\r\n{}XX\r\n0\r\n\r\n", False),
    "chunk size of 17 digits": (CHUNKED, b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n", False),
    "trailer without a colon": (CHUNKED, b"2\r\n{}\r\n0\r\nfoo bar\r\n\r\n", False),
    "end within a chunk": (CHUNKED, b"10\r\n{}", True),
    "end between chunks": (CHUNKED, b"2\r\n{}\r\n", True),
    "end before content-length": ("content-length: 10", b"{}", True),
    "end before any byte": ("content-length: 10", b"", True),
}
"""Framing, body, and whether the client closes its side behind it."""


@pytest.mark.parametrize(
    "path",
    [
        *(CHAT, MESSAGES, "/v1/responses", "/v1/completions", "/v1/embeddings", KEYS),
        *("/v1/messages/count_tokens", "/v1/responses/input_tokens", "/v1/responses/compact"),
    ],
)
async def test_upload_broken_framing_is_refused_in_the_callers_envelope(
    gateway: Gateway, path: str
) -> None:
    headers = bearer(ADMIN_TOKEN if path == KEYS else gateway.key)
    for name, (framing, body, closes) in BROKEN.items():
        async with line(gateway.url) as connection:
            await connection.send(head(path, headers, framing) + body)
            if closes:
                connection.writer.write_eof()
            reply = await connection.reply()
        assert (reply.status, reply.whole) == (400, True), name
        assert "ended before it was complete" in reply.error["message"], name
        assert reply.error["type"] == "invalid_request_error"
        found = await asyncio.to_thread(gateway.request_line, reply.header("x-request-id"))
        assert found["problem"] == "invalid_request"
    assert "Traceback" not in gateway.stderr
    await until_held(gateway, 0)


async def test_upload_two_lengths_are_refused_when_they_differ(gateway: Gateway) -> None:
    """Before a request is made of it, by the server, which has no envelope."""
    body = json.dumps(chat()).encode()
    for second, status in ((len(body), 200), (len(body) + 1, 400)):
        framing = (f"content-length: {len(body)}", f"content-length: {second}")
        async with line(gateway.url) as connection:
            await connection.send(head(CHAT, gateway.bearer, *framing) + body)
            assert (await connection.reply()).status == status


# Time


async def test_upload_that_drips_or_stalls_is_refused(gateway: Gateway) -> None:
    async def drips(framing: str, piece: bytes) -> Reply:
        async with line(gateway.url) as connection:
            await connection.send(head(CHAT, gateway.bearer, framing))
            reading = asyncio.create_task(connection.reply())
            while piece and not reading.done():
                await connection.send(piece)
                await asyncio.wait([reading], timeout=0.2)
            reply = await reading
            assert await connection.reader.read() == b""  # and closed
            return reply

    async def drips_behind_enough() -> Reply:
        """As slowly, but on the average it comes faster than it has to."""
        async with line(gateway.url) as connection:
            first, last = json.dumps({"user": "x" * 250_000})[:-1], json.dumps(chat("Hi"))[1:]
            await connection.send(head(CHAT, gateway.bearer, CHUNKED))
            await connection.send(b"%x\r\n%b\r\n" % (len(first), first.encode()))
            while not refused.done():
                await connection.send(b"1\r\n \r\n")
                await asyncio.wait([refused], timeout=0.2)
            await connection.send(b"%x\r\n,%b\r\n0\r\n\r\n" % (len(last) + 1, last.encode()))
            return await connection.reply()

    refused = asyncio.gather(
        drips("content-length: 500000", b" "),
        drips(CHUNKED, b"1\r\n \r\n"),
        drips("content-length: 500000", b""),
    )
    served = await drips_behind_enough()
    assert served.status == 200, served.body
    for reply, why in zip(
        await refused,
        ("less than 8192 bytes a second", "less than 8192 bytes a second", "stopped arriving"),
        strict=True,
    ):
        assert reply.status == 408
        assert why in reply.error["message"]
        assert reply.error["code"] == "request_timeout"
        assert reply.header("connection") == "close"
    await until_held(gateway, 0)


# Before the body


async def test_upload_without_a_request_or_slot_left_is_refused_unread(
    gateway: Gateway, simulator: Program
) -> None:
    length = f"content-length: {MiB}"
    one, slot = await new_key(gateway, plan="one"), await new_key(gateway, plan="slot")
    assert (await ask(gateway.url, CHAT, chat(), one)).status == 200
    async with waiting(gateway, slot, json.dumps(chat(HELD, "chat")).encode()) as first:
        await asyncio.to_thread(until, lambda: gateway.in_flight() == 1)
        for headers, what in ((one, "requests"), (slot, "concurrent requests")):
            async with line(gateway.url) as connection:
                await connection.send(head(CHAT, headers, length))
                reply = await connection.reply()
            assert reply.status == 429
            assert f"Rate limit reached for {what}" in reply.error["message"]
            assert int(reply.header("retry-after")) >= 1
            async with line(gateway.url) as connection:  # who sends on gets its answer
                await connection.send(head(CHAT, headers, length))
                for _ in range(16):
                    await connection.send(b" " * (MiB // 16))
                assert (await connection.reply()).status == 429
        await asyncio.to_thread(release, simulator)
        assert (await first.reply()).status == 200
    assert (await ask(gateway.url, CHAT, chat(), slot)).status == 200


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (CHAT, {}, 401),
        ("/v1/unknown", {}, 403),
        ("/nothing", {}, 404),
        (KEYS, {}, 401),
        ("/v1/models", {}, 405),
        ("/health", {}, 405),
        (CHAT, {"content-encoding": "gzip", "authorization": "key"}, 415),
    ],
)
async def test_upload_refused_unread_gets_its_answer(
    gateway: Gateway, path: str, headers: dict[str, str], status: int
) -> None:
    if "authorization" in headers:
        headers = {**headers, **gateway.bearer}
    async with line(gateway.url) as connection:
        await connection.send(head(path, headers, f"content-length: {16 * MiB}"))
        for _ in range(64):
            await connection.send(b" " * (MiB // 4))
        assert (await connection.reply()).status == status


async def test_upload_waits_for_its_slot_before_it_is_read(
    gateway: Gateway, simulator: Program
) -> None:
    patient = await new_key(gateway, plan="patient")
    async with waiting(gateway, patient, json.dumps(chat(HELD, "chat")).encode()) as first:
        await asyncio.to_thread(until, lambda: gateway.in_flight() == 1)
        async with waiting(gateway, patient, large("Hi")) as second:
            throttled = "penstock_throttled_requests", ()
            await asyncio.to_thread(until, lambda: gateway.metrics()[throttled] == 1)
            await asyncio.to_thread(release, simulator)
            assert (await first.reply()).status == 200
            assert (await second.reply()).status == 200
    await until_held(gateway, 0)


async def test_tokens_that_refuse_take_no_request(gateway: Gateway) -> None:
    """The rate of requests is asked before the body, that of tokens after it."""
    key = await new_key(gateway, plan="tokens")
    body = {**chat("Hi"), "max_tokens": 1}
    first = await ask(gateway.url, CHAT, body, key)
    assert first.status == 200
    assert first.header("x-ratelimit-remaining") == "2"
    assert first.header("x-ratelimit-limit-tokens") == "100"
    for _ in range(3):
        refused = await ask(gateway.url, CHAT, chat("Hi " * 400), key)
        assert refused.status == 429
        assert "for tokens" in refused.error["message"]
    last = await ask(gateway.url, CHAT, body, key)
    assert (last.status, last.header("x-ratelimit-remaining")) == (200, "1")


# Bytes


async def test_bodies_beyond_the_bounds_are_refused_and_room_comes_back(
    gateway: Gateway, simulator: Program
) -> None:
    keys = [await new_key(gateway) for _ in range(3)]
    async with (
        waiting(gateway, keys[0], large()) as first,
        waiting(gateway, keys[1], large()) as second,
    ):
        await until_held(gateway, 2 * LARGE)
        refused = await ask(gateway.url, CHAT, large(), keys[0])
        assert refused.status == 429
        assert f"limit {MiB} bytes at once" in refused.error["message"]
        assert refused.header("retry-after") == "1"
        full = await ask(gateway.url, CHAT, large(), keys[2])
        assert (full.status, full.error["code"]) == (503, "upstream_unavailable")
        assert full.header("retry-after") == "1"
        chunked = head(CHAT, keys[2], CHUNKED)  # which does not say how much is to come
        async with line(gateway.url) as connection:
            await connection.send(chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(large()), large()))
            assert (await connection.reply()).status == 503
        assert (await ask(gateway.url, CHAT, chat(), keys[2])).status == 200
        await until_held(gateway, 2 * LARGE)
        await asyncio.to_thread(release, simulator)
        assert [(await one.reply()).status for one in (first, second)] == [200, 200]
    await until_held(gateway, 0)
    assert (await ask(gateway.url, CHAT, large("Hi"), keys[0])).status == 200


async def test_small_bodies_have_room_when_large_ones_have_taken_the_rest(
    gateway: Gateway, simulator: Program
) -> None:
    keys = [await new_key(gateway) for _ in range(3)]
    size = 760_000
    body = json.dumps({**chat(HELD, "chat"), "user": "x" * size}).encode()
    empty = len(json.dumps({**chat("Hi"), "user": ""}))
    within, beyond = (
        json.dumps({**chat("Hi"), "user": "x" * (SMALL_BODY - empty + more)}).encode()
        for more in (0, 1)
    )
    async with (
        waiting(gateway, keys[0], body) as first,
        waiting(gateway, keys[1], body) as second,
    ):
        await until_held(gateway, 2 * size)
        assert len(within) == SMALL_BODY
        assert (await ask(gateway.url, CHAT, within, keys[2])).status == 200
        refused = await ask(gateway.url, CHAT, beyond, keys[2])
        assert (refused.status, refused.error["code"]) == (503, "upstream_unavailable")
        await asyncio.to_thread(release, simulator)
        assert [(await one.reply()).status for one in (first, second)] == [200, 200]
    await until_held(gateway, 0)


async def test_bodies_are_let_go_when_the_client_leaves(gateway: Gateway) -> None:
    async with line(gateway.url) as connection:
        framing = f"content-length: {LARGE}"
        await connection.send(head(CHAT, gateway.bearer, framing) + b" " * (LARGE - 1000))
        await until_held(gateway, LARGE - 1000)
    await until_held(gateway, 0)
    async with waiting(gateway, gateway.bearer, large()):
        await until_held(gateway, LARGE)
    await until_held(gateway, 0)


async def test_bodies_are_let_go_when_content_begins(gateway: Gateway) -> None:
    body = large("[[sim tokens=500 rate=20]]", stream=True)
    async with waiting(gateway, gateway.bearer, body) as connection:
        reply = await connection.head()
        async for _ in connection.parts(reply):
            break
        await until_held(gateway, 0)
        assert gateway.in_flight() == 1


async def test_bodies_of_an_idempotent_request_count_when_its_client_has_left(
    gateway: Gateway, simulator: Program
) -> None:
    key = await new_key(gateway)
    async with waiting(gateway, {**key, "idempotency-key": "left"}, large()):
        await until_held(gateway, LARGE)
    for name in ("second", "third"):
        reply = await ask(gateway.url, CHAT, large(), {**key, "idempotency-key": name})
        assert reply.status == 429
    assert held(gateway) < LARGE + 2000
    await asyncio.to_thread(release, simulator)
    await until_held(gateway, 0)


async def test_bodies_of_many_keys_leave_the_worker_small(
    start: Start, simulator: Program, full: bool, figures: Figures
) -> None:
    """With the bounds as they are by default, bodies of almost the largest size, translated."""
    gateway = await asyncio.to_thread(start, over_http(simulator.url))
    keys = [await new_key(gateway) for _ in range(4)]
    (worker,) = gateway.workers
    text = "x" * 30_000
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n in range(1_000)]
    messages.append({"role": "user", "content": HELD})
    body = json.dumps({"model": "claude", "max_tokens": 9, "messages": messages}).encode()
    statuses: list[int] = []

    async def one(number: int) -> None:
        async with line(gateway.url) as connection:
            await connection.send(request(CHAT, body, keys[number % len(keys)]))
            statuses.append((await connection.reply()).status)

    count = 40 if full else 10
    tasks = [asyncio.create_task(one(number)) for number in range(count)]
    await asyncio.to_thread(
        until, lambda: len(statuses) >= count - 2, within=2 * DEADLINE, what="refusals"
    )
    assert set(statuses) <= {429, 503}
    peak = peak_rss(worker.pid)
    figures(
        f"{count} bodies of {len(body) / MiB:.0f} MB: a worker took {peak / MiB:.0f} MB at most"
    )
    assert peak < 400 * MiB
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await until_held(gateway, 0)


# Headers


async def test_headers_passed_on_are_bounded_and_reach_no_upstream(gateway: Gateway) -> None:
    def tried() -> float:
        metrics = gateway.metrics()
        return sum(n for (name, _), n in metrics.items() if name.endswith("attempts_total"))

    headers = {"x-api-key": gateway.key, **ANTHROPIC}
    longest = "b" * (MAX_HEADER_BYTES - len("anthropic-beta"))
    rest = MAX_HEADERS_BYTES - MAX_HEADER_BYTES - sum(len(n) + len(v) for n, v in ANTHROPIC.items())
    another = "b" * (rest - len("anthropic-y"))
    names = [f"anthropic-x{n}" for n in range(MAX_HEADERS)]
    for fits in (
        {"anthropic-beta": longest},
        {"anthropic-beta": longest, "anthropic-y": another},
        dict.fromkeys(names[len(ANTHROPIC) :], "b"),
    ):
        reply = await ask(gateway.url, MESSAGES, chat("Hi", "claude"), {**headers, **fits})
        assert reply.status == 200, reply.body
    await asyncio.to_thread(until, lambda: tried() >= 3)
    before = tried()
    for more, name, bound in (
        ({"anthropic-beta": longest + "b"}, "anthropic-beta", MAX_HEADER_BYTES),
        (
            {"anthropic-beta": longest, "anthropic-y": another + "b"},
            "anthropic-y",
            MAX_HEADERS_BYTES,
        ),
        (dict.fromkeys(names, "b"), "anthropic-x31", MAX_HEADERS),
    ):
        for stream in (False, True):
            body = chat("Hi", "claude", stream=stream)
            reply = await ask(gateway.url, MESSAGES, body, {**headers, **more})
            assert reply.status == 431
            assert f"`{name}` is too large: expected at most {bound} " in reply.error["message"]
    reply = await ask(gateway.url, MESSAGES, chat("Hi", "claude", stream=True), headers)
    assert events(reply.body)[-1] == {"type": "message_stop"}
    await asyncio.to_thread(until, lambda: tried() == before + 1)


PROVOKED = {
    "431": (431, b" "),
    "415": (415, b'{"error":{"message":"Unsupported media type"}}'),
    "414": (414, b"<html><title>414 Request-URI Too Large</title></html>"),
    "411": (411, b"Length Required"),
    "417": (417, b"Expectation Failed"),
    "firewall": (403, b"<html><head><title>Request blocked</title></head></html>"),
    "firewall-text": (403, b"error code: 1020"),
    "nginx": (400, b"<html><title>400 Request Header Or Cookie Too Large</title></html>"),
    "apache": (400, b"<p>Size of a request header field exceeds server limit.</p>"),
    "large": (413, b"Request header fields too large"),
    "500": (500, b"{}"),
}
"""What upstreams answer to the form of one caller's request; the last one is a fault of theirs."""


async def test_statuses_that_one_request_provokes_open_no_breaker(start: Start) -> None:
    scripts = {
        name: [Answer(status=status, headers={"content-type": "text/html"}, pieces=[body])]
        for name, (status, body) in PROVOKED.items()
    }
    with scripted_upstream(scripts) as upstream:
        document = over_http(upstream.url.removesuffix("/v1"))
        document["models"] = [{"id": name, "targets": [f"far-openai/{name}"]} for name in PROVOKED]
        gateway = await asyncio.to_thread(start, document)
        for name in PROVOKED:
            for _ in range(12):
                await ask(gateway.url, CHAT, chat("Hi", name), gateway.bearer)

        def broken() -> set[str]:
            return {
                dict(labels)["target"]
                for (sample, labels), value in gateway.metrics().items()
                if sample == "penstock_target_broken" and value
            }

        await asyncio.to_thread(until, lambda: "500" in broken())
        assert broken() == {"500"}
        assert all(upstream.asked[name] for name in PROVOKED)
