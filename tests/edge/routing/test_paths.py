"""Endpoints that are offered, and paths that several dialects share, through the whole chain."""

import asyncio
import json
from time import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config.load import parse
from edge.endpoints import BY_NAME, CONVERSATIONS, ENDPOINTS
from edge.management import keys as management
from edge.routing.paths import Paths
from middlewares.stores import KeyDirectory, KeyPrefixes, MemoryKeyStore
from tests.asgi import Headers, Recorded, request
from tests.edge.scripted import JSON, Answer, Scripted, ScriptedGateway

CHAT = "/v1/chat/completions"
TURN = {"role": "user", "content": "Hi"}
PLAIN: dict[str, Any] = {"model": "m1", "messages": [TURN]}
ANTHROPIC: dict[str, Any] = {**PLAIN, "system": "Be brief.", "max_tokens": 9}
OPENAI_SDK = {"user-agent": "OpenAI/Python 2.8.0"}
ANTHROPIC_SDK = {"user-agent": "Anthropic/Python 0.75.0", "anthropic-version": "2023-06-01"}
SAID = {
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello"},
            "finish_reason": "stop",
        }
    ],
    "type": "message",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "input_tokens": 1, "output_tokens": 1},
}
"""An answer of both vendors."""
NAMES = st.sampled_from(
    [
        *(
            "model",
            "messages",
            "input",
            "system",
            "stop",
            "tools",
            "tool_choice",
            "role",
            "content",
        ),
        *("type", "tool_calls", "source", "input_schema", "function", "max_tokens", "thinking"),
        *("budget_tokens", "stream", "x"),
    ]
)


def shared(**option: Any) -> dict[str, Any]:
    return {"routes": [{"path": CHAT, "dialect": "auto", **option}]}


def gateway(document: dict[str, Any] | None = None, **members: Any) -> ScriptedGateway:
    answer = Answer([json.dumps(SAID).encode()], headers=[JSON])
    return ScriptedGateway(Scripted(answer), document=document or shared(), **members)


async def post(
    home: ScriptedGateway, body: object, headers: Headers = (), path: str = CHAT
) -> Recorded:
    return await request(home.app, "POST", path, headers=headers, json=body)


def served(home: ScriptedGateway) -> tuple[str, str, bytes]:
    exchange = home.exchanges[-1]
    return exchange.endpoint, exchange.dialect, home.upstream.requests[-1].target


def bodies(home: ScriptedGateway) -> list[dict[str, Any]]:
    """What the upstream got."""
    return [msgspec.json.decode(bytes(sent.body or b"")) for sent in home.upstream.requests]  # type: ignore[arg-type]


# The request's own shape


@pytest.mark.parametrize("filler", [0, 400_000])
async def test_body_chooses_row_dialect_and_upstream_path(filler: int) -> None:
    home = gateway({**shared(), "server": {"max_body": 1 << 20}})
    long = [{"role": "user", "content": "x" * filler}, {"role": "assistant", "content": "y"}]

    async def asked(body: dict[str, Any], headers: Headers = ()) -> tuple[str, str, bytes]:
        if filler:
            body = {**body, "messages": [*long, *body["messages"]]}
        answer = await post(home, body, headers)
        assert answer.status == 200, answer.text
        assert home.exchanges[-1].large == bool(filler)
        return served(home)

    openai = ("chat.completions", "openai", b"/v1/chat/completions")
    anthropic = ("messages", "anthropic", b"/v1/messages")
    assert await asked(PLAIN) == openai
    assert await asked(ANTHROPIC) == anthropic
    assert await asked(ANTHROPIC, OPENAI_SDK) == anthropic
    assert await asked({**PLAIN, "max_tokens": 9}, ANTHROPIC_SDK) == anthropic
    assert await asked({**PLAIN, "n": 1}) == openai
    results = [TURN, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1"}]}]
    assert await asked({**PLAIN, "max_tokens": 9, "messages": results}) == anthropic


async def test_row_of_exchange_has_no_rules_once_the_body_is_read() -> None:
    home = gateway()
    for body in (PLAIN, ANTHROPIC):
        await post(home, body)
        assert home.exchanges[-1].row in CONVERSATIONS.values()


@pytest.mark.parametrize("prefer", ["openai", "anthropic"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"metadata": dict.fromkeys(map(str, range(2000)), "")},
        {"tools": [{}] * 6000},
        {"Model": "m1"},
        {"tools": [[]] * 150_000},
    ],
    ids=["metadata", "tools", "name", "values"],
)
async def test_refusals_of_large_bodies_have_the_envelope_of_the_dialect(
    prefer: str, wrong: dict[str, Any]
) -> None:
    home = gateway({**shared(prefer=prefer), "server": {"max_body": 1 << 20}})
    long = "x" * 400_000
    turn = {"messages": [{"role": "user", "content": long}]}
    for body, dialect in (
        ({**turn, "system": "x", "max_tokens": 9}, "anthropic"),
        ({**turn, "n": 1}, "openai"),
        ({"input": long}, "openai"),
    ):
        answer = await post(home, {"model": "m1", **body, **wrong})
        assert (answer.status, home.exchanges[-1].large) == (400, True), answer.text
        assert ("type" in answer.json()) == (dialect == "anthropic")
        assert home.exchanges[-1].dialect == dialect


