"""What an operator's settings for one upstream do to the requests sent there."""

import gzip
import json
from typing import Any, Literal
from urllib.parse import parse_qsl

import certifi
import pytest

from edge.config.load import parse
from edge.upstreams import Request
from edge.upstreams.bodies import read_all
from edge.upstreams.build import providers_of
from edge.upstreams.http1.transport import Transport
from edge.upstreams.provider import Provider
from tests.asgi import request
from tests.edge.scripted import JSON, Answer, Scripted, ScriptedGateway

from .fake import Fake, answering

KEY = "test-key-0123456789"
TURN = [{"role": "user", "content": "Hello"}]
BASE = "http://up.example/base"

CHAT: dict[str, Any] = {"messages": TURN, "max_tokens": 50, "seed": 1, "user": "ann"}
CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "/v1/chat/completions": ("openai", "/chat/completions", CHAT),
    "/v1/embeddings": ("openai", "/embeddings", {"input": "Hi", "user": "ann"}),
    "/v1/responses": ("responses", "/responses", {"input": "Hi", "user": "ann"}),
    "/v1/responses/compact": ("responses", "/responses/compact", {"input": TURN}),
    "/v1/responses/input_tokens": ("responses", "/responses/input_tokens", {"input": TURN}),
    "/v1/messages": ("anthropic", "/messages", {"messages": TURN, "max_tokens": 50}),
    "/v1/messages/count_tokens": ("anthropic", "/messages/count_tokens", {"messages": TURN}),
}
"""By the caller's path: dialect of the upstream, path there, body."""


def gateway(dialect: str, **upstream: Any) -> ScriptedGateway:
    one = {"name": "up", "dialect": dialect, "base_url": BASE, "api_key": KEY, **upstream}
    model = {"id": "m", "targets": ["up/prod"], "family": "gpt-5"}
    document = {"upstreams": [one], "models": [model]}
    return ScriptedGateway(
        Scripted(Answer([b"{}"], headers=[JSON])), document=document, configured=True
    )


async def sent(found: ScriptedGateway, path: str, body: dict[str, Any], **headers: str) -> Request:
    """The request that the upstream gets; what it answers does not matter."""
    await request(found.app, "POST", path, json={"model": "m", **body}, headers=headers)
    return found.upstream.requests[0]


def members(sent: Request) -> dict[str, Any]:
    assert isinstance(sent.body, bytes)
    found: dict[str, Any] = json.loads(sent.body)
    return found


@pytest.mark.parametrize("path", CALLS)
async def test_settings_hold_for_every_endpoint(path: str) -> None:
    dialect, there, body = CALLS[path]
    found = gateway(
        dialect,
        query={"api-version": "2024-10-21"},
        auth_header="api-key",
        extra_body={"route": {"only": ["eu"]}, "user": "gateway"},
        drop_body=["seed", "metadata"],
    )
    got = await sent(found, path, {**body, "metadata": {"a": "b"}})
    assert got.target == f"/base{there}?api-version=2024-10-21".encode()
    headers = dict(got.headers)
    assert headers[b"api-key"] == KEY.encode()
    assert b"authorization" not in headers and b"x-api-key" not in headers
    given = members(got)
    assert (given["route"], given["user"]) == ({"only": ["eu"]}, "gateway")
    assert not given.keys() & {"seed", "metadata"}
    assert given["model"] == "prod"
    if path == "/v1/responses":  # as models that think are asked, which the name does not tell
        assert given["include"] == ["reasoning.encrypted_content"]


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "responses"])
async def test_settings_hold_for_translated_requests(dialect: str) -> None:
    found = gateway(dialect, extra_body={"route": 1}, drop_body=["user", "store"])
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses"):
        found.upstream.requests.clear()
        _, _, body = CALLS[path]
        given = members(await sent(found, path, body))
        assert given["route"] == 1
        assert not given.keys() & {"user", "store"}


