"""/v1/responses over a forwarder that plays a script."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from openai.types.responses import Response, ResponseItem
from pydantic import TypeAdapter

from edge.api.responses import ResponsesApp
from edge.dialects.sealing import Sealing
from middlewares import ErrorsMiddleware, Exchange, Principal
from middlewares.asgi import Receive, Scope, Send
from middlewares.stores import (
    Kept,
    MemoryResponseStore,
    MemorySecretStore,
    ResponseStore,
    StoreUnavailable,
)
from middlewares.stores.responses.sql import SqlResponseStore
from middlewares.stores.sql.database import Database
from tests.asgi import Recorded, request
from tests.edge.exchanges import exchange_at
from tests.middlewares.stores.sqlite_files import new_sqlite

ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)
PATH = "/v1/responses"


def answer_of(id_: str, *output: Any, **members: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "m",
        "output": list(output),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        **members,
    }


def text_item(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "type": "message",
        "id": f"msg_{text}",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


class ScriptedGateway:
    """The app with what stands above and below it."""

    def __init__(self, store: ResponseStore | None, **options: Any) -> None:
        self.now = 1_000.0
        self.seen: list[Exchange] = []
        self.inputs: list[Any] = []
        self.reply: dict[str, Any] = answer_of("resp_1", text_item("hi"))
        self.before_forward: Callable[[Exchange], Awaitable[None]] | None = None
        self.before_end: Callable[[], Awaitable[None]] | None = None
        self.lost = 0
        inner = ResponsesApp(
            self._forward,
            store=store,
            sealing=Sealing(MemorySecretStore()),
            on_lost=self._lose,
            clock=lambda: self.now,
            **options,
        )
        self.app = ErrorsMiddleware(inner, brand="Acme")

    def _lose(self) -> None:
        self.lost += 1

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        if self.before_forward is not None:
            await self.before_forward(exchange)
        self.seen.append(exchange)
        self.inputs.append(json.loads(bytes(exchange.fields.get("input", b"null"))))
        body = json.dumps({**self.reply, **exchange.response_overrides}).encode()
        exchange.fields = {}
        if exchange.answer_record is not None:
            await exchange.answer_record.save(body)
        if self.before_end is not None:
            await self.before_end()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def call(
        self, method: str, path: str = PATH, who: str | None = "ann", **members: Any
    ) -> Recorded:
        exchange = exchange_at("responses", model="m")
        exchange.principal = None if who is None else Principal(who)
        exchange.request_id = "0123"
        exchange.fields = {
            name: msgspec.Raw(json.dumps(value).encode()) for name, value in members.items()
        }
        path, _, query = path.partition("?")
        return await request(
            self.app,
            method,
            path,
            state={"penstock.exchange": exchange},
            query_string=query.encode(),
        )

    async def create(self, reply: dict[str, Any] | None = None, **members: Any) -> Any:
        self.reply = self.reply if reply is None else reply
        done = await self.call("POST", **members)
        assert done.status == 200, done.body
        return json.loads(done.body)

    async def items(self, id_: str, query: str = "") -> Any:
        done = await self.call("GET", f"{PATH}/{id_}/input_items?{query}")
        assert done.status == 200, done.body
        return json.loads(done.body)


@pytest.fixture(params=["memory", "sqlite"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Any) -> AsyncIterator[ScriptedGateway]:
    if request.param == "memory":
        yield ScriptedGateway(MemoryResponseStore())
        return
    database = await Database.open(new_sqlite(tmp_path / "penstock.db"))
    yield ScriptedGateway(SqlResponseStore(database))
    await database.aclose()


def error_of(done: Recorded) -> Any:
    return json.loads(done.body)["error"]


async def test_what_was_answered_can_be_read_again(gateway: ScriptedGateway) -> None:
    made = await gateway.create(input="hello")
    found = await gateway.call("GET", f"{PATH}/resp_1")
    assert found.status == 200
    assert found.header("content-type") == "application/json"
    assert json.loads(found.body) == made
    assert list(json.loads(found.body)) == list(made)
    Response.model_validate(json.loads(found.body), strict=True)
    head = await gateway.call("HEAD", f"{PATH}/resp_1/")
    assert head.body == b""
    assert head.header("content-length") == str(len(found.body))


async def test_it_is_kept_before_the_answer_ends(gateway: ScriptedGateway) -> None:
    async def read() -> None:
        gateway.before_end = None
        assert (await gateway.call("GET", f"{PATH}/resp_1")).status == 200
        assert gateway.lost == 0

    gateway.before_end = read
    await gateway.create(input="hello")
    assert gateway.before_end is None


async def test_a_conversation_goes_on(gateway: ScriptedGateway) -> None:
    await gateway.create(input="one", instructions="be brief")
    made = await gateway.create(
        answer_of("resp_2", text_item("two")), input="go on", previous_response_id="resp_1"
    )
    assert made["previous_response_id"] == "resp_1"
    assert made["store"] is True
    assert [item.get("id") for item in gateway.inputs[1]] == [None, "msg_hi", None]
    await gateway.create(answer_of("resp_3"), input="and on", previous_response_id="resp_2")
    assert [item["role"] for item in gateway.inputs[2]] == ["user", "assistant"] * 2 + ["user"]
    found = json.loads((await gateway.call("GET", f"{PATH}/resp_2")).body)
    assert found["previous_response_id"] == "resp_1"


async def test_instructions_are_not_inherited(gateway: ScriptedGateway) -> None:
    seen: list[set[str]] = []

    async def note(exchange: Exchange) -> None:
        seen.append(set(exchange.fields))

    await gateway.create(input="one", instructions="be brief")
    gateway.before_forward = note
    await gateway.create(
        answer_of("resp_2"), input="two", previous_response_id="resp_1", store=True
    )
    assert seen == [{"input", "store"}]


async def test_other_callers_find_nothing(gateway: ScriptedGateway) -> None:
    await gateway.create(input="one")
    unknown = await gateway.call("GET", f"{PATH}/resp_9")
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/input_items")):
        for who in ("bob", None):
            done = await gateway.call(method, f"{PATH}/resp_1{path}", who=who)
            assert done.status == 404
            assert done.body == unknown.body.replace(b"resp_9", b"resp_1")
    done = await gateway.call(
        "POST", who="bob", input="x", model="m", previous_response_id="resp_1"
    )
    assert (done.status, error_of(done)["code"]) == (400, "previous_response_not_found")
    assert error_of(done)["param"] == "previous_response_id"
    assert error_of(done)["type"] == "invalid_request_error"
    assert error_of(unknown)["code"] == "not_found"


@pytest.mark.parametrize("path", ["/", "/nothing", "/%00", "/" + "x" * 999, "//", "/é"])
async def test_ids_that_cannot_be_are_not_found(gateway: ScriptedGateway, path: str) -> None:
    for method in ("GET", "DELETE"):
        assert (await gateway.call(method, f"{PATH}{path}")).status == 404


async def test_deleting(gateway: ScriptedGateway) -> None:
    await gateway.create(input="one")
    await gateway.create(answer_of("resp_2", text_item("b")), previous_response_id="resp_1")
    done = await gateway.call("DELETE", f"{PATH}/resp_1")
    assert json.loads(done.body) == {"id": "resp_1", "object": "response", "deleted": True}
    assert (await gateway.call("DELETE", f"{PATH}/resp_1")).status == 404
    assert (await gateway.call("GET", f"{PATH}/resp_1")).status == 404
    done = await gateway.call("POST", input="x", previous_response_id="resp_1")
    assert error_of(done)["code"] == "previous_response_not_found"
    await gateway.create(answer_of("resp_3"), input="x", previous_response_id="resp_2")
    assert [item.get("id") for item in gateway.inputs[-1]] == [None, "msg_hi", "msg_b", None]
    assert len((await gateway.items("resp_3"))["data"]) == 4


async def test_deleted_while_it_is_continued(gateway: ScriptedGateway) -> None:
    await gateway.create(input="one")

    async def delete(_: Exchange) -> None:
        gateway.before_forward = None
        assert (await gateway.call("DELETE", f"{PATH}/resp_1")).status == 200

    gateway.before_forward = delete
    await gateway.create(answer_of("resp_2"), input="two", previous_response_id="resp_1")
    assert gateway.lost == 0
    assert len((await gateway.items("resp_2"))["data"]) == 3


async def test_what_has_expired_is_gone(gateway: ScriptedGateway) -> None:
    await gateway.create(input="one")
    gateway.now += 30 * 86400 - 1
    assert (await gateway.call("GET", f"{PATH}/resp_1")).status == 200
    gateway.now += 1
    assert (await gateway.call("GET", f"{PATH}/resp_1")).status == 404


@pytest.mark.parametrize(
    ("options", "who", "store"),
    [({}, "ann", False), ({"keep": 0.0}, "ann", True), ({}, None, True), ({}, "unknown", None)],
)
async def test_what_is_not_to_be_kept_is_not(
    options: dict[str, Any], who: str | None, store: bool | None
) -> None:
    kept = MemoryResponseStore()
    gateway = ScriptedGateway(kept, **options)
    done = await gateway.call("POST", who=who, input="one", store=store)
    assert json.loads(done.body)["store"] is False
    assert gateway.seen[0].answer_record is None
    assert (await gateway.call("GET", f"{PATH}/resp_1")).status == 404
    assert await kept.get("ann", "resp_1", 0.0) is None


async def test_the_upstream_is_asked_not_to_keep_it_either() -> None:
    received: list[bytes] = []

    async def forward(scope: Scope, receive: Receive, send: Send) -> None:
        received.append(bytes(Exchange.of(scope).fields.get("store", b"left out")))

    for store, keep in ((None, 1.0), (MemoryResponseStore(), 0.0), (MemoryResponseStore(), 1.0)):
        app = ResponsesApp(forward, store=store, keep=keep, sealing=Sealing(MemorySecretStore()))
        exchange = exchange_at("responses", principal=Principal("ann"))
        exchange.fields = {"input": msgspec.Raw(b'"x"')}
        await app(
            {"type": "http", "method": "POST", "state": {"penstock.exchange": exchange}},
            _never,
            _nowhere,
        )
    assert received == [b"false", b"false", b"left out"]


async def _never() -> Any:
    raise AssertionError("nothing is to be received")


async def _nowhere(_message: Any) -> None:
    raise AssertionError("nothing is to be sent")


@pytest.mark.parametrize(
    ("members", "param", "code"),
    [
        ({"background": True}, "background", "unsupported_parameter"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"conversation": {"id": "conv_1"}}, "conversation", "unsupported_parameter"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter"),
        ({"background": "yes"}, "background", "invalid_request"),
        ({"store": 1}, "store", "invalid_request"),
    ],
)
async def test_what_cannot_work_is_refused(
    gateway: ScriptedGateway, members: dict[str, Any], param: str, code: str
) -> None:
    done = await gateway.call("POST", input="x", **members)
    assert done.status == 400
    assert (error_of(done)["param"], error_of(done)["code"]) == (param, code)
    assert gateway.seen == []


async def test_null_and_false_are_as_if_left_out(gateway: ScriptedGateway) -> None:
    made = await gateway.create(
        input="x",
        background=False,
        conversation=None,
        prompt=None,
        store=None,
        previous_response_id=None,
    )
    assert (made["store"], made["previous_response_id"]) == (True, None)


async def test_methods_and_queries_that_do_not_exist(gateway: ScriptedGateway) -> None:
    await gateway.create(input="x")
    done = await gateway.call("DELETE", f"{PATH}/resp_1/input_items")
    assert (done.status, done.header("allow")) == (405, "GET, HEAD")
    done = await gateway.call("GET", f"{PATH}/resp_1?stream=true")
    assert (done.status, error_of(done)["param"]) == (400, "stream")
    assert (await gateway.call("GET", f"{PATH}/resp_1?stream=false&include=x")).status == 200


# Input items


async def test_items_come_newest_first_in_pages(gateway: ScriptedGateway) -> None:
    new = [{"role": "user", "content": str(n)} for n in range(25)]
    await gateway.create(input=new)
    first = await gateway.items("resp_1")
    assert first["object"] == "list"
    assert [item["content"][0]["text"] for item in first["data"]] == [
        str(n) for n in range(24, 4, -1)
    ]
    assert (first["first_id"], first["last_id"]) == (
        first["data"][0]["id"],
        first["data"][-1]["id"],
    )
    assert first["has_more"] is True
    rest = await gateway.items("resp_1", f"after={first['last_id']}")
    assert [item["content"][0]["text"] for item in rest["data"]] == ["4", "3", "2", "1", "0"]
    assert rest["has_more"] is False
    some = await gateway.items("resp_1", f"order=asc&limit=2&after={rest['data'][-1]['id']}")
    assert [item["content"][0]["text"] for item in some["data"]] == ["1", "2"]
    assert len({item["id"] for item in first["data"] + rest["data"]}) == 25
    nothing = await gateway.items("resp_1", f"after={rest['last_id']}")
    assert nothing == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=", "limit"),
        ("limit=٣", "limit"),
        ("order=up", "order"),
        ("after=msg_none", "after"),
    ],
)
async def test_pages_that_cannot_be(gateway: ScriptedGateway, query: str, param: str) -> None:
    await gateway.create(input="x")
    done = await gateway.call("GET", f"{PATH}/resp_1/input_items?{query}")
    assert (done.status, error_of(done)["param"]) == (400, param)


async def test_items_are_written_out_as_the_sdk_knows_them(gateway: ScriptedGateway) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    call = {"call_id": "c1", "name": "f"}
    await gateway.create(
        input=[
            {"role": "developer", "content": "d"},
            {
                "type": "message",
                "role": "user",
                "content": [image, {"type": "input_text", "text": "t"}],
            },
            {"role": "assistant", "content": "a", "type": "message", "id": "msg_own"},
            {"type": "reasoning", "id": "rs_1", "encrypted_content": "e", "summary": []},
            {"type": "function_call", "arguments": "{}", **call},
            {"type": "function_call_output", "call_id": "c1", "output": [image]},
            {"type": "custom_tool_call", "input": "raw", **call},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "o"},
        ]
    )
    data = (await gateway.items("resp_1", "order=asc"))["data"]
    for item in data:
        ITEM.validate_python(item)
    assert [item["type"] for item in data] == [
        "message",
        "message",
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
    ]
    assert data[0]["content"] == [{"type": "input_text", "text": "d"}]
    assert data[1]["content"][0] == {**image, "detail": "auto"}
    assert data[2]["id"] == "msg_own"
    assert data[2]["content"] == [{"type": "output_text", "text": "a", "annotations": []}]
    assert all(item["status"] == "completed" for item in data if item["type"] != "reasoning")
    prefixes = [item["id"].partition("_")[0] for item in data]
    assert prefixes == ["msg", "msg", "msg", "rs", "fc", "fco", "ctc", "ctco"]


async def test_items_of_a_continued_response_have_all_that_it_was_made_from(
    gateway: ScriptedGateway,
) -> None:
    await gateway.create(input="one")
    await gateway.create(answer_of("resp_2"), input="two", previous_response_id="resp_1")
    first = (await gateway.items("resp_1"))["data"]
    second = (await gateway.items("resp_2", "order=asc"))["data"]
    assert second[:1] == first
    assert second[1] == text_item("hi")
    assert second[2]["content"] == [{"type": "input_text", "text": "two"}]


async def test_text_that_is_none_is_shown_somehow() -> None:
    store = MemoryResponseStore()
    broken = b'[{"role":"user","content":"\xff"}]'
    await store.save(
        Kept(
            owner="ann",
            id="r",
            previous=None,
            model="m",
            created_at=0.0,
            expires_at=9e9,
            input=broken,
            output=b"[]",
            answer=b"{}",
        )
    )
    data = (await ScriptedGateway(store).items("r"))["data"]
    assert data[0]["content"][0]["text"] == "\ufffd"


# When the store fails


class Broken(MemoryResponseStore):
    """A store that raises the given exception."""

    def __init__(self, failure: BaseException | asyncio.Event) -> None:
        super().__init__()
        self.failure = failure

    async def _fail(self) -> Any:
        if isinstance(self.failure, asyncio.Event):
            await self.failure.wait()
            return None
        raise self.failure

    async def save(self, kept: Kept) -> None:
        await self._fail()

    async def get(self, *_: Any) -> Any:
        return await self._fail()

    async def conversation(self, *_: Any) -> Any:
        return await self._fail()

    async def delete(self, *_: Any) -> Any:
        return await self._fail()


@pytest.mark.parametrize(
    "failure",
    [StoreUnavailable("gone"), ValueError("twice"), RuntimeError("a mistake"), asyncio.Event()],
)
async def test_an_answer_that_cannot_be_kept_still_goes_out(
    failure: BaseException | asyncio.Event, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = ScriptedGateway(Broken(failure), patience=0.01)
    made = await gateway.create(input="secret words")
    assert made["output"] == [text_item("hi")]
    assert gateway.lost == 1
    [line] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "0123" in line.getMessage()
    assert "secret words" not in caplog.text
    assert bool(line.exc_info) is isinstance(failure, RuntimeError)


@pytest.mark.parametrize(
    "reply",
    [{"object": "response"}, answer_of(""), answer_of("a b"), {"id": "r", "output": {}}, {"id": 5}],
)
async def test_an_answer_that_is_none_is_not_kept(
    gateway: ScriptedGateway, reply: dict[str, Any]
) -> None:
    await gateway.create(reply, input="x")
    assert gateway.lost == 1


async def test_reading_without_a_store_says_so() -> None:
    gateway = ScriptedGateway(Broken(StoreUnavailable("gone")))
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/input_items")):
        done = await gateway.call(method, f"{PATH}/resp_1{path}")
        assert done.status == 503
        assert b"gone" not in done.body
    done = await gateway.call("POST", input="x", previous_response_id="resp_1")
    assert done.status == 503
