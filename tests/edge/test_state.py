"""The state of the Responses API in the whole chain: what is kept, when, and for whom.

Callers are distinguished by their address here (`auth = "none"`).
"""

import asyncio
import json
from time import time
from typing import Any

import pytest

from middlewares.stores import Kept, MemoryResponseStore, StoreUnavailable
from tests.asgi import Call, Recorded, http_scope, request

from .dialogue import DOCUMENT, MODELS, PLAIN, SAY, Read, ask
from .scripted import Answer, Scripted, ScriptedGateway

pytestmark = pytest.mark.simulated_time

PATH = "/v1/responses"
ANN, BOB = ("192.0.2.1", 1), ("192.0.2.2", 1)

everywhere = pytest.mark.parametrize("upstream", MODELS)
streamed = pytest.mark.parametrize("stream", [False, True])


def answers(upstream: str, text: str, stream: bool) -> Answer:
    say = SAY[upstream]()
    if stream:
        return Answer([say.start(), say.text(text), say.stop()])
    return Answer([say.whole(text)], headers=PLAIN)


async def post(
    gateway: ScriptedGateway,
    upstream: str,
    who: tuple[str, int] = ANN,
    path: str = PATH,
    **members: Any,
) -> Recorded:
    body = ask("responses", upstream, **members)
    return await request(gateway.app, "POST", path, json=body, client=who)


def sent(gateway: ScriptedGateway, nth: int = -1) -> str:
    body = gateway.upstream.requests[nth].body
    assert isinstance(body, bytes)
    return body.decode()


def made(answer: Recorded) -> Any:
    assert answer.status == 200, answer.body
    return answer.json()


