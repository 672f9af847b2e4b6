"""The path table, through the whole chain."""

import asyncio
import json
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.routing.router import allowed_from, client_address
from tests.asgi import Call, Recorded, http_scope, request
from tests.edge.scripted import JSON, Answer, Scripted, ScriptedGateway

GOOD: dict[str, Any] = {"model": "m1", "messages": [{}], "input": "x"}
MESSAGE = {"role": "assistant", "content": "Hi"}
SAID: dict[str, Any] = {
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "type": "message",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "status": "completed",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}],
}
"""An answer in every dialect."""


def gateway(**members: Any) -> ScriptedGateway:
    return ScriptedGateway(Scripted(Answer([json.dumps(SAID).encode()], headers=[JSON])), **members)


async def get(path: str, method: str = "GET", **members: Any) -> tuple[Recorded, ScriptedGateway]:
    home = gateway()
    return await request(home.app, method, path, **members), home


@pytest.mark.parametrize(
    ("path", "endpoint", "dialect"),
    [
        ("/v1/chat/completions", "chat.completions", "openai"),
        ("/v1/messages", "messages", "anthropic"),
        ("/v1/embeddings", "embeddings", "openai"),
    ],
)
@pytest.mark.parametrize("shape", ["{}", "{}/", "{}//", "/v1{}", "/v1{}/"])
async def test_posts_however_the_base_url_was_set(
    path: str, endpoint: str, dialect: str, shape: str
) -> None:
    answer, home = await get(shape.format(path), "POST", json=GOOD, query="beta=true&x=1")
    assert answer.status == 200
    exchange = home.exchanges[0]
    assert (exchange.endpoint, exchange.dialect) == (endpoint, dialect)
    assert len(home.upstream.requests) == 1


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/", "/v1/v1/models", "/v1/models/m1"])
@pytest.mark.parametrize("version", [None, "2023-06-01"])
async def test_models_speak_the_callers_dialect(path: str, version: str | None) -> None:
    headers = {"anthropic-version": version} if version else {}
    answer, home = await get(path, headers=headers)
    assert answer.status == 200
    assert home.exchanges[0].endpoint == "models"
    assert home.exchanges[0].dialect == ("anthropic" if version else "openai")
    head, _ = await get(path, "HEAD", headers=headers)
    assert (head.status, head.body) == (200, b"")
    assert head.header("content-length") == answer.header("content-length")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("HEAD", "/v1/messages", "POST"),
        ("DELETE", "/v1/embeddings", "POST"),
        ("OPTIONS", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/m1", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
        ("PUT", "/", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_reported_the_right_one(method: str, path: str, allow: str) -> None:
    answer, home = await get(path, method)
    assert (answer.status, answer.header("allow")) == (405, allow)
    assert home.upstream.requests == []
    if method == "HEAD":
        assert answer.body == b""


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/v1",
        "/v1/nothing",
        "/v1/responsesx",
        "/v1//models",
        "/v1/chat",
        "/v1/MODELS",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_everything_else_under_v1_is_forbidden(method: str, path: str) -> None:
    answer, _ = await get(path, method)
    assert (answer.status, answer.json()["error"]["code"]) == (403, "endpoint_not_allowed")
    assert "Acme" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/nothing", "/V1/models", "/v1x", "//v1/models", "/admin", "/health/x", "/.env", ""]
)
async def test_everything_else_is_not_found(path: str) -> None:
    answer, _ = await get(path)
    if path == "":
        assert answer.status == 200  # some servers give the root so
        return
    assert (answer.status, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/chat/completions", "/messages/", "/models", "/models/m1"])
async def test_a_base_url_without_v1_lacks(path: str) -> None:
    answer, _ = await get(path, "POST")
    assert (answer.status, answer.json()["error"]["code"]) == (404, "not_found")
    assert "Put /v1 at the end of the base URL" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/ai/chat/completions", "/ai/eu/models", "/ai/eu/models/m1"])
async def test_a_base_url_of_a_configured_path_without_v1_lacks(path: str) -> None:
    routes = [
        {"path": "/ai/v1/chat/completions", "dialect": "openai"},
        {"path": "/ai/eu/v1/models", "dialect": "openai"},
    ]
    answer = await request(gateway(document={"routes": routes}).app, "GET", path)
    assert (answer.status, answer.json()["error"]["code"]) == (404, "not_found")
    assert "Put /v1 at the end of the base URL" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/nothing", "/v1/nothing", "/v1/messages", "/health"])
async def test_refusals_speak_the_callers_dialect(path: str) -> None:
    answer, _ = await get(path, "PATCH", headers={"anthropic-version": "2023-06-01"})
    said = answer.json()
    assert said["type"] == "error"
    assert set(said["error"]) == {"type", "message"}
    assert said["request_id"] == answer.header("request-id") == answer.header("x-request-id")


@pytest.mark.parametrize("path", ["/health/", "/healthz", "/livez/", "/readyz/", "//", "/metrics/"])
async def test_open_paths_take_a_trailing_slash_without_a_redirect(path: str) -> None:
    answer, home = await get(path)
    assert answer.status == 200
    assert answer.header("location") is None
    assert home.exchanges[0].endpoint == ("dashboard" if path == "//" else "ops")


HOSTS = st.one_of(
    st.sampled_from(
        [
            "localhost/#@x",
            "x/v1/models?",
            "[::1",
            "a b",
            "",
            "\xff",
            "x@y:z",
            "h:99999999",
            "/health#",
        ]
    ),
    st.binary(max_size=30)
    .filter(lambda raw: not set(raw) & set(b"\r\n"))
    .map(lambda raw: raw.decode("latin-1")),
)


@settings(max_examples=60)
@given(HOSTS)
def test_the_host_header_decides_nothing(host: str) -> None:
    async def run() -> None:
        for method, path, status in (
            ("GET", "/v1/models", 200),
            ("GET", "/v1/nothing", 403),
            ("GET", "/nothing", 404),
            ("POST", "/v1/models", 405),
            ("GET", "/health", 200),
            ("GET", "/", 200),
        ):
            headers = [("host", host), ("x-forwarded-host", host)]
            answer, _ = await get(path, method, headers=headers)
            assert answer.status == status, (method, path)
        outside = gateway()
        answer = await request(
            outside.app, "GET", "/metrics", headers=[("host", host)], client=("8.8.8.8", 1)
        )
        assert answer.status == 404

    asyncio.run(run())


# Profiles


async def test_a_profile_adds_and_re_maps_rows() -> None:
    routes = [
        {"path": "/v1/chat", "dialect": "anthropic"},
        {"path": "/ask", "dialect": "openai", "endpoint": "chat.completions"},
        {"path": "/any", "dialect": "auto", "endpoint": "chat.completions"},
        {"path": "/list", "dialect": "auto", "endpoint": "models"},
        {"path": "/vectors", "dialect": "openai", "endpoint": "embeddings"},
        {"path": "/v1/responses", "dialect": "responses"},
    ]
    routes[0]["endpoint"] = "messages"
    home = gateway(document={"routes": routes})

    async def asked(path: str, method: str = "POST", **headers: str) -> tuple[str, str]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await request(
            home.app, method, path, headers=names, body=json.dumps(GOOD).encode()
        )
        assert answer.status == 200, answer.text
        return home.exchanges[-1].endpoint, home.exchanges[-1].dialect

    assert await asked("/v1/chat") == ("messages", "anthropic")
    assert await asked("/ask", anthropic_version="1") == ("chat.completions", "openai")
    assert await asked("/any") == ("chat.completions", "openai")
    assert await asked("/any", anthropic_version="1") == ("messages", "anthropic")
    assert await asked("/list", "GET") == ("models", "openai")
    assert await asked("/vectors") == ("embeddings", "openai")


# Other scopes


async def test_a_websocket_is_closed_before_it_opens() -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/responses", "headers": []}
    await gateway().app(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_an_unknown_scope_is_refused() -> None:
    async def nothing(*_: Any) -> Any:
        raise AssertionError

    with pytest.raises(RuntimeError, match="carrier-pigeon"):
        await gateway().app({"type": "carrier-pigeon"}, nothing, nothing)


# Whose address


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("8.8.8.8", [], "8.8.8.8"),
        ("8.8.8.8", ["1.1.1.1"], "8.8.8.8"),  # not a proxy of ours: not believed
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),  # what the caller itself wrote is left
        ("10.0.0.1", ["6.6.6.6", "1.1.1.1"], "1.1.1.1"),
        ("10.0.0.1", ["6.6.6.6, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["1.1.1.1:443"], "1.1.1.1"),
        ("10.0.0.1", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", ["6.6.6.6, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("nonsense", ["1.1.1.1"], "nonsense"),
    ],
)
def test_the_client_address_is_counted_from_the_right(
    peer: str, forwarded: list[str], address: str
) -> None:
    headers = [("x-forwarded-for", value) for value in forwarded]
    scope = http_scope(headers=headers, client=(peer, 1))
    assert client_address(scope, (ip_network("10.0.0.0/8"),)) == address


def test_a_zone_makes_no_other_address() -> None:
    """It may be any text of any length: RFC 4007 leaves it to the machine."""
    headers = {"x-forwarded-for": "fd00::1%" + "x}{" * 1000}
    scope = http_scope(headers=headers, client=("10.0.0.1", 1))
    assert client_address(scope, (ip_network("10.0.0.0/8"),)) == "fd00::1"


def test_without_proxies_nothing_is_believed_and_a_unix_socket_has_no_address() -> None:
    headers = {"x-forwarded-for": "1.1.1.1"}
    assert client_address(http_scope(headers=headers, client=("10.0.0.1", 1)), ()) == "10.0.0.1"
    assert client_address(http_scope(headers=headers, client=None), ()) == ""
    assert client_address(http_scope(client=None), (ip_network("10.0.0.0/8"),)) == ""


def test_allowed_from() -> None:
    networks = (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert allowed_from("10.1.2.3", networks)
    assert allowed_from("::ffff:10.1.2.3", networks)
    assert allowed_from("::1", networks)
    assert allowed_from("", networks)
    assert not allowed_from("8.8.8.8", networks)
    assert not allowed_from("nonsense", networks)


async def test_a_caller_cannot_choose_its_address_to_reach_the_metrics() -> None:
    home = gateway()
    headers = {"x-forwarded-for": "127.0.0.1, 8.8.8.8"}
    answer = await request(home.app, "GET", "/metrics", headers=headers, client=("10.0.0.1", 1))
    assert answer.status == 404
    assert home.exchanges[0].client == "8.8.8.8"


async def test_a_refused_path_reads_no_body() -> None:
    async with Call(gateway().app, http_scope("POST", "/v1/nothing"), body=None) as call:
        assert (await call.done()).status == 403
        assert call.received == []
