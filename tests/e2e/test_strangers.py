"""Hostile names, members, references, paths and texts against the real program."""

import asyncio
import json
import random
import sqlite3
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .answers import answer
from .conftest import ADMIN_TOKEN, SECRETS, UPSTREAM_KEY, Start
from .program import Gateway
from .scripted_upstream import JSON, Answer, ScriptedUpstream, Wire, scripted_upstream
from .wire import CHAT, MESSAGES, ask, line

RESPONSES = "/v1/responses"
TURNS = [{"role": "user", "content": "Hello"}]
DIGITS = "9" * 5000
ECHO_SECRET = "a1b2c3d4e5f6a7b8c9d0"
CONTROLS = "\r\n\x1b[31m\u202e\u2028" * 2000


def scripts() -> dict[str, list[Answer]]:
    wires: tuple[Wire, ...] = ("chat", "messages", "responses")
    fine = [
        Answer(wire=wire, pieces=[json.dumps(answer(wire, "Hi").body).encode()]) for wire in wires
    ]

    def failing(status: int, message: str) -> list[Answer]:
        body = json.dumps({"error": {"message": message, "type": "invalid_request_error"}})
        return [Answer(status=status, headers=JSON, pieces=[body.encode()])]

    return {
        "fine": fine,
        "overflow": failing(400, f"prompt is too long: {DIGITS} + {DIGITS} > {DIGITS}"),
        "echo": failing(500, f"you sent {UPSTREAM_KEY} and {ECHO_SECRET}; {CONTROLS}"),
    }


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with scripted_upstream(scripts()) as running:
        yield running


def document(url: str, **rest: Any) -> dict[str, Any]:
    """An exact entry that no plan but `gold` may use, beside a wildcard for all other names."""
    dialects = ("openai", "anthropic", "responses")
    upstreams = [
        {
            "name": dialect,
            "dialect": dialect,
            "base_url": url,
            "api_key": "env:UPSTREAM_KEY",
            "headers": {"x-odd": ECHO_SECRET},
        }
        for dialect in dialects
    ]
    models: list[dict[str, Any]] = [
        {"id": "e-vip", "targets": ["openai/fine"], "plans": ["gold"]},
        {"id": "*", "targets": ["openai/fine", "anthropic/fine", "responses/fine"]},
    ]
    for dialect in dialects:
        models += [
            {"id": f"{dialect}-{name}", "targets": [f"{dialect}/{name}"]}
            for name in ("fine", "overflow", "echo")
        ]
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "plans": [{"id": "gold"}],
        "breaker": {"min_failures": 1000},
        "upstreams": upstreams,
        "models": models,
        **rest,
    }


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("strange")
    gateway = Gateway(folder, document(upstream.url), env=SECRETS)
    try:
        yield gateway
        assert gateway.stop() == 0, gateway.stderr
    finally:
        gateway.kill()


def asked(upstream: ScriptedUpstream) -> int:
    return sum(map(len, upstream.asked.values()))


DISGUISES = (
    "e-VIP",
    "E-vip[1m]",
    "e-vip[1m][1m]",
    "Penstock/e-vip",
    "penstock/penstock/e-vip[1M]",
    "openai/e-vip",
    "anthropic/openai/e-VIP[1m][1m]",
    "models/e-vip",
    "e-vip:latest",
    "e-vip.",
    "/e-vip",
    "e-v%69p",
    "e%2Dvip",
    "\uff45-vip",
    "e-v\u0131p",
    "e-vip ",
)