async def test_bodies_pass_untouched_without_settings() -> None:
    body = b'{"model": "x", "user":1}'
    provider = providers_of(parse({"upstreams": [_upstream()]}))["up"]
    assert provider.with_body_settings(body, []) is body
    assert provider.target(b"/embeddings") == b"/base/embeddings"


def _upstream(**more: Any) -> dict[str, Any]:
    return {"name": "up", "dialect": "openai", "base_url": BASE, **more}


async def test_member_of_the_same_name_in_other_letters_goes_too() -> None:
    settings = _upstream(extra_body={"provider": {"zdr": True}}, drop_body=["User"])
    provider = providers_of(parse({"upstreams": [settings]}))["up"]
    dropped: list[str] = []
    body = provider.with_body_settings(
        '{"model":"m","Provider":1,"USER":2,"u\u017fer":3}'.encode(), dropped
    )
    assert json.loads(body) == {"model": "m", "provider": {"zdr": True}}
    assert dropped == [
        f"`{name}`: a setting of the upstream" for name in ("Provider", "USER", "u\u017fer")
    ]


@pytest.mark.parametrize(
    ("dialect", "header", "expected"),
    [
        ("openai", None, (b"authorization", b"Bearer " + KEY.encode())),
        ("anthropic", None, (b"x-api-key", KEY.encode())),
        ("anthropic", "authorization", (b"authorization", b"Bearer " + KEY.encode())),
        ("responses", "x-api-key", (b"x-api-key", KEY.encode())),
        ("openai", "api-key", (b"api-key", KEY.encode())),
    ],
)
def test_key_goes_into_the_header_of_the_dialect_or_the_one_given(
    dialect: str, header: str | None, expected: tuple[bytes, bytes]
) -> None:
    given = {"auth_header": header} if header else {}
    one = _upstream(dialect=dialect, api_key=KEY, **given)
    headers = providers_of(parse({"upstreams": [one]}))["up"].headers
    carried = [pair for pair in headers if KEY.encode() in pair[1]]
    assert carried == [expected]


def test_header_of_the_operator_goes_before_the_key() -> None:
    one = _upstream(api_key=KEY, auth_header="api-key", headers={"API-Key": "other"})
    headers = dict(providers_of(parse({"upstreams": [one]}))["up"].headers)
    assert headers[b"api-key"] == b"other"


def test_query_is_encoded_and_may_be_a_secret() -> None:
    one = _upstream(query={"a b": "c&d=e/ü", "key": "env:UP_QUERY"})
    settings = parse({"upstreams": [one]}, env={"UP_QUERY": "s3cr3t"})
    assert "s3cr3t" not in repr(settings)
    path, _, query = providers_of(settings)["up"].target(b"/messages", b"beta=true").partition(b"?")
    assert path == b"/base/messages"
    assert parse_qsl(query.decode()) == [("a b", "c&d=e/ü"), ("key", "s3cr3t"), ("beta", "true")]
    assert b"/" not in query and b" " not in query


def test_upstreams_that_trust_the_same_authorities_share_a_context() -> None:
    names = ("a", "b", "c")
    upstreams = [_upstream(name=name, base_url=f"https://{name}.example/v1") for name in names]
    upstreams[2]["ca"] = certifi.where()
    found = providers_of(parse({"upstreams": upstreams}))
    a, b, c = (found[name].upstream for name in names)
    assert isinstance(a, Transport) and isinstance(b, Transport) and isinstance(c, Transport)
    assert a.ssl_context is b.ssl_context is not None
    assert c.ssl_context is not a.ssl_context


@pytest.mark.parametrize("transport", ["native", "httpx"])
async def test_both_transports_send_the_query_and_unpack_the_answer(
    transport: Literal["native", "httpx"],
) -> None:
    packed = gzip.compress(b"{}")
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
    async with Fake(answering(head % len(packed) + packed)) as fake:
        one = _upstream(base_url=fake.url, transport=transport, query={"v": "1 2"})
        provider: Provider = providers_of(parse({"upstreams": [one]}))["up"]
        response = await provider.open(
            Request(b"POST", provider.target(b"/embeddings"), provider.headers, b"{}")
        )
        assert await read_all(response, 1 << 20) == b"{}"
        await provider.upstream.aclose()
        assert fake.requests[0].target == b"/embeddings?v=1%202"


