"""Falling back beside everything else: early heads, callers' models, plans, money, disconnects.

What each fault becomes is in `test_fault_matrix`. Every test has models of its own, whose first
target is at fault.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, NamedTuple

import httpx
import pytest

from tests.schemas import check_stream, summary

from .conftest import SECRETS
from .faults import PRICES, WHOLE
from .faults import PROMPT as HELLO
from .ledger import rows
from .program import DEADLINE, Gateway, Program, until
from .surfaces import SURFACES, Wish
from .wire import CHAT, Line, Reply, ask, chat, events, line, request, text_of

DIALECTS = {"chat": "openai", "completions": "openai", "messages": "anthropic"}
"""By surface the dialect that passes through; Responses is its own."""
FAULTS = {
    "dead": "fault=status:503",
    "late": "fault=slow-headers:3,status:503",
    "slow": "fault=slow-first:3,cut:1",
    "mute": "fault=slow-headers:60",
    "rotten": "fault=slow-headers:3,garbage",
    "rests": "fault=status:429 retry-after=60",
    "strict": "strict=1",
    "calm": "tokens=60 rate=40",
    "well": "",
}
"""Upstreams by name, as the simulator plays them."""
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
DEAR = {"input": "30.001", "output": "150.007"}
PLANS = (
    {"id": "one", "concurrency": 1, "on_excess": "throttle", "requests": "60/min", "burst": 60},
    {"id": "rated", "requests": "1/h", "on_rate_limit": "spare"},
    {"id": "rated-frail", "requests": "1/h", "on_rate_limit": "frail"},
    {
        "id": "broke",
        "windows": [{"length": "1d", "credits": "0.00001"}],
        "on_budget": "gratis",
    },
    {
        "id": "broke-twice",
        "windows": [{"length": "1d", "credits": "0.00001"}],
        "on_budget": "spare",
    },
    {"id": "rich", "windows": [{"length": "1d", "credits": "100"}]},
    {"id": "tight", "windows": [{"length": "1d", "credits": "0.002"}]},
    {"id": "drains", "on_hangup": "drain", "windows": [{"length": "1d", "credits": "100"}]},
)


def _document(simulator: str) -> dict[str, Any]:
    upstreams = [
        {
            "name": f"{name}-{dialect}",
            "dialect": dialect,
            "base_url": f"{simulator}/v1",
            "headers": {"x-sim": words} if words else {},
        }
        for name, words in FAULTS.items()
        for dialect in ("openai", "anthropic", "responses")
    ]

    def model(id_: str, *targets: str, **fields: Any) -> dict[str, Any]:
        named = [f"{target}/up-{id_}-{n}" for n, target in enumerate(targets)]
        return {"id": id_, "targets": named, "price": PRICES, **fields}

    models = [
        model("spare", "well-openai"),
        model("gratis", "well-openai", price=None),
        model("frail", "dead-openai", fallbacks=["spare"]),
        model("a", "dead-openai", fallbacks=["spare"]),
        model("b", "dead-anthropic"),
        model("c", "strict-openai"),
        model("kept", "dead-openai", "well-openai", fallbacks=["spare"]),
        model("hopeless", "dead-openai"),
        model("turns", "dead-openai", "well-openai"),
        model("stored", "slow-anthropic", "well-responses"),
        model("dearer", "dead-openai", fallbacks=["dear"], max_output=500),
        model("dear", "well-openai", price=DEAR, max_output=1000),
        model("left", "dead-openai", "mute-openai"),
        model("first", "mute-openai", "well-openai"),
        model("heard", "dead-openai", "calm-openai"),
        model("unheard", "late-openai", "well-openai"),
        model("unread", "rotten-openai", "well-openai"),
        model("resting", "rests-openai", "well-openai"),
    ]
    for surface in SURFACES:
        dialect = DIALECTS.get(surface, "responses")
        for fault in ("late", "slow"):
            models += [
                model(f"{fault}-{surface}", f"{fault}-{dialect}", f"well-{dialect}"),
                model(f"{fault}-{surface}-x", f"{fault}-{dialect}", fallbacks=["spare"]),
                model(f"{fault}-{surface}-alone", f"{fault}-{dialect}"),
            ]
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "server": {"first_token_hold": "1.5s", "ping_interval": "200ms"},
        "breaker": {"min_failures": 10**6},
        "upstreams": upstreams,
        "models": [
            {name: value for name, value in each.items() if value is not None} for each in models
        ],
        "plans": list(PLANS),
    }


class Deployment(NamedTuple):
    gateway: Gateway
    simulator: Program

    async def key(self, plan: str | None = None, **fields: Any) -> dict[str, str]:
        """The header of a new key."""
        if plan is not None:
            fields["plan"] = plan
        key = await asyncio.to_thread(self.gateway.new_key, "k", **fields)
        return {"authorization": f"Bearer {key}"}

    async def ask(
        self,
        key: dict[str, str],
        model: str,
        *,
        surface: str = "chat",
        stream: bool = False,
        text: str = HELLO,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> Reply:
        by = SURFACES[surface]
        body = {**by.body(text, model, stream, Wish()), **fields}
        sent = {**key, **by.headers, **(headers or {})}
        reply = await ask(self.gateway.url, by.path, body, sent)
        assert reply.whole
        return reply

    async def row(self, key: dict[str, str], request_id: str) -> dict[str, Any]:
        """What its caller may read of a request that is over."""
        async with asyncio.timeout(DEADLINE):
            while True:
                path = f"/v1/requests/{request_id}"
                reply = await ask(self.gateway.url, path, headers=key)
                if reply.status == 200:
                    found: dict[str, Any] = reply.json()
                    return found

    async def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = (await ask(self.simulator.url, "/stats")).json()
        return found

    async def requests(self, model: str) -> list[int]:
        """How often each target of a model was asked."""
        seen = (await self.stats())["seen"]
        targets = [seen.get(f"up-{model}-{n}", {"requests": 0}) for n in (0, 1)]
        return [target["requests"] for target in targets]


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, simulator: Program
) -> Iterator[Deployment]:
    gateway = Gateway(tmp_path_factory.mktemp("fallback"), _document(simulator.url), env=SECRETS)
    try:
        yield Deployment(gateway, simulator)
    finally:
        assert gateway.stop() == 0, gateway.stderr


def problems(row: dict[str, Any]) -> list[str | None]:
    return [one["problem"] for one in row["path"]]


# A head that had to leave early


@pytest.mark.parametrize("surface", SURFACES)
async def test_an_early_head_does_not_end_the_search(deployment: Deployment, surface: str) -> None:
    """Pings, then the whole answer of who was tried next, once."""
    key = await deployment.key()
    dialect = SURFACES[surface].dialect
    include = True if dialect[0] == "c" else None

    async def one(model: str) -> None:
        reply = await deployment.ask(key, model, surface=surface, stream=True)
        assert reply.status == 200
        before, _, _ = reply.body.partition(b'"You')
        assert before.count(b"ping" if surface == "messages" else b": keep-alive") >= 2
        body = reply.body.replace(PING, b"")  # which may stand before the message starts
        said = check_stream(dialect, body, include_usage=include)
        assert (said.text, said.stop) == (WHOLE, "end")
        row = await deployment.row(key, reply.header("x-request-id"))
        assert len(row["path"]) == 2
        assert row["ended"] == "completed"

    models = [f"{fault}-{surface}{other}" for fault in ("late", "slow") for other in ("", "-x")]
    await asyncio.gather(*map(one, models))


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_total_failure_after_an_early_head_is_an_event(
    deployment: Deployment, surface: str
) -> None:
    key = await deployment.key()

    async def one(fault: str) -> None:
        reply = await deployment.ask(key, f"{fault}-{surface}-alone", surface=surface, stream=True)
        assert reply.status == 200
        found = [event for event in events(reply.body) if event.get("type") != "ping"]
        assert text_of(reply.body) == ""
        if surface == "responses":
            *_, error, failed = found
            assert (error["type"], failed["type"]) == ("error", "response.failed")
            assert [event["sequence_number"] for event in found] == list(range(len(found)))
        else:
            assert "error" in found[-1]
            assert not [event for event in found[:-1] if "error" in event]
        row = await deployment.row(key, reply.header("x-request-id"))
        assert (row["ended"], row["status"], len(row["path"])) == ("failed", 200, 1)

    await asyncio.gather(one("late"), one("slow"))


# What a caller may try


async def test_callers_name_models_of_their_own(deployment: Deployment) -> None:
    """In their order, in place of the configured ones; upstreams do not hear of it."""
    key = await deployment.key()
    reply = await deployment.ask(key, "a", models=["b", "c"])
    assert reply.status == 200
    assert summary("chat", reply.body).text == WHOLE
    headers = dict(reply.headers)
    assert headers["x-model-used"] == "c"
    assert (headers["x-fallback-from"], headers["x-fallback-depth"]) == ("a", "2")
    row = await deployment.row(key, headers["x-request-id"])
    assert [one["model"] for one in row["path"]] == ["a", "b", "c"]
    said = await asyncio.to_thread(deployment.gateway.request_line, headers["x-request-id"])
    assert [one["upstream_model"] for one in said["attempts"]] == ["up-a-0", "up-b-0", "up-c-0"]
    assert [one["status"] for one in said["attempts"]] == [503, 503, 200]
    other = await deployment.ask(key, "a")
    assert other.header("x-model-used") == "spare"


async def test_a_key_is_given_no_model_that_it_may_not_use(deployment: Deployment) -> None:
    key = await deployment.key(models=["a", "b"])
    reply = await deployment.ask(key, "a")
    assert (reply.status, reply.error["code"]) == (503, "upstream_unavailable")
    row = await deployment.row(key, reply.header("x-request-id"))
    assert problems(row) == ["upstream_unavailable"]
    named = await deployment.ask(key, "a", models=["b", "spare"])
    assert (named.status, named.error["param"]) == (403, "models[1]")


# Keys for repetition


async def test_an_answer_of_another_target_is_replayed(deployment: Deployment) -> None:
    key = await deployment.key()
    before = await deployment.requests("kept")
    again = {"idempotency-key": "the-same"}
    both = await asyncio.gather(*(deployment.ask(key, "kept", headers=again) for _ in range(2)))
    later = await deployment.ask(key, "kept", headers=again)
    replies = [*both, later]
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert len({reply.body for reply in replies}) == 1
    assert [reply.header("x-model-used") for reply in replies] == ["kept"] * 3
    assert sum("idempotent-replayed" in dict(reply.headers) for reply in replies) == 2
    assert await deployment.requests("kept") == [count + 1 for count in before]


async def test_a_total_failure_is_not_kept_for_repetition(deployment: Deployment) -> None:
    key = await deployment.key()
    before, _ = await deployment.requests("hopeless")
    for _ in range(2):
        reply = await deployment.ask(key, "hopeless", headers={"idempotency-key": "once-more"})
        assert reply.status == 503
        assert "idempotent-replayed" not in dict(reply.headers)
    assert (await deployment.requests("hopeless"))[0] == before + 2


# Rates and slots


async def test_attempts_share_one_slot_and_count_once(deployment: Deployment) -> None:
    """With one slot, and a line before it, each is tried twice and has its turn."""
    key = await deployment.key("one")
    replies = await asyncio.gather(
        *(deployment.ask(key, "turns", stream=bool(n % 2)) for n in range(8))
    )
    assert [reply.status for reply in replies] == [200] * 8
    for n, reply in enumerate(replies):
        said = text_of(reply.body) if n % 2 else summary("chat", reply.body).text
        assert said == WHOLE
    shown = (await ask(deployment.gateway.url, "/v1/limits", headers=key)).json()
    assert shown["concurrency"] == {"limit": 1, "in_use": 0}
    (rate,) = shown["rates"]
    assert rate["remaining"] >= 60 - 8  # 120 with the burst, which this leaves out


# Another model where a limit refuses


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("stream", [False, True])
async def test_another_model_where_a_rate_refuses(
    deployment: Deployment, surface: str, stream: bool
) -> None:
    key = await deployment.key("rated")
    first = await deployment.ask(key, "c", surface=surface)
    assert (first.status, first.header("x-model-used")) == (200, "c")
    for _ in range(2):
        reply = await deployment.ask(key, "c", surface=surface, stream=stream)
        headers = dict(reply.headers)
        assert (reply.status, headers["x-model-used"]) == (200, "spare")
        assert (headers["x-fallback-from"], headers["x-fallback-depth"]) == ("c", "1")
        said = (
            text_of(reply.body) if stream else summary(SURFACES[surface].dialect, reply.body).text
        )
        assert said == WHOLE
        row = await deployment.row(key, headers["x-request-id"])
        assert (row["asked"], row["model"], row["fallback_from"]) == ("c", "spare", "c")


async def test_the_other_model_may_fall_back_in_its_turn(deployment: Deployment) -> None:
    key = await deployment.key("rated-frail")
    assert (await deployment.ask(key, "c")).status == 200
    reply = await deployment.ask(key, "c")
    headers = dict(reply.headers)
    assert (reply.status, headers["x-model-used"]) == (200, "spare")
    assert (headers["x-fallback-from"], headers["x-fallback-depth"]) == ("c", "2")


@pytest.mark.parametrize("stream", [False, True])
async def test_another_model_where_the_money_is_short(deployment: Deployment, stream: bool) -> None:
    """It costs nothing; one that costs something is refused as well, and no target is asked."""
    key = await deployment.key("broke")
    reply = await deployment.ask(key, "c", stream=stream)
    headers = dict(reply.headers)
    assert (reply.status, headers["x-model-used"]) == (200, "gratis")
    assert (headers["x-fallback-from"], headers["x-fallback-depth"]) == ("c", "1")
    row = await deployment.row(key, headers["x-request-id"])
    assert (row["model"], float(row["credits"])) == ("gratis", 0)
    poor = await deployment.key("broke-twice")
    before = await deployment.requests("spare")
    refused = await deployment.ask(poor, "c", stream=stream)
    assert (refused.status, refused.error["code"]) == (429, "budget_exceeded")
    assert refused.header("x-should-retry") == "false"
    assert await deployment.requests("spare") == before


# Money


async def test_what_is_set_aside_is_for_the_dearest(deployment: Deployment) -> None:
    """Asked is a cheap model; what might serve is fifty times as dear, and twice as long."""
    key = await deployment.key("rich")
    reply = await deployment.ask(key, "dearer")
    assert (reply.status, reply.header("x-model-used")) == (200, "dear")
    request_id = reply.header("x-request-id")
    row = await deployment.row(key, request_id)
    (kept,) = [one for one in await rows(deployment.gateway.sql) if one.id == request_id]
    output = 1000 * 150_007
    assert output < kept.reserved < output + 200 * 30_001
    used = row["usage"]
    price = used["input_tokens"] * 30_001 + used["output_tokens"] * 150_007
    assert kept.cost == price
    assert Decimal(row["credits"]) == Decimal(price) / 10**9
    (window,) = (await ask(deployment.gateway.url, "/v1/limits", headers=key)).json()["windows"]
    assert (window["used"], float(window["reserved"])) == (row["credits"], 0)
    tight = await deployment.key("tight")  # enough for the input of the cheap one
    refused = await deployment.ask(tight, "dearer")
    assert (refused.status, refused.error["code"]) == (429, "budget_exceeded")
    assert (await deployment.ask(tight, "spare", max_tokens=500)).status == 200


async def test_a_kept_response_is_that_of_the_second_target(deployment: Deployment) -> None:
    """It is read and continued by the id that its caller was given, and there is only that."""
    key = await deployment.key()
    reply = await deployment.ask(key, "stored", surface="responses", stream=True, store=True)
    said = check_stream("responses", reply.body)
    assert said.text == WHOLE
    last = reply.body.rpartition(b'"id":"resp_')[2].partition(b'"')[0].decode()
    found = await ask(deployment.gateway.url, f"/v1/responses/resp_{last}", headers=key)
    assert found.status == 200
    assert summary("responses", found.body).text == WHOLE
    went_on = await deployment.ask(
        key, "stored", surface="responses", store=True, previous_response_id=f"resp_{last}"
    )
    assert went_on.status == 200


# Clients that leave


@asynccontextmanager
async def leaving(
    deployment: Deployment, key: dict[str, str], model: str, *, stream: bool = True
) -> AsyncIterator[Line]:
    """A request whose client leaves at the end of the context."""
    async with line(deployment.gateway.url) as connection:
        await connection.send(request(CHAT, chat(HELLO, model, stream=stream), key))
        yield connection


async def settled(deployment: Deployment, key: dict[str, str], model: str) -> dict[str, Any]:
    """The row of the only request for a model, once it is over."""

    async def found() -> str | None:
        for one in await rows(deployment.gateway.sql):
            if one.asked == model and one.ended != "lost":
                return one.id
        return None

    async with asyncio.timeout(DEADLINE):
        while (request_id := await found()) is None:
            await asyncio.sleep(0.05)
    return await deployment.row(key, request_id)


async def asked(deployment: Deployment, model: str, expected: list[int]) -> None:
    async with asyncio.timeout(DEADLINE):
        while await deployment.requests(model) != expected:
            await asyncio.sleep(0.02)


async def quiet(deployment: Deployment) -> None:
    def look() -> bool:
        stats = httpx.get(f"{deployment.simulator.url}/stats", trust_env=False).json()
        return bool(stats["running"] == 0)

    await asyncio.to_thread(until, look, what="nothing running at the upstream")


async def test_who_leaves_during_the_second_attempt_ends_it(deployment: Deployment) -> None:
    key = await deployment.key()
    before = (await deployment.stats())["hangups"]
    async with leaving(deployment, key, "left"):
        await asked(deployment, "left", [1, 1])
    await quiet(deployment)
    stats = await deployment.stats()
    assert stats["hangups"] == before + 1
    assert stats["last_hangups"][-1]["phase"] == "head"
    row = await settled(deployment, key, "left")
    assert (row["ended"], row["measured"]) == ("hung_up", False)
    assert problems(row) == ["upstream_unavailable", None]


async def test_who_leaves_during_the_first_attempt_has_no_second(deployment: Deployment) -> None:
    key = await deployment.key()
    async with leaving(deployment, key, "first"):
        await asked(deployment, "first", [1, 0])
    await quiet(deployment)
    row = await settled(deployment, key, "first")
    assert (row["ended"], len(row["path"])) == ("hung_up", 1)
    assert await deployment.requests("first") == [1, 0]


async def test_a_second_target_is_heard_out(deployment: Deployment) -> None:
    """The client is gone, its plan hears upstreams out: the answer is counted, and paid whole."""
    key = await deployment.key("drains")
    async with leaving(deployment, key, "heard") as connection:
        reply = await connection.head()
        assert reply.status == 200
        await connection.reader.readuntil(b'"You"')
    row = await settled(deployment, key, "heard")
    assert (row["ended"], row["measured"]) == ("drained", True)
    assert problems(row) == ["upstream_unavailable", None]
    seen = (await deployment.stats())["seen"]["up-heard-1"]
    assert row["usage"]["output_tokens"] == seen["output"] == 60
    assert row["usage"]["input_tokens"] == seen["input"]


async def test_no_target_is_asked_for_a_client_that_is_gone(deployment: Deployment) -> None:
    """Its plan hears upstreams out; but the one that there was has failed."""
    key = await deployment.key("drains")
    for model, stream in (("unheard", True), ("unread", False)):
        async with leaving(deployment, key, model, stream=stream):
            await asked(deployment, model, [1, 0])
        row = await settled(deployment, key, model)
        assert (row["ended"], len(row["path"])) == ("hung_up", 1)
        assert await deployment.requests(model) == [1, 0]
        if stream:  # it had refused, so that nothing was worked on
            assert float(row["credits"]) == 0


# Settings of falling back


@pytest.fixture(scope="module")
def cautious_deployment(
    tmp_path_factory: pytest.TempPathFactory, simulator: Program
) -> Iterator[Deployment]:
    """Three tries, a second round, and nothing that may have been worked on is tried elsewhere."""
    document = _document(simulator.url)
    for upstream in document["upstreams"]:
        if upstream["name"].startswith("mute"):
            upstream["first_token_timeout"] = "2s"
    nowhere = {"name": "nowhere", "dialect": "openai", "base_url": "http://127.0.0.1:1/v1"}
    document["upstreams"].append(nowhere)
    targets = {
        "solo": ["dead-openai"],
        "many": ["dead-openai", "dead-anthropic", "dead-responses", "well-openai"],
        "begun": ["mute-openai", "well-openai"],
        "unbegun": ["nowhere", "well-openai"],
        "answered": ["slow-openai", "well-openai"],
    }
    document["models"] = [
        {"id": name, "targets": [f"{each}/up-{name}-{n}" for n, each in enumerate(places)]}
        for name, places in targets.items()
    ]
    fallback = {"max_attempts": 3, "retries": 1, "backoff": "1ms", "max_backoff": "100ms"}
    document["fallback"] = {**fallback, "retry_unanswered": False}
    document |= {"server": {}, "breaker": {}, "plans": []}
    gateway = Gateway(tmp_path_factory.mktemp("careful"), document, env=SECRETS)
    try:
        yield Deployment(gateway, simulator)
    finally:
        assert gateway.stop() == 0, gateway.stderr


async def test_a_second_round_and_no_end_of_asking(cautious_deployment: Deployment) -> None:
    """A target without another is asked however broken it is; twice as long as it is not, and once
    when it is, since its pause is longer than a request waits."""
    key = await cautious_deployment.key()
    for asked_before in range(12):
        reply = await cautious_deployment.ask(key, "solo", stream=bool(asked_before % 2))
        assert (reply.status, reply.error["code"]) == (503, "upstream_unavailable")
        row = await cautious_deployment.row(key, reply.header("x-request-id"))
        tries = 2 if not asked_before else len(row["path"])
        assert problems(row) == ["upstream_unavailable"] * tries
    count, _ = await cautious_deployment.requests("solo")
    assert 12 < count < 24


async def test_no_more_attempts_than_are_allowed(cautious_deployment: Deployment) -> None:
    key = await cautious_deployment.key()
    reply = await cautious_deployment.ask(key, "many")
    assert reply.status == 503
    row = await cautious_deployment.row(key, reply.header("x-request-id"))
    assert problems(row) == ["upstream_unavailable"] * 3


async def test_what_may_have_been_worked_on_is_not_asked_elsewhere(
    cautious_deployment: Deployment,
) -> None:
    key = await cautious_deployment.key()
    statuses = {
        model: (await cautious_deployment.ask(key, model, stream=True)).status
        for model in ("begun", "unbegun", "answered")
    }
    assert statuses == {"begun": 504, "unbegun": 200, "answered": 200}
    assert await cautious_deployment.requests("begun") == [1, 0]
    assert await cautious_deployment.requests("unbegun") == [0, 1]
    assert await cautious_deployment.requests("answered") == [1, 1]


# Targets that ask to be left alone


async def test_a_target_that_asks_for_rest_has_it(deployment: Deployment) -> None:
    """One request finds out; the next ones go to the other target at once."""
    key = await deployment.key()
    paths = []
    for stream in (True, False, True):
        reply = await deployment.ask(key, "resting", stream=stream)
        assert reply.status == 200
        assert "retry-after" not in dict(reply.headers)
        paths.append(problems(await deployment.row(key, reply.header("x-request-id"))))
    assert paths == [["rate_limited", None], [None], [None]]
    assert await deployment.requests("resting") == [1, 3]