@pytest.mark.parametrize("prefer", ["openai", "anthropic"])
async def test_refusals_have_the_envelope_of_the_dialect(prefer: str) -> None:
    home = gateway(shared(prefer=prefer))

    async def envelope(body: object, headers: Headers = ()) -> str:
        answer = await post(home, body, headers)
        assert answer.status >= 400
        return "anthropic" if answer.json().get("type") == "error" else "openai"

    faults: list[dict[str, Any]] = [{"model": "?"}, {"model": 5}, {"stream": "x"}, {"messages": []}]
    for wrong in faults:
        assert await envelope({**ANTHROPIC, **wrong}) == "anthropic"
        assert await envelope({**ANTHROPIC, **wrong}, OPENAI_SDK) == "anthropic"
        assert await envelope({**PLAIN, "n": 1, **wrong}) == "openai"
        assert await envelope({**PLAIN, **wrong}, ANTHROPIC_SDK) == "anthropic"
    # Without a body that can be read, the headers decide; then the preference.
    assert await envelope([ANTHROPIC]) == prefer
    assert await envelope([ANTHROPIC], OPENAI_SDK) == "openai"
    assert await envelope([PLAIN], ANTHROPIC_SDK) == "anthropic"


async def test_refusal_without_a_key_follows_the_headers() -> None:
    keys = KeyDirectory(MemoryKeyStore())
    await keys.start()
    home = gateway({**shared(prefer="anthropic"), "auth": {"mode": "keys"}}, keys=keys)
    answer = await post(home, {**PLAIN, "n": 1})
    assert (answer.status, answer.json()["type"]) == (401, "error")
    answer = await post(home, ANTHROPIC, OPENAI_SDK)
    assert (answer.status, answer.json()["error"]["code"]) == (401, "missing_key")
    await keys.aclose()


async def key_for(*endpoints: str) -> tuple[KeyDirectory, dict[str, str]]:
    """A directory with one key, which may use these endpoints only, and the header of that key."""
    store = MemoryKeyStore()
    _, secret = await management.create(
        store,
        KeyPrefixes.of_brand("acme"),
        now=time(),
        name="n",
        owner="o",
        endpoints=list(endpoints),
    )
    directory = KeyDirectory(store)
    await directory.start()
    return directory, {"authorization": f"Bearer {secret}"}


async def test_allow_list_of_a_key_holds_for_the_chosen_endpoint() -> None:
    directory, key = await key_for("chat.completions")
    routes = [{"path": CHAT, "dialect": "auto", "prefer": "anthropic"}]
    home = gateway({"routes": routes, "auth": {"mode": "keys"}}, keys=directory)
    assert (await post(home, {**PLAIN, "n": 1}, key)).status == 200
    for body, headers in ((ANTHROPIC, key), (PLAIN, key), (PLAIN, {**key, **ANTHROPIC_SDK})):
        answer = await post(home, body, headers)
        assert (answer.status, answer.json()["error"]["type"]) == (403, "permission_error")
    assert (await post(home, ANTHROPIC, key, "/v1/messages")).status == 403
    assert len(home.upstream.requests) == 1
    await directory.aclose()


