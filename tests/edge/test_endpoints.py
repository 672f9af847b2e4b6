"""The table of endpoints, and that a row is all that a new one needs."""

import json
from typing import Any, get_args

import msgspec
import pytest

from edge.config.load import parse
from edge.endpoints import (
    BY_NAME,
    CONVERSATIONS,
    ENDPOINTS,
    SERVED_BY,
    TAILS,
    Billed,
    Endpoint,
    FormRules,
)
from edge.proxy.intake import check_bodies
from edge.proxy.translate import CLIENTS
from edge.routing.paths import OPEN, Paths
from edge.upstreams.simulator import objects
from edge.upstreams.simulator.behaviour import handlers_by_tail
from edge.upstreams.simulator.prompt import PromptRejected
from middlewares.exchange import Dialect
from tests.asgi import request

from .scripted import DOCUMENT, JSON, Answer, Scripted, ScriptedGateway

FACTS: dict[str, Any] = {
    "name": "added",
    "methods": ("POST",),
    "path": "/v1/added",
    "dialect": "openai",
    "body": "json",
    "billed": "tokens",
    "handler": "forward",
    "codec": "object",
    "required": ("documents",),
    "upstream_path": b"/added",
    "documented": "what a test adds",
}
EVERY = pytest.mark.parametrize("row", ENDPOINTS, ids=lambda row: row.path)


# The table


def test_endpoint_without_billed_cannot_be_made() -> None:
    facts = {name: value for name, value in FACTS.items() if name != "billed"}
    with pytest.raises(TypeError, match="billed"):
        Endpoint(**facts)


@pytest.mark.parametrize("fact", ["body", "billed", "handler", "codec"])
def test_endpoint_of_unknown_kind_is_refused_by_name(fact: str) -> None:
    with pytest.raises(ValueError, match=r"endpoint added: expected one of .*, got 'nothing'"):
        Endpoint(**{**FACTS, fact: "nothing"})


def test_body_without_reader_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.proxy.intake.READABLE_BODIES", frozenset(("none",)))
    with pytest.raises(NotImplementedError, match="endpoint added: no reader for json"):
        check_bodies([Endpoint(**FACTS)])
    with pytest.raises(NotImplementedError):
        ScriptedGateway(Scripted(), endpoints=[Endpoint(**FACTS)])


def test_multipart_body_without_rules_of_its_form_is_refused() -> None:
    with pytest.raises(ValueError, match="`form` and a multipart body need each other"):
        Endpoint(**{**FACTS, "body": "multipart"})
    with pytest.raises(ValueError, match="need each other"):
        Endpoint(**{**FACTS, "form": FormRules(files={"file": 1}, size="audio")})


@EVERY
def test_row_has_a_body_where_its_method_does(row: Endpoint) -> None:
    assert (row.body != "none") is ("POST" in row.methods)
    assert (row.body in ("json", "multipart")) is bool(row.required)
    assert set(row.conversation) <= set(row.required)
    assert row.path.startswith("/v1/")
    assert row.path not in OPEN
    assert row.documented


@EVERY
def test_row_that_is_forwarded_says_how(row: Endpoint) -> None:
    if row.handler != "forward":
        creates = row.required or row.path.endswith("/remix")
        assert row.codec is None
        assert row.billed == ("job" if row.handler == "jobs" and creates else "free")
        assert row.limited or row.billed == "free"
        assert not (row.streams or row.bounds or row.translated or row.downgradable)
        return
    assert row.dialect is not None
    assert row.codec is not None
    assert row.limited
    assert row.upstream_path or row.translated
    assert row.translated is (row.codec in (*CLIENTS, "compaction"))
    streaming = (*CLIENTS, "images", "transcription")
    assert row.streams is (row.codec in streaming and row.name != "audio.translations")
    assert not row.bounds or row.billed == "tokens"


def test_rows_have_paths_of_their_own() -> None:
    assert len({row.path for row in ENDPOINTS}) == len(ENDPOINTS)
    below = [row.upstream_path for row in ENDPOINTS if row.upstream_path]
    assert len(set(below)) == len(below)


def test_rows_of_one_name_are_limited_alike() -> None:
    for row in ENDPOINTS:
        assert row.limited is BY_NAME[row.name].limited


def test_each_dialect_has_one_endpoint_of_conversations() -> None:
    assert set(CONVERSATIONS) == set(SERVED_BY) == set(get_args(Dialect))
    speaking = [row for row in ENDPOINTS if row.conversation and row.streams]
    assert list(CONVERSATIONS.values()) == speaking
    assert all(row.upstream_path for row in speaking)


def test_each_end_of_a_path_names_one_endpoint() -> None:
    assert TAILS["/chat/completions"] == "chat.completions"
    assert TAILS["/models"] == "models"
    assert "/usage" not in TAILS
    assert len(set(TAILS.values())) == len(TAILS)


def test_billed_is_something_that_a_price_is_known_for() -> None:
    units = ("images", "characters", "audio")
    assert get_args(Billed) == ("free", "tokens", *units, "job")


# A new one

ADDED = Endpoint(**FACTS)
ANSWERED = {
    "model": "upstream-model-x",
    "results": [{"index": 0, "relevance_score": 0.9}],
    "usage": {"total_tokens": 40},
}
ASKED = {"query": "q", "documents": ["a", "b"]}


def gateway(*answers: Answer, **members: Any) -> ScriptedGateway:
    said = answers or (Answer([json.dumps(ANSWERED).encode()], headers=[JSON]),)
    return ScriptedGateway(Scripted(*said), endpoints=(*ENDPOINTS, ADDED), **members)


