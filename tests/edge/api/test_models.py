"""GET /v1/models in both shapes: what is listed, how it is paged, and for whom."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge.api.models import ModelsApp
from edge.config.load import parse
from edge.routing.catalog import Catalog
from middlewares import ErrorsMiddleware, Exchange, Principal
from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.exchange import Dialect
from tests.asgi import Recorded, request
from tests.edge.scripted import DOCUMENT

IDS = ["m1", "only-oai", "only-ant", "priced"]


def models(
    *, dialect: Dialect = "openai", principal: Principal | None = None, **document: Any
) -> ASGIApp:
    inner = ModelsApp(Catalog.build(parse({**DOCUMENT, **document})), "Acme")

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.dialect = dialect
        exchange.principal = principal
        await inner(scope, receive, send)

    return ErrorsMiddleware(routed)


async def page(query: str = "", dialect: Dialect = "anthropic") -> Recorded:
    return await request(models(dialect=dialect), "GET", "/v1/models", query=query)


def ids(answer: Recorded) -> list[str]:
    assert answer.status == 200, answer.text
    return [model["id"] for model in answer.json()["data"]]


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_one_list_that_either_client_reads(dialect: Dialect) -> None:
    answer = await page(dialect=dialect)
    said = answer.json()
    assert ids(answer) == IDS
    assert said["object"] == "list"
    assert (said["first_id"], said["last_id"], said["has_more"]) == ("m1", "priced", False)
    assert answer.header("content-length") == str(len(answer.body))


async def test_a_model_in_full() -> None:
    """calebevans/mulder#192, anthropics/claude-code#91689: true sizes, or clients guess them."""
    answer = await request(models(), "GET", "/v1/models/priced")
    assert answer.json() == {
        "id": "priced",
        "object": "model",
        "type": "model",
        "created": 1735689600,
        "created_at": "2025-01-01T00:00:00Z",
        "owned_by": "Acme",
        "display_name": "Priced One",
        "lifecycle": "active",
        "aliases": [],
        "modalities": {"input": ["text"], "output": ["text"]},
        "context_window": 128000,
        "max_input_tokens": 128000,
        "max_tokens": 4096,
        "price": {"input": "3.00", "output": "15.00", "cache_read": "0.30"},
    }


async def test_nothing_of_the_upstream_is_reported() -> None:
    text = (await page()).text
    for theirs in ("upstream-model-x", "both", "127.0.0.1", "oai/"):
        assert theirs not in text


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/m1",
        "/v1/models/m1/",
        "/v1/v1/models/m1",
        "/v1/models/m1-alias",
        "/v1/models/acme/m1",
        "/v1/models/m1[1m]",
    ],
)
async def test_any_name_that_works_on_the_wire_is_found(path: str) -> None:
    assert (await request(models(), "GET", path)).json()["id"] == "m1"


async def test_an_unknown_model() -> None:
    chat = await request(models(), "GET", "/v1/models/nope")
    assert (chat.status, chat.json()["error"]["code"]) == (404, "model_not_found")
    assert "`nope`" in chat.json()["error"]["message"]
    theirs = await request(models(dialect="anthropic"), "GET", "/v1/models/nope")
    error = theirs.json()["error"]
    assert (error["type"], error["message"].split(".")[0]) == ("not_found_error", "model: nope")
    assert "GET /v1/models" in chat.text and "GET /v1/models" in theirs.text
    close = await request(models(), "GET", "/v1/models/acme/PRICE")
    assert "Did you mean `priced`?" in close.json()["error"]["message"]
    long = await request(models(), "GET", "/v1/models/" + "x" * 5000)
    assert len(long.body) < 500


@pytest.mark.parametrize(
    ("query", "expected", "more"),
    [
        ("limit=1000", IDS, False),
        ("limit=2", IDS[:2], True),
        ("limit=4", IDS, False),
        ("limit=", IDS, False),
        ("after_id=m1", IDS[1:], False),
        ("after_id=m1&limit=2", IDS[1:3], True),
        ("after_id=priced", [], False),
        ("before_id=priced", IDS[:3], False),
        ("before_id=priced&limit=2", IDS[1:3], True),
        ("before_id=m1", [], False),
        ("after_id=m1&before_id=priced&limit=1", ["only-oai"], True),
        ("unknown=1", IDS, False),
    ],
)
async def test_pages(query: str, expected: list[str], more: bool) -> None:
    answer = await page(query)
    assert ids(answer) == expected
    said = answer.json()
    assert said["has_more"] is more
    assert said["first_id"] == (expected[0] if expected else None)
    assert said["last_id"] == (expected[-1] if expected else None)