async def test_body_of_responses_is_answered_as_chat_at_its_path() -> None:
    home = gateway(shared(prefer="anthropic"))
    answer = await post(home, {"model": "m1", "input": "Hi", "instructions": "Be brief."})
    assert answer.json()["object"] == "chat.completion"
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"


async def test_models_follow_the_preference_of_their_path() -> None:
    routes = [
        {"path": "/v1/models", "dialect": "auto", "prefer": "anthropic"},
        {"path": "/openai/v1/models", "dialect": "openai"},
    ]
    home = gateway({"routes": routes})

    async def dialect(path: str, **headers: str) -> str:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await request(home.app, "GET", path, headers=names)
        assert answer.status == 200
        return home.exchanges[-1].dialect

    for below in ("", "/m1"):
        assert await dialect(f"/v1/models{below}") == "anthropic"
        assert await dialect(f"/v1/models{below}", **{"user-agent": "OpenAI/JS 6"}) == "openai"
        assert await dialect(f"/openai/v1/models{below}") == "openai"
        assert await dialect(f"/openai/v1/models{below}", anthropic_version="1") == "openai"
    answer = await request(home.app, "GET", "/openai/v1/models/m1")
    assert answer.json()["id"] == "m1"
    answer = await request(home.app, "GET", "/openai/v1/models/nothing")
    assert answer.json()["error"]["code"] == "model_not_found"


# max_tokens of a path


@pytest.mark.parametrize("dialect", ["auto", "anthropic"])
@pytest.mark.parametrize("model", ["m1", "only-oai", "only-ant"])
async def test_default_max_tokens_is_sent_to_any_upstream(dialect: str, model: str) -> None:
    routes = [{"path": CHAT, "dialect": dialect, "default_max_tokens": 1000}]
    home = gateway({"routes": routes})
    body = {**PLAIN, "model": model, "system": "Be brief."}
    answer = await post(home, body)
    assert answer.status == 200, answer.text
    assert answer.json()["content"][0]["text"] == "Hello"
    await post(home, {**body, "max_tokens": 70})
    name = "max_completion_tokens" if model == "only-oai" else "max_tokens"
    assert [sent[name] for sent in bodies(home)] == [1000, 70]


async def test_default_max_tokens_is_for_its_path_and_for_anthropics_dialect_only() -> None:
    home = gateway(shared(default_max_tokens=1000))
    answer = await post(home, {**PLAIN, "model": "only-oai", "system": "x"}, path="/v1/messages")
    assert (answer.status, answer.json()["error"]["message"]) == (
        400,
        "max_tokens: Field required",
    )
    assert (await post(home, PLAIN)).status == 200
    assert "max_tokens" not in bodies(home)[0]


@pytest.mark.parametrize(
    ("default", "output"),
    [(1000, 1000), (50_000, 4096)],  # the model's limit
)
async def test_default_max_tokens_bounds_what_is_reserved(default: int, output: int) -> None:
    plans = [{"id": "p", "windows": [{"length": "5h", "credits": "5"}]}]
    document = {**shared(default_max_tokens=default), "plans": plans}
    home = gateway({**document, "auth": {"mode": "none", "default_plan": "p"}})
    answer = await post(home, {**PLAIN, "model": "priced", "system": "x"})
    assert answer.status == 200, answer.text
    assert home.exchanges[-1].max_output == output


# Endpoints on offer


def offering(*names: str, **document: Any) -> ScriptedGateway:
    return gateway({"endpoints": list(names), "routes": [], **document})


async def test_endpoint_that_is_not_offered_answers_as_an_unknown_path() -> None:
    home = offering("chat.completions", "models")
    unknown = await request(home.app, "POST", "/v1/nothing", json={})
    absent = [
        (method, row.path.replace("*", "x"))
        for row in ENDPOINTS
        if row.name not in ("chat.completions", "models")
        for method in row.methods
    ]
    assert ("GET", "/v1/links/x") in absent
    for method, path in absent:
        answer = await request(home.app, method, path, json={} if method == "POST" else None)
        assert answer.status == unknown.status == 403, path
        if method != "HEAD":
            assert answer.json() == unknown.json()
        assert home.exchanges[-1].endpoint == "unknown"
    assert not home.upstream.requests
    assert (await post(home, PLAIN)).status == 200
    assert (await request(home.app, "GET", "/v1/models/m1")).status == 200
    assert (await request(home.app, "GET", "/health")).status == 200
    assert (await request(home.app, "GET", "/metrics")).status == 200


