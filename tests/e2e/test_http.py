"""Raw clients against the real server: what curl sees, and what no library would send."""

import asyncio

import httpx
import pytest

from .conftest import Start, over_http
from .program import DEADLINE, Gateway, Program, peak_rss, until
from .wire import ANTHROPIC, CHAT, MESSAGES, Line, Reply, ask, chat, events, line, request, text_of

MiB = 1 << 20


@pytest.mark.parametrize("model", ["sim-1", "chat"])
async def test_a_chat_stream(gateway: Gateway, model: str) -> None:
    body = chat("Hello there", model, stream=True)
    reply = await ask(gateway.url, CHAT, body, gateway.bearer)
    assert (reply.status, reply.whole) == (200, True)
    assert reply.header("content-type") == "text/event-stream; charset=utf-8"
    assert reply.header("x-model-used") == model
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert text_of(reply.body).startswith("You said: Hello there")
    assert {event["model"] for event in events(reply.body)[:-1]} == {model}


@pytest.mark.parametrize("model", ["sim-1", "claude"])
async def test_a_messages_stream(gateway: Gateway, model: str) -> None:
    body = chat("Hello there", model, stream=True)
    headers = {"x-api-key": gateway.key, **ANTHROPIC}
    reply = await ask(gateway.url, MESSAGES, body, headers)
    assert (reply.status, reply.whole) == (200, True)
    assert reply.header("request-id") == reply.header("x-request-id")
    assert text_of(reply.body).startswith("You said: Hello there")
    found = events(reply.body)
    assert found[0]["message"]["model"] == model
    assert found[-1] == {"type": "message_stop"}


@pytest.mark.parametrize("path", [CHAT, MESSAGES, "/v1/embeddings", "/v1/models"])
@pytest.mark.parametrize("credentials", [{}, {"authorization": "Bearer sk-penstock-live-no"}])
async def test_without_a_good_key_nothing_opens(
    gateway: Gateway, path: str, credentials: dict[str, str]
) -> None:
    body = None if path == "/v1/models" else chat()
    reply = await ask(gateway.url, path, body, credentials)
    assert reply.status == 401
    kind = "invalid_key" if credentials else "missing_key"
    if path == MESSAGES:
        assert set(reply.json()) == {"type", "error", "request_id"}
        assert reply.json()["request_id"] == reply.header("x-request-id")
    else:
        assert set(reply.json()) == {"error"}
        assert reply.error["code"] == kind
    assert reply.error["type"] == "authentication_error"
    line_of = await asyncio.to_thread(gateway.request_line, reply.header("x-request-id"))
    assert line_of["problem"] == kind