class Gated(MemoryResponseStore):
    """A store that takes its time, and tells when it has been asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()

    async def save(self, kept: Kept) -> None:
        self.asked.set()
        await self.gate.wait()
        await super().save(kept)


class Broken(MemoryResponseStore):
    """A store that cannot write."""

    async def save(self, kept: Kept) -> None:
        raise StoreUnavailable("gone")


@everywhere
@streamed
async def test_an_answer_is_kept_before_its_caller_has_the_end(upstream: str, stream: bool) -> None:
    store = Gated()
    gateway = ScriptedGateway(
        Scripted(answers(upstream, "Hello", stream)), document=DOCUMENT, responses=store
    )
    body = json.dumps(ask("responses", upstream, stream=stream)).encode()
    headers = {"content-length": str(len(body))}
    scope = http_scope("POST", PATH, headers=headers, client=ANN)
    async with Call(gateway.app, scope, body=body) as call:
        await asyncio.wait_for(store.asked.wait(), 5)
        received = call.record.body if call.record.has_started else b""
        assert b"response.completed" not in received
        assert stream is (b"Hello" in received)
        store.gate.set()
        recorded = await call.done()
    whole = Read(recorded.body).data[-1]["response"] if stream else recorded.json()
    assert (whole["status"], whole["store"]) == ("completed", True)
    read = await request(gateway.app, "GET", f"{PATH}/{whole['id']}", client=ANN)
    assert read.json() == whole


@everywhere
@streamed
async def test_a_store_that_fails_breaks_no_answer_and_is_counted(
    upstream: str, stream: bool
) -> None:
    gateway = ScriptedGateway(
        Scripted(answers(upstream, "Hello", stream)), document=DOCUMENT, responses=Broken()
    )
    answer = await post(gateway, upstream, stream=stream)
    assert answer.status == 200
    assert "Hello" in answer.text
    assert not stream or Read(answer.body).ended
    assert gateway.sample("penstock_answers_not_kept_total") == 1
    assert gateway.exchanges[0].outcome == "completed"


@everywhere
@streamed
async def test_an_answer_that_broke_off_is_not_kept(upstream: str, stream: bool) -> None:
    say = SAY[upstream]()
    if stream:
        script = Answer([say.start(), say.text("Half"), say.error("server_error", "x")])
    else:
        script = Answer([b'{"error":{"message":"x"}}'], headers=PLAIN)
    store = MemoryResponseStore()
    gateway = ScriptedGateway(Scripted(script), document=DOCUMENT, responses=store)
    answer = await post(gateway, upstream, stream=stream)
    ids = {word for word in answer.text.split('"') if word.startswith("resp_")}
    for id_ in ids:
        assert (await request(gateway.app, "GET", f"{PATH}/{id_}", client=ANN)).status == 404
    assert gateway.sample("penstock_answers_not_kept_total") == 0


@everywhere
async def test_a_conversation_goes_on_wherever_the_model_is(upstream: str) -> None:
    other = next(name for name in MODELS if name != upstream)
    up = Scripted(answers(upstream, "Ann it is.", False), answers(other, "Ann.", False))
    gateway = ScriptedGateway(up, document=DOCUMENT)
    first = made(await post(gateway, upstream, input="My name is Ann."))
    second = made(await post(gateway, other, input="Who am I?", previous_response_id=first["id"]))
    received = sent(gateway)
    assert (
        received.index("My name is Ann.")
        < received.index("Ann it is.")
        < received.index("Who am I?")
    )
    assert "previous_response_id" not in json.loads(received)
    assert first["id"] not in received
    assert second["previous_response_id"] == first["id"]


# Whose it is


@everywhere
async def test_no_other_caller_finds_it_in_any_way(upstream: str) -> None:
    gateway = ScriptedGateway(Scripted(answers(upstream, "the secret", False)), document=DOCUMENT)
    response = made(await post(gateway, upstream, input="ann's words"))
    [item] = response["output"]
    count = len(gateway.upstream.requests)
    for path in ("", "/input_items"):
        address = f"{PATH}/{response['id']}{path}"
        assert (await request(gateway.app, "GET", address, client=BOB)).status == 404
    gone = await request(gateway.app, "DELETE", f"{PATH}/{response['id']}", client=BOB)
    assert gone.status == 404
    refer = {"type": "item_reference", "id": item["id"]}
    for path in (PATH, f"{PATH}/compact", f"{PATH}/input_tokens"):
        continued = await post(gateway, upstream, BOB, path, previous_response_id=response["id"])
        assert continued.json()["error"]["code"] == "previous_response_not_found"
        referred = await post(gateway, upstream, BOB, path, input=[refer])
        assert (referred.status, referred.json()["error"]["param"]) == (404, "input[0].id")
    assert len(gateway.upstream.requests) == count
    assert (await request(gateway.app, "GET", f"{PATH}/{response['id']}", client=ANN)).status == 200
    made(await post(gateway, upstream, ANN, input=[refer]))
    assert "the secret" in sent(gateway)


async def test_many_at_once_keep_their_own() -> None:
    """Twenty callers, three turns each, all at the same time, over every upstream."""
    upstreams = list(MODELS)

    def script(nth: int) -> Answer:
        body = gateway.upstream.requests[nth].body
        assert isinstance(body, bytes)
        owners = {word for word in body.decode().split("|") if word.startswith("owner-")}
        assert len(owners) == 1, "a request with the words of two callers"
        dialect = {b"/v1/messages": "anthropic", b"/v1/responses": "responses"}
        upstream = dialect.get(gateway.upstream.requests[nth].target, "openai")
        text = f"|{owners.pop()}| heard {nth}"
        whole = SAY[upstream]().whole(text)
        return Answer([whole.replace(b"resp_r1", b"resp_r%d" % nth)], headers=PLAIN)

    class Echo(Scripted):
        async def open(self, request: Any) -> Any:
            await asyncio.sleep(0)
            self.requests.append(request)
            self.answers = [script(len(self.requests) - 1)]
            self.requests.pop()
            return await super().open(request)

    gateway = ScriptedGateway(Echo(Answer()), document=DOCUMENT)

    async def talk(n: int) -> None:
        who = (f"192.0.2.{n + 1}", 1)
        previous: dict[str, Any] = {}
        for turn in range(3):
            upstream = upstreams[(n + turn) % len(upstreams)]
            response = made(
                await post(gateway, upstream, who, input=f"|owner-{n}| turn {turn}", **previous)
            )
            assert f"|owner-{n}|" in json.dumps(response["output"])
            previous = {"previous_response_id": response["id"]}
        address = f"{PATH}/{response['id']}/input_items"
        items = (await request(gateway.app, "GET", address, client=who)).json()["data"]
        received = json.dumps(items)
        assert received.count(f"|owner-{n}|") == 5
        assert received.count("|owner-") == 5

    await asyncio.gather(*map(talk, range(20)))


@pytest.mark.parametrize("how", ["deleted", "expired"])
async def test_what_is_gone_is_gone_in_every_way(how: str) -> None:
    store = MemoryResponseStore()
    gateway = ScriptedGateway(
        Scripted(answers("openai", "the secret", False)), document=DOCUMENT, responses=store
    )
    if how == "deleted":
        response = made(await post(gateway, "openai"))
        id_, item = response["id"], response["output"][0]["id"]
        deleted = await request(gateway.app, "DELETE", f"{PATH}/{id_}", client=ANN)
        assert deleted.json()["deleted"] is True
    else:
        id_, item = "resp_old", "msg_old"
        output = [{"type": "message", "id": item, "role": "assistant", "content": "the secret"}]
        await post(gateway, "openai")
        owner = gateway.exchanges[0].principal
        assert owner is not None
        now = time()
        await store.save(
            Kept(
                owner=owner.id,
                id=id_,
                previous=None,
                model="only-oai",
                created_at=now - 100,
                expires_at=now - 1,
                input=b"[]",
                output=json.dumps(output).encode(),
                answer=b"{}",
                items=(item,),
            )
        )
    count = len(gateway.upstream.requests)
    for path in ("", "/input_items"):
        address = f"{PATH}/{id_}{path}"
        assert (await request(gateway.app, "GET", address, client=ANN)).status == 404
    continued = await post(gateway, "openai", previous_response_id=id_)
    assert continued.json()["error"]["code"] == "previous_response_not_found"
    refer = {"type": "item_reference", "id": item}
    assert (await post(gateway, "openai", input=[refer])).status == 404
    assert len(gateway.upstream.requests) == count