async def test_text_of_the_operator_is_sent_at_unknown_paths_too() -> None:
    for kinds, said in (
        ({}, "Acme does not offer this endpoint."),
        ({"endpoint_not_allowed": {"status": 404}}, "Acme does not offer this endpoint."),
        ({"endpoint_not_allowed": {"message": "{brand} has none."}}, "Acme has none."),
    ):
        home = offering("chat.completions", errors={"kinds": kinds})
        for path in ("/v1/nothing", "/v1/messages"):
            answer = await request(home.app, "POST", path, json={})
            assert answer.json()["error"]["message"] == said


@pytest.mark.parametrize("dialect", ["auto", "responses"])
def test_stored_responses_are_below_a_configured_path_of_responses(dialect: str) -> None:
    paths = Paths.of(parse({"routes": [{"path": "/x/responses", "dialect": dialect}]}, env={}))
    assert paths.find("/x/responses/resp_1") is paths.find("/v1/responses/resp_1") is not None
    assert paths.find("/x/responses/resp_1/input_items") is not None
    paths = Paths.of(parse({"routes": [{"path": "/x/responses", "dialect": "openai"}]}, env={}))
    assert paths.find("/x/responses/resp_1") is None


@pytest.mark.parametrize("name", sorted({row.name for row in ENDPOINTS if not row.open}))
def test_endpoint_alone_has_all_its_paths(name: str) -> None:
    paths = Paths.of(parse({"endpoints": [name]}, env={}))
    for row in ENDPOINTS:
        found = paths.find(row.path.replace("*", "x"))
        if row.name == name or name in row.serves:
            assert found is row
        else:  # a path with a star of an endpoint that is offered does not stand for it
            assert found is None, row.path


async def test_allow_list_of_a_key_and_endpoints_intersect() -> None:
    directory, key = await key_for("messages", "embeddings")
    document = {"endpoints": ["chat.completions", "messages"], "auth": {"mode": "keys"}}
    home = gateway({**document, "routes": []}, keys=directory)
    assert (await post(home, ANTHROPIC, key, "/v1/messages")).status == 200
    assert (await post(home, PLAIN, key)).status == 403
    assert (await post(home, {"model": "m1", "input": "x"}, key, "/v1/embeddings")).status == 403
    await directory.aclose()


async def test_unknown_model_names_the_list_of_models_only_where_it_is_offered() -> None:
    for names, listed in ((["chat.completions"], False), (["chat.completions", "models"], True)):
        answer = await post(offering(*names), {**PLAIN, "model": "m2-nothing"})
        assert answer.status == 404
        assert ("GET /v1/models" in answer.json()["error"]["message"]) == listed


def test_shared_path_has_the_rows_on_offer_only() -> None:
    document = {"endpoints": ["chat.completions", "models"], **shared()}
    row = Paths.of(parse(document, env={})).find(CHAT)
    assert row is not None and row.rules is not None
    assert row.rules.rows == {"openai": BY_NAME["chat.completions"]}


# Any body


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.just("m1"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=60)
@given(st.dictionaries(NAMES, JSON_VALUES, max_size=6), st.booleans())
def test_any_body_has_an_answer_in_one_dialect(body: dict[str, Any], sdk: bool) -> None:
    async def ask() -> tuple[Recorded, str]:
        home = gateway(shared(prefer="anthropic", default_max_tokens=50))
        answer = await post(home, {"model": "m1", **body}, OPENAI_SDK if sdk else ())
        return answer, home.exchanges[-1].dialect

    first, dialect = asyncio.run(ask())
    assert first.status in (200, 400, 403, 404)
    if first.status != 200:
        assert (first.json().get("type") == "error") == (dialect == "anthropic")
    again, same = asyncio.run(ask())
    assert (again.status, same) == (first.status, dialect)