async def test_an_unknown_endpoint_is_not_allowed(gateway: Gateway) -> None:
    for headers in ({}, gateway.bearer):
        reply = await ask(gateway.url, "/v1/unknown", {}, headers)
        assert reply.status == 403
        assert reply.error["code"] == "endpoint_not_allowed"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"model": 3}', "model"),
        (b'{"model": null, "messages": []}', "model"),
        (b'{"messages": [{}]}', "model"),
        (b'{"model": "sim-1"}', "messages"),
        (b'{"model": "sim-1", "messages": [{}], "stream": "yes"}', "stream"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_a_wrong_field_is_named(gateway: Gateway, path: str, body: bytes, field: str) -> None:
    reply = await ask(gateway.url, path, body, gateway.bearer)
    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"
    assert f"`{field}`" in reply.error["message"]
    if path == CHAT:
        assert reply.error["param"] == field


def _large(gateway: Gateway, framing: str) -> bytes:
    head = request(
        CHAT, method="POST", headers={**gateway.bearer, "content-type": "application/json"}
    )
    return head[:-2] + framing.encode() + b"\r\n\r\n"


async def _pour(connection: Line, chunked: bool) -> None:
    """Write 100 MB, whatever comes back meanwhile."""
    piece = b"x" * MiB
    framed = b"%x\r\n%b\r\n" % (MiB, piece) if chunked else piece
    for _ in range(100):
        await connection.send(framed)
    if chunked:
        await connection.send(b"0\r\n\r\n")


@pytest.mark.parametrize("expect", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_100_mb_is_refused_and_never_held(
    gateway: Gateway, chunked: bool, expect: bool
) -> None:
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {100 * MiB}"
    if expect:
        framing += "\r\nexpect: 100-continue"
    (worker,) = gateway.workers
    before = peak_rss(worker.pid)
    async with line(gateway.url) as connection:
        await connection.send(_large(gateway, framing))
        await _pour(connection, chunked)
        reply = await connection.reply()
    assert (reply.status, reply.whole) == (413, True)
    assert reply.error["message"] == f"The request body is larger than {MiB} bytes."
    assert peak_rss(worker.pid) - before < 16 * MiB


async def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    texts = ["first of three", "second of three", "third of three"]
    async with line(gateway.url) as connection:
        await connection.send(
            b"".join(
                request(CHAT, chat(text, "chat", stream=at == 1), gateway.bearer)
                for at, text in enumerate(texts)
            )
        )
        first, second, third = [await connection.reply() for _ in texts]
    assert "first of three" in first.json()["choices"][0]["message"]["content"]
    assert "second of three" in text_of(second.body)
    assert "third of three" in third.json()["choices"][0]["message"]["content"]
    ids = {reply.header("x-request-id") for reply in (first, second, third)}
    assert len(ids) == 3


@pytest.mark.parametrize("path", ["/", "/health", "/api/hello", "/v1/models"])
async def test_head_has_no_body_and_the_connection_goes_on(gateway: Gateway, path: str) -> None:
    async with line(gateway.url) as connection:
        await connection.send(request(path, headers=gateway.bearer, method="HEAD"))
        reply = await connection.reply(bodyless=True)
        assert reply.status in (200, 204)
        assert reply.header("x-request-id")
        await connection.send(request("/health"))
        after = await connection.reply()
    assert after.json() == {"status": "ok"}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "/v1/v1/chat/completions",
        "/v1/v1/chat/completions/?api-version=1",
        "/v1/chat/completions?beta=true&x=%00",
    ],
)
async def test_paths_written_unusually(gateway: Gateway, path: str) -> None:
    reply = await ask(gateway.url, path, chat(), gateway.bearer)
    assert reply.status == 200
    assert (await ask(gateway.url, path, chat())).status == 401


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost/#@x",
        "localhost/health?",
        "penstock.test/../health",
        "a@b",
        "[::1",
        "xn--",
        "health\t",
        "%2e%2e/health#",
        "x" * 4000,
    ],
)
async def test_no_host_header_opens_a_door(gateway: Gateway, host: str) -> None:
    for path, body in ((CHAT, chat()), ("/v1/models", None), ("/v1/models/health", None)):
        reply = await ask(gateway.url, path, body, host=host)
        assert reply.status in (400, 401), (host, path)
    page = await ask(gateway.url, "/", host=host)
    assert page.status < 500


@pytest.mark.parametrize(
    "path", ["/v1/../v1/models", "/health/../v1/models", "//v1/models", "/v1/models/../../health"]
)
async def test_no_path_opens_a_door(gateway: Gateway, path: str) -> None:
    reply = await ask(gateway.url, path)
    assert reply.status in (401, 403, 404)
    assert b"sim-1" not in reply.body


async def test_twenty_streams_of_one_key(gateway: Gateway) -> None:
    async def one(number: int) -> Reply:
        text = f"stream number {number} [[sim tokens=80 rate=200]]"
        model = "chat" if number % 2 else "sim-1"
        return await ask(gateway.url, CHAT, chat(text, model, stream=True), gateway.bearer)

    replies = await asyncio.gather(*map(one, range(20)))
    for number, reply in enumerate(replies):
        assert (reply.status, reply.whole) == (200, True)
        assert text_of(reply.body).startswith(f"You said: stream number {number} ")
        assert reply.body.endswith(b"data: [DONE]\n\n")