async def test_a_walk_over_pages_sees_each_model_once() -> None:
    async def walk() -> AsyncIterator[str]:
        query = "limit=1"
        while True:
            answer = await page(query)
            for model in ids(answer):
                yield model
            if not answer.json()["has_more"]:
                return
            query = f"limit=1&after_id={answer.json()['last_id']}"

    assert [model async for model in walk()] == IDS


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=x", "limit"),
        ("limit=1.5", "limit"),
        ("limit=%C2%B2", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("after_id=nope", "after_id"),
        ("before_id=nope", "before_id"),
    ],
)
async def test_a_page_that_makes_no_sense_is_a_400(query: str, field: str) -> None:
    answer = await page(query)
    assert answer.status == 400
    assert f"`{field}`" in answer.json()["error"]["message"]


async def test_openai_callers_know_no_pages() -> None:
    assert ids(await page("limit=1&after_id=nope", "openai")) == IDS


async def test_more_models_than_a_default_page() -> None:
    many = [{"id": f"m{i:02}", "targets": ["both/x"]} for i in range(30)]
    app = models(dialect="anthropic", models=many)
    answer = await request(app, "GET", "/v1/models")
    assert (len(ids(answer)), answer.json()["has_more"]) == (20, True)
    assert len(ids(await request(models(models=many), "GET", "/v1/models"))) == 30


# For whom


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_only_what_the_key_may_use(dialect: Dialect) -> None:
    principal = Principal("k", models=frozenset(("m1-alias", "only-ant")))
    app = models(dialect=dialect, principal=principal)
    assert ids(await request(app, "GET", "/v1/models")) == ["m1", "only-ant"]
    assert (await request(app, "GET", "/v1/models/m1")).status == 200
    refused = await request(app, "GET", "/v1/models/priced")
    unknown = await request(app, "GET", "/v1/models/absent")
    assert refused.status == unknown.status == 404
    assert refused.text.replace("priced", "absent") == unknown.text
    if dialect == "anthropic":  # a cursor must not tell either
        cursor = await request(app, "GET", "/v1/models", query="after_id=priced")
        assert cursor.status == 400


async def test_a_key_that_may_use_nothing_sees_an_empty_list() -> None:
    app = models(principal=Principal("k", models=frozenset()))
    answer = await request(app, "GET", "/v1/models")
    assert (ids(answer), answer.json()["first_id"]) == ([], None)


# Speech, as chat UIs ask for it

SPEAKING = [
    {"id": "voice", "targets": ["oai/tts"], "voices": ["alloy", "nova"]},
    {"id": "other", "targets": ["oai/tts-2"], "voices": ["nova", "onyx"], "plans": ["paid"]},
    {"id": "song", "targets": ["oai/song"], "output_modalities": ["audio"]},
    {"id": "chat", "targets": ["oai/chat"]},
]


@pytest.mark.parametrize(
    ("plan", "voices", "speaking"),
    [
        (None, ["alloy", "nova"], ["voice", "song"]),
        ("paid", ["alloy", "nova", "onyx"], ["voice", "other", "song"]),
    ],
)
async def test_speech_models_and_voices_of_the_key_are_listed(
    plan: str | None, voices: list[str], speaking: list[str]
) -> None:
    """Open WebUI, routers/audio.py: `voices` with id and name, and `models` with id."""
    inner = models(principal=Principal("p", plan=plan), models=SPEAKING, plans=[{"id": "paid"}])

    async def at(endpoint: str) -> Any:
        async def routed(scope: Scope, receive: Receive, send: Send) -> None:
            Exchange.of(scope).endpoint = endpoint
            await inner(scope, receive, send)

        return (await request(routed, "GET", "/v1/audio/x")).json()

    assert await at("audio.voices") == {
        "voices": [{"id": voice, "name": voice} for voice in voices]
    }
    assert await at("audio.models") == {"models": [{"id": model} for model in speaking]}


async def test_prices_of_media_are_shown() -> None:
    price = {"image": "0.04", "character": "0.00001", "audio_minute": "0.6"}
    shown = models(models=[{"id": "m", "targets": ["oai/m"], "price": price}])
    answer = await request(shown, "GET", "/v1/models/m")
    assert answer.json()["price"] == {
        "input": "0.00",
        "output": "0.00",
        "image": "0.04",
        "audio_minute": "0.60",
        "character": "0.00001",
    }