def test_exact_name_in_disguise_is_served_nowhere(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    assert gateway.post(CHAT, {"model": "other", "messages": TURNS}).status_code == 200
    assert gateway.post(CHAT, {"model": "e-vip", "messages": TURNS}).status_code == 403
    before = asked(upstream)
    for name in DISGUISES:
        said = {"model": name, "max_tokens": 9}
        for path, body in (
            (CHAT, {**said, "messages": TURNS}),
            (CHAT, {"model": "other", "models": ["other", name], "messages": TURNS}),
            (MESSAGES, {**said, "messages": TURNS}),
            (f"{MESSAGES}/count_tokens", {"model": name, "messages": TURNS}),
            (RESPONSES, {"model": name, "input": "Hello"}),
            (f"{RESPONSES}/compact", {"model": name, "input": TURNS}),
            (f"{RESPONSES}/input_tokens", {"model": name, "input": "Hello"}),
            ("/v1/completions", {**said, "prompt": "Hello"}),
            ("/v1/embeddings", {"model": name, "input": "Hello"}),
        ):
            reply = gateway.post(path, body)
            assert reply.status_code in (403, 404), (name, path, reply.text)
        shown = gateway.get(f"/v1/models/{name.strip()}", headers=gateway.bearer)
        assert shown.status_code in (403, 404) or name.strip() != name, (name, shown.text)
        made = httpx.post(
            f"{gateway.url}/admin/v1/keys",
            json={"name": "x", "models": [name]},
            headers={"authorization": f"Bearer {ADMIN_TOKEN}"},
            trust_env=False,
        )
        assert made.status_code == 400, (name, made.text)
    assert asked(upstream) == before


FORBIDDEN: tuple[tuple[str, dict[str, Any], str], ...] = (
    (CHAT, {"messages": TURNS, "Model": "e-vip"}, "Model"),
    (CHAT, {"messages": TURNS, "tools": [{"Type": "web_search"}]}, "tools[0].Type"),
    (CHAT, {"messages": TURNS, "response_format": {"Type": "text"}}, "response_format.Type"),
    (
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"FILE_ID": "f"}}]}]},
        "messages[0].content[0].file.FILE_ID",
    ),
    (CHAT, {"messages": TURNS, "conversation": "conv_1"}, "conversation"),
    (MESSAGES, {"messages": TURNS, "container": "c_1"}, "container"),
    (
        MESSAGES,
        {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]},
        "messages[0].content[0].file_id",
    ),
    (MESSAGES, {"messages": TURNS, "metadata": {"USER_ID": "u"}}, "metadata.USER_ID"),
    (
        RESPONSES,
        {"input": "x", "tools": [{"type": "file_search", "vector_store_ids": ["vs"]}]},
        "tools[0].vector_store_ids",
    ),
    (RESPONSES, {"input": [{"type": "message", "file_id": "f"}]}, "input[0].file_id"),
    (
        RESPONSES,
        {"input": "x", "tools": [{"type": "code_interpreter", "container": "cntr_1"}]},
        "tools[0].container",
    ),
    (RESPONSES, {"input": "x", "prompt": {"id": "p"}}, "prompt"),
)


@pytest.mark.parametrize("stream", [False, True])
def test_folded_members_and_vendors_objects_reach_no_upstream(
    gateway: Gateway, upstream: ScriptedUpstream, stream: bool
) -> None:
    before = asked(upstream)
    for path, body, param in FORBIDDEN:
        for dialect in ("openai", "anthropic", "responses"):
            said = {"model": f"{dialect}-fine", "max_tokens": 9, "stream": stream, **body}
            if path == RESPONSES:
                del said["max_tokens"]
            reply = gateway.post(path, said)
            assert reply.status_code == 400, (path, body, reply.text)
            assert f"`{param}`" in reply.json()["error"]["message"], reply.text
    assert asked(upstream) == before