async def test_client_that_does_not_read_delays_no_other(
    gateway: Gateway, simulator: Program
) -> None:
    """Its upstream is slowed down instead, and the rest comes when it reads again."""
    tokens = 100_000

    def paused() -> int:
        return int(httpx.get(f"{simulator.url}/stats", trust_env=False).json()["paused"])

    (worker,) = gateway.workers
    before = worker.memory_info().rss
    body = chat(f"Hello [[sim tokens={tokens}]]", "chat", stream=True)
    async with line(gateway.url, limit=2**14) as slow:
        await slow.send(request(CHAT, body, gateway.bearer))
        head = await slow.head()
        await asyncio.to_thread(until, paused, what="the simulator waiting for its reader")
        assert worker.memory_info().rss - before < 16 * MiB
        other = await ask(gateway.url, CHAT, chat("Hi", "chat", stream=True), gateway.bearer)
        assert other.body.endswith(b"data: [DONE]\n\n")
        size = 0
        chunks = 0
        last = b""
        async for part in slow.parts(head):
            size += len(part)
            chunks += part.count(b'"content":')
            last = part
    assert head.whole
    assert last.endswith(b"data: [DONE]\n\n")
    assert chunks >= tokens
    assert worker.memory_info().rss - before < size


async def test_pings_fill_the_silence_and_the_status_waits_for_its_turn(
    start: Start, simulator: Program
) -> None:
    document = over_http(simulator.url)
    document["server"] = {"first_token_hold": "3s", "ping_interval": "200ms"}
    gateway = await asyncio.to_thread(start, document)
    headers = {**gateway.bearer, **ANTHROPIC}
    # The first request looks up the key and connects, which may take long on a busy machine.
    assert (await ask(gateway.url, CHAT, chat("Hi", "chat"), gateway.bearer)).status == 200

    async def chatted(words: str) -> Reply:
        body = chat(f"[[sim {words}]]", "chat", stream=True)
        return await ask(gateway.url, CHAT, body, gateway.bearer)

    async def messaged(words: str) -> Reply:
        body = chat(f"[[sim {words}]]", "claude", stream=True)
        return await ask(gateway.url, MESSAGES, body, headers)

    quiet = "tokens=3 rate=2 fault=slow-first:5"
    failing = "fault=slow-headers:5,status:429"
    chat_reply, reply, early, late_chat, late = await asyncio.gather(
        chatted(quiet),
        messaged(quiet),
        chatted("fault=status:429"),
        chatted(failing),
        messaged(failing),
    )
    waiting, _, streaming = chat_reply.body.partition(b"data: ")
    assert waiting.count(b": keep-alive\n") >= 2
    assert b"\n\n: keep-alive\n" in streaming and b": keep-alive\n\n" not in chat_reply.body
    assert streaming.endswith(b"data: [DONE]\n\n")
    kinds = [event["type"] for event in events(reply.body)]
    assert kinds[:2] == ["ping", "ping"]
    assert "ping" in kinds[kinds.index("content_block_delta") :]
    assert kinds[-1] == "message_stop"
    # A failure within the hold keeps its status; after it, it is an event.
    assert early.status == 429
    assert late_chat.status == late.status == 200
    assert events(late_chat.body)[-1]["error"]["code"] == "rate_limit_exceeded"
    assert events(late.body)[-1]["error"]["type"] == "rate_limit_error"


async def test_http2_without_tls_where_it_is_switched_on(start: Start, simulator: Program) -> None:
    document = over_http(simulator.url)
    document["server"] = {"http2": True}
    gateway = await asyncio.to_thread(start, document)
    assert (await ask(gateway.url, "/health")).status == 200
    async with httpx.AsyncClient(
        http1=False, http2=True, trust_env=False, timeout=DEADLINE
    ) as client:
        responses = await asyncio.gather(
            *(
                client.post(
                    f"{gateway.url}{CHAT}",
                    json=chat(f"stream {number} [[sim rate=200]]", "chat", stream=True),
                    headers=gateway.bearer,
                )
                for number in range(8)
            )
        )
    for number, response in enumerate(responses):
        assert response.http_version == "HTTP/2"
        assert text_of(response.content).startswith(f"You said: stream {number}")
        assert response.content.endswith(b"data: [DONE]\n\n")