async def test_a_row_is_routed_forwarded_billed_and_measured() -> None:
    home = gateway()
    await home.ledger_writer.start()
    answer = await request(home.app, "POST", "/v1/added", json={"model": "priced", **ASKED})
    await home.ledger_writer.aclose()
    assert answer.status == 200, answer.text
    assert answer.json() == {**ANSWERED, "model": "priced"}
    assert answer.header("x-credits-used") == "0.00012"
    (sent,) = home.upstream.requests
    assert sent.target == b"/v1/added"
    assert isinstance(sent.body, bytes)
    assert msgspec.json.decode(sent.body) == {"model": "p", **ASKED}
    assert home.sample("penstock_requests_total", **_labels("added")) == 1
    (entry,) = await home.ledger.page()
    assert (entry.endpoint, entry.input, entry.output, entry.cost) == ("added", 40, 0, 120_000)


async def test_a_row_is_retried_at_another_target() -> None:
    document = {"models": [{"id": "m1", "targets": ["both/a", "oai/b"]}]}
    broken = Answer([b"{}"], status=500, headers=[JSON])
    home = gateway(
        broken, Answer([json.dumps(ANSWERED).encode()], headers=[JSON]), document=document
    )
    answer = await request(home.app, "POST", "/v1/added", json={"model": "m1", **ASKED})
    assert answer.status == 200, answer.text
    assert [attempt.status for attempt in home.exchanges[0].attempts] == [500, 200]


async def test_a_row_is_not_tried_where_its_dialect_is_not_spoken() -> None:
    home = gateway()
    answer = await request(home.app, "POST", "/v1/added", json={"model": "only-ant", **ASKED})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "model")
    assert not home.upstream.requests


async def test_a_row_asks_for_its_members() -> None:
    home = gateway()
    answer = await request(home.app, "POST", "/v1/added", json={"model": "m1", "query": "q"})
    assert (answer.status, answer.json()["error"]["param"]) == (400, "documents")


async def test_a_row_is_limited() -> None:
    plans = [{"id": "few", "requests": "1/h"}]
    home = gateway(document={"auth": {"mode": "none", "default_plan": "few"}, "plans": plans})
    statuses = [
        (await request(home.app, "POST", "/v1/added", json={"model": "m1", **ASKED})).status
        for _ in range(2)
    ]
    assert statuses == [200, 429]


def test_a_row_may_be_offered_at_another_path() -> None:
    routes = [{"path": "/other", "dialect": "openai", "endpoint": "embeddings"}]
    paths = Paths.of(parse({**DOCUMENT, "routes": routes}), (*ENDPOINTS, ADDED))
    assert paths.find("/other") is BY_NAME["embeddings"]
    assert paths.find("/v1/added") is ADDED


def test_paths_of_responses_come_with_those_below() -> None:
    routes = [
        {"path": "/r", "dialect": "responses", "endpoint": "responses"},
        {"path": "/any", "dialect": "auto", "endpoint": "responses"},
        {"path": "/v1/chat/completions", "dialect": "anthropic"},
    ]
    paths = Paths.of(parse({**DOCUMENT, "routes": routes}))
    below = paths.find("/v1/responses/x")
    assert below is not None and below.body == "none"
    assert paths.find("/r/x") is below
    assert paths.find("/any/x") is below
    anyone = paths.find("/any")
    assert anyone is not None and anyone.dialect is None and anyone.conversation
    assert paths.find("/v1/chat/completions") is CONVERSATIONS["anthropic"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/videos/video_x/remix", "/v1/videos/*/remix"),
        ("/v1/v1/videos/video_x/remix/", "/v1/videos/*/remix"),
        ("/v1/videos/remix", "/v1/videos/*"),
        ("/v1/videos//remix", "/v1/videos/*"),
        ("/v1/videos/video_x/content", "/v1/videos/*"),
        ("/v1/videos/video_x/remix/content", "/v1/videos/*"),
        ("/v1/videos/generations/video_x/remix", "/v1/videos/generations/*"),
        ("/v1/videos/generations/remix", "/v1/videos/generations/*"),
        ("/v1/videos", "/v1/videos"),
    ],
)
def test_path_that_changes_a_job_is_not_one_of_those_that_ask(path: str, name: str) -> None:
    row = Paths.of(parse(DOCUMENT)).find(path)
    assert row is not None and row.path == name


def test_a_row_is_simulated() -> None:
    assert handlers_by_tail((*ENDPOINTS, ADDED)).keys() - handlers_by_tail(ENDPOINTS).keys() == {
        "/added"
    }
    nothing = Endpoint(**{**FACTS, "codec": "completions"})
    with pytest.raises(LookupError, match="completions"):
        handlers_by_tail([nothing])


def test_simulated_object_repeats_what_came_and_counts_it() -> None:
    asked = {"model": "m", "query": "one two [[sim rate=9]]", "documents": ["three", {"x": "four"}]}
    wanted = objects.read(json.dumps(asked).encode())
    assert (wanted.model, wanted.tokens, wanted.directive.strip()) == ("m", 4, "rate=9")
    said = json.loads(objects.body(wanted, "0" * 48))
    assert said["received"] == {"query": asked["query"], "documents": asked["documents"]}
    assert said["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    for body, param in ((b"[]", None), (b'{"model":1}', "model")):
        with pytest.raises(PromptRejected) as refused:
            objects.read(body)
        assert (refused.value.status, refused.value.param) == (400, param)


def _labels(endpoint: str) -> dict[str, str]:
    return {"endpoint": endpoint, "model": "priced", "status": "200", "outcome": "completed"}