async def test_of_two_members_the_upstream_gets_the_one_that_was_checked(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    body = (
        b'{"model":"e-vip","mod\\u0065l":"openai-fine","max_tokens":9999,"max_tokens":9,'
        b'"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}],'
        b'"content":"Hello","odd":1}]}'
    )
    reply = await ask(gateway.url, CHAT, body, gateway.bearer)
    assert reply.status == 200, reply.body
    sent = upstream.asked["fine"][-1].body
    assert sent["model"] == "fine"
    assert sent["max_tokens"] == 9
    assert sent["messages"] == [{"role": "user", "content": "Hello", "odd": 1}]


def test_upstreams_texts_end_in_short_lines_without_secrets(gateway: Gateway) -> None:
    for name in ("overflow", "echo"):
        for dialect in ("openai", "anthropic", "responses"):
            for path in (CHAT, MESSAGES, RESPONSES):
                turns = {"input": "Hi"} if path == RESPONSES else {"messages": TURNS}
                body: dict[str, Any] = {"model": f"{dialect}-{name}", **turns}
                if path == MESSAGES:
                    body["max_tokens"] = 9
                reply = gateway.post(path, body)
                assert reply.status_code == (400 if name == "overflow" else 502), reply.text
                assert len(reply.content) < 1000
                entry = gateway.request_line(reply.headers["x-request-id"])
                assert len(json.dumps(entry)) < 8000
    assert ECHO_SECRET not in gateway.stderr
    assert UPSTREAM_KEY not in gateway.stderr
    assert "Traceback" not in gateway.stderr
    with sqlite3.connect(gateway.database) as connection:
        rows = repr(connection.execute("select * from ledger").fetchall())
    connection.close()
    assert ECHO_SECRET not in rows


async def raw(gateway: Gateway, target: bytes, key: str = "") -> int:
    """The status of GET of exactly these bytes."""
    async with line(gateway.url) as connection:
        head = b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        if key:
            head += b"authorization: Bearer " + key.encode() + b"\r\n"
        await connection.send(head + b"\r\n")
        return (await connection.head()).status


PATHS: tuple[tuple[bytes, int, int], ...] = (
    # target, status without a key, status with one
    (b"/v1/models", 401, 200),
    (b"/v1/%6dodels", 401, 200),
    (b"/v1%2fmodels", 401, 200),
    (b"/v1/models/openai%2Dfine", 401, 200),
    (b"/v1/models/openai%252Dfine", 401, 404),
    (b"/v1/models/openai-fine%00", 401, 404),
    (b"/v1/models/openai-fine%0d%0ax: 1", 400, 400),
    (b"/v1/models/openai-fine%0d%0ax:1", 401, 404),
    (b"/v1/models/%c0%aeopenai-fine", 401, 404),
    (b"/v1/models/%c1%ad", 401, 404),
    (b"/v1/models/%ff%fe", 401, 404),
    (b"/v1/models/%ed%a0%80", 401, 404),
    (b"/v1/%2e%2e/livez", 403, 403),
    (b"/v1/..%2flivez", 403, 403),
    (b"/v1/%252e%252e/livez", 403, 403),
    (b"/livez%00", 404, 404),
    (b"/livez/..%2fv1/models", 404, 404),
    (b"/%2e%2e/v1/models", 404, 404),
    (b"/health/%2e%2e/admin/v1/keys", 404, 404),
    (b"/%61dmin/v1/keys", 401, 401),
    (b"/admin%2fv1%2fkeys", 401, 401),
    (b"/admin/%76%31/keys", 401, 401),
    (b"/%2561dmin/v1/keys", 404, 404),
    (b"/v1/models%3f/../x", 403, 403),
    (b"//v1/models", 404, 404),
)


async def test_percent_escapes_are_decoded_once_and_open_nothing(gateway: Gateway) -> None:
    for target, without, with_key in PATHS:
        found = (await raw(gateway, target), await raw(gateway, target, gateway.key))
        assert found == (without, with_key), target


async def test_strangers_names_and_paths_are_short_lines_and_no_labels(gateway: Gateway) -> None:
    odd = "canary" + "z" * 240
    for target in (b"/v1/models/" + b"%1b" * 8000, b"/v1/" + b"%0a" * 8000, b"/" + b"x" * 20_000):
        assert await raw(gateway, target, gateway.key) in (403, 404, 414, 431)
    for name in (odd, "canary\u202e", "canary-1", "canary-2"):
        body = {"model": name, "messages": TURNS}
        await asyncio.to_thread(
            gateway.post, CHAT, body, **{"x-request-id": odd, "user-agent": odd}
        )
    last = await ask(gateway.url, "/v1/models", None, gateway.bearer)
    await asyncio.to_thread(gateway.request_line, last.header("x-request-id"))
    lines = [entry for entry in gateway.log if entry.get("event") == "request"]
    assert max(len(json.dumps(entry)) for entry in lines) < 8000
    assert max(len(entry["path"]) for entry in lines) == 256
    assert all(entry["path"].isprintable() for entry in lines)
    assert "canary" not in gateway.get("/metrics").text


def responses_of(gateway: Gateway, query: str) -> Any:
    with sqlite3.connect(gateway.database) as connection:
        found = connection.execute(query).fetchone()[0]
    connection.close()
    return found


def test_quota_of_kept_answers_removes_the_oldest_and_refuses_nothing(
    start: Start, upstream: ScriptedUpstream
) -> None:
    gateway = start(
        document(upstream.url, store={"responses_max_count": 10, "responses_max_size": "1MiB"})
    )
    ids: list[str] = []
    for n in range(30):
        body: dict[str, Any] = {"model": "openai-fine", "input": f"turn {n}"}
        if n % 3 == 2:  # each third goes on from the one before
            body["previous_response_id"] = ids[-1]
        reply = gateway.post(RESPONSES, body)
        assert reply.status_code == 200, reply.text
        ids.append(reply.json()["id"])
    for n in range(4):
        large = random.Random(n).randbytes(400_000).hex()  # 400 kB as it is kept
        kept = gateway.post(RESPONSES, {"model": "openai-fine", "input": large})
        assert kept.json()["store"] is True
    assert responses_of(gateway, "select count(*) from responses") <= 10
    size = "select sum(length(input) + length(output) + length(answer)) from responses"
    assert responses_of(gateway, size) <= 1 << 20
    headers = gateway.bearer
    assert gateway.get(f"{RESPONSES}/{ids[0]}", headers=headers).status_code == 404
    assert gateway.get(f"{RESPONSES}/{kept.json()['id']}", headers=headers).status_code == 200
    assert gateway.metrics()["penstock_answers_removed_total", ()] > 20


def test_strangers_answers_are_not_kept_unless_the_operator_says_so(
    start: Start, upstream: ScriptedUpstream
) -> None:
    asked = {"model": "openai-fine", "input": "x", "store": True}
    for store, kept in (({}, False), ({"responses_ttl": "1h", "responses_max_count": 3}, True)):
        gateway = start(document(upstream.url, auth={"mode": "none"}, store=store))
        for _ in range(5):
            reply = httpx.post(f"{gateway.url}{RESPONSES}", json=asked, trust_env=False)
            assert reply.status_code == 200, reply.text
            assert reply.json()["store"] is kept
        found = gateway.get(f"{RESPONSES}/{reply.json()['id']}")
        assert found.status_code == (200 if kept else 404)
        assert responses_of(gateway, "select count(*) from responses") == (3 if kept else 0)