SECRETS = {
    "headers": {
        "x-api-token": "tok/en+with==signs",
        "x-odd": "a1b2c3d4e5f6a7b8c9",
        "authorization": "Basic dXNlcjpiYXNpYy1wYXNzd29yZA==",
        "x-team": "payments-of-the-firm",
        "anthropic-version": "2023-06-01-preview",
    },
    "query": {"sig": "que/ry&secret", "api-version": "2024-12-01-preview"},
}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (f"Incorrect API key {KEY} given", "Incorrect API key *** given"),
        ("token tok/en+with==signs", "token ***"),
        (r"token tok\/en+with==signs", "token ***"),
        ("token tok%2Fen%2Bwith%3D%3Dsigns", "token ***"),
        ("x-odd: a1b2c3d4e5f6a7b8c9", "x-odd: ***"),
        ("Basic dXNlcjpiYXNpYy1wYXNzd29yZA==", "Basic ***"),
        ("user user, password basic-password", "user user, password ***"),
        ("GET /x?sig=que%2Fry%26secret&a=1", "GET /x?sig=***&a=1"),
        ("header cut off: a1b2c3d4e5", "header cut off: ***"),
        ("payments-of-the-firm 2023-06-01-preview 2024-12-01-preview", None),
    ],
)
def test_masked_credential_is_left_out_however_it_is_written(said: str, kept: str | None) -> None:
    one = {"name": "up", "dialect": "openai", "base_url": BASE, "api_key": KEY, **SECRETS}
    settings = parse({"upstreams": [one], "models": [{"id": "m", "targets": ["up/m"]}]}, env={})
    assert providers_of(settings)["up"].without_secrets(said) == (said if kept is None else kept)


async def test_credentials_an_upstream_repeats_are_in_no_log_line_and_no_attempt() -> None:
    """Also where the text is cut within one, in a count, in a stream, and behind a 200."""
    secret = "a1b2c3d4e5f6a7b8c9"
    reported = f"you sent x-odd: {secret}"
    error = {"error": {"message": reported, "type": "server_error"}}
    cut = {"error": {"message": "y" * 455 + secret}}
    for dialect, path, body in (
        ("openai", "/v1/chat/completions", CHAT),
        ("anthropic", "/v1/messages", {"messages": TURN, "max_tokens": 50}),
        ("anthropic", "/v1/messages/count_tokens", {"messages": TURN}),
    ):
        for answer in (error, cut):
            for status in (200, 404, 500):
                one = {"name": "up", "dialect": dialect, "base_url": BASE, **SECRETS}
                document = {"upstreams": [one], "models": [{"id": "m", "targets": ["up/m"]}]}
                wire = json.dumps(answer).encode()
                script = Scripted(*[Answer([wire], status=status, headers=[JSON])] * 5)
                made = ScriptedGateway(script, document=document, configured=True)
                reply = await request(made.app, "POST", path, json={"model": "m", **body})
                said = json.dumps(made.log) + reply.text
                assert secret[:6] not in said, (dialect, path, status, said)


async def test_headers_that_mean_something_in_the_operators_account_stay_behind() -> None:
    asked = await sent(
        gateway("anthropic"),
        "/v1/messages",
        {"messages": TURN, "max_tokens": 5},
        **{
            "anthropic-beta": "x",
            "anthropic-workspace-id": "wrkspc_1",
            "anthropic-user-profile-id": "u_1",
            "anthropic-organization-id": "o_1",
        },
    )
    names = {name for name, _ in asked.headers if name.startswith(b"anthropic-")}
    assert names == {b"anthropic-beta", b"anthropic-version"}


async def test_models_reach_no_upstream_at_any_endpoint() -> None:
    for path, (dialect, _, body) in CALLS.items():
        found = await sent(gateway(dialect), path, {**body, "models": ["m"]})
        assert "models" not in members(found), path
