"""What the intake reads, refuses and never holds."""

import asyncio
import json
from typing import Any

import pytest

from edge.config.load import parse
from edge.endpoints import BY_NAME
from edge.proxy.intake import IntakeMiddleware
from edge.requests.json_body import members_of
from edge.routing.catalog import Catalog
from middlewares import ErrorsMiddleware, Exchange, Principal, Problem
from middlewares.asgi import Receive, Scope, Send
from middlewares.exchange import Dialect
from tests.asgi import Call, Headers, Recorded, http_scope, request
from tests.edge.scripted import DOCUMENT

pytestmark = pytest.mark.simulated_time

LIMIT = 1000
GOOD = b'{"model":"m1","messages":[{}]}'


class Inside:
    """Where requests go that were let in."""

    def __init__(self) -> None:
        self.seen: list[Exchange] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(Exchange.of(scope))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Door:
    """The intake with an endpoint and a principal already found. `inside` says who came through."""

    def __init__(
        self,
        endpoint: str = "chat.completions",
        dialect: Dialect = "openai",
        principal: Principal | None = None,
        idle: float = 5.0,
        limit: int = LIMIT,
    ) -> None:
        self.inside = Inside()
        self.exchange: Exchange | None = None
        catalog = Catalog.build(parse(DOCUMENT))
        intake = IntakeMiddleware(self.inside, catalog=catalog, limit=limit, idle=idle)

        async def routed(scope: Scope, receive: Receive, send: Send) -> None:
            exchange = self.exchange = Exchange.of(scope)
            exchange.endpoint = endpoint
            exchange.row = BY_NAME[endpoint]
            exchange.dialect = dialect
            exchange.principal = principal
            await intake(scope, receive, send)

        self.app = ErrorsMiddleware(routed)

    async def post(self, body: bytes, headers: Headers = ()) -> Recorded:
        return await request(self.app, "POST", "/", headers=headers, body=body)


def error_of(answer: Recorded) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    return error


async def test_what_is_read() -> None:
    door = Door()
    body = b'{"stream":true,"model":"m1-alias","messages":[ 1.50 ],"x":{"b":1}}'
    assert (await door.post(body)).status == 204
    exchange = door.inside.seen[0]
    assert (exchange.model, exchange.stream) == ("m1-alias", True)
    assert bytes(exchange.fields["messages"]) == b"[ 1.50 ]"
    assert bytes(exchange.fields["x"]) == b'{"b":1}'


@pytest.mark.parametrize(
    ("stream", "means"),
    [("true", True), ("false", False), ("null", False), (None, False)],
)
async def test_stream(stream: str | None, means: bool) -> None:
    door = Door()
    tail = f',"stream":{stream}' if stream else ""
    await door.post(GOOD[:-1] + tail.encode() + b"}")
    assert door.inside.seen[0].stream is means


@pytest.mark.parametrize("endpoint", ["models", "usage"])
async def test_bodies_of_endpoints_without_one_are_not_read(endpoint: str) -> None:
    door = Door(endpoint)
    assert (await door.post(b"not json at all")).status == 204


async def test_a_lifespan_passes() -> None:
    reached: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    catalog = Catalog.build(parse(DOCUMENT))
    intake = IntakeMiddleware(app, catalog=catalog, limit=1, idle=1)
    await intake({"type": "lifespan"}, nothing, nothing)
    assert reached == ["lifespan"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"model":3,"messages":[{}]}', "model"),
        (b'{"model":null,"messages":[{}]}', "model"),
        (b'{"model":["m1"],"messages":[{}]}', "model"),
        (b'{"model":{"a":"m1"},"messages":[{}]}', "model"),
        (b'{"model":"","messages":[{}]}', "model"),
        (b'{"model":"' + b"m" * 257 + b'","messages":[{}]}', "model"),
        (b'{"model":"m1\\n","messages":[{}]}', "model"),
        (b'{"model":"\xff","messages":[{}]}', "model"),
        (b'{"messages":[{}]}', "model"),
        (b'{"model":"m1"}', "messages"),
        (b'{"model":"m1","messages":[]}', "messages"),
        (b'{"model":"m1","messages":null}', "messages"),
        (b'{"model":"m1","messages":[{}],"stream":"yes"}', "stream"),
        (b'{"model":"m1","messages":[{}],"stream":1}', "stream"),
    ],
)
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_the_field_at_fault_is_named(dialect: Dialect, body: bytes, param: str) -> None:
    door = Door(dialect=dialect)
    answer = await door.post(body)
    assert answer.status == 400
    assert f"`{param}`" in error_of(answer)["message"]
    if dialect == "openai":
        assert error_of(answer)["param"] == param
    assert error_of(answer)["type"] == "invalid_request_error"
    assert door.inside.seen == []
    assert door.exchange is not None and door.exchange.outcome == "refused"


async def test_embeddings_need_an_input() -> None:
    door = Door("embeddings")
    assert error_of(await door.post(b'{"model":"m1","input":""}'))["param"] == "input"
    assert (await door.post(b'{"model":"m1","input":"x"}')).status == 204


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b'"m1"',
        b"null",
        GOOD[:-1],
        GOOD + GOOD,
        b'{"model":"m1","messages":[1,}',
        b'{"model":"m1","messages":' + b"[" * 400 + b"]" * 400 + b"}",
        b'{"a\xff":1}',
        b"\xef\xbb\xbf" + GOOD,
        "{}".encode("utf-16"),
        b'{"model":"m1","messages":["\\ud800"]}',
    ],
)
async def test_what_is_no_json_object_is_a_400(body: bytes) -> None:
    door = Door()
    answer = await door.post(body)
    if body.count(b"[") == 400 and answer.status == 204:
        return  # deep, but not deeper than this interpreter's parser goes
    assert answer.status == 400
    assert error_of(answer)["code"] == "invalid_request"


async def test_nesting_without_end_is_a_400() -> None:
    catalog = Catalog.build(parse(DOCUMENT))
    inside = Inside()
    intake = IntakeMiddleware(inside, catalog=catalog, limit=1 << 20, idle=5)

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).row = BY_NAME["messages"]
        await intake(scope, receive, send)

    def nested(depth: int) -> bytes:
        return b'{"x":' + b"[" * depth + b"]" * depth + b"}"

    answer = await request(ErrorsMiddleware(routed), "POST", body=nested(100_000))
    assert answer.status == 400  # Python 3.14 reads so deep, and misses the model
    with pytest.raises(Problem) as raised:
        members_of(nested(500_000))  # no interpreter does
    assert raised.value.message == "The body is nested too deeply."


@pytest.mark.parametrize("count", [998, 999])
async def test_members_are_bounded(count: int) -> None:
    members = b",".join([b'"%d":1' % n for n in range(count)])
    door = Door(limit=1 << 20)
    answer = await door.post(b'{"model":"m1","messages":[0],' + members + b"}")
    assert answer.status == (204 if count == 998 else 400), answer.text
    if count == 999:
        assert "more than 1000 members" in error_of(answer)["message"]


# Models


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m1","messages":[{}],"model":"only-oai"}',
        b'{"model":"m1","messages":[{}],"mod\\u0065l":"only-oai"}',
        b'{"mod\\u0065l":"only-oai","messages":[{}]}',
        b'{"model":"only\\u002doai","messages":[{}]}',
    ],
)
async def test_no_other_model_is_smuggled_past_the_allow_list(body: bytes) -> None:
    door = Door(principal=Principal("k", models=frozenset(("m1",))))
    answer = await door.post(body)
    assert (answer.status, error_of(answer)["code"]) == (403, "model_not_allowed")
    assert door.inside.seen == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"only-oai","messages":[{}],"model":"m1"}',
        b'{"model":"only-oai","messages":[{}],"mod\\u0065l":"m1"}',
    ],
)
async def test_of_two_models_only_the_judged_one_is_left(body: bytes) -> None:
    door = Door(principal=Principal("k", models=frozenset(("m1",))))
    assert (await door.post(body)).status == 204
    exchange = door.inside.seen[0]
    assert exchange.model == "m1"
    assert sorted(exchange.fields) == ["messages", "model"]


@pytest.mark.parametrize(
    ("models", "asked", "status"),
    [
        (None, "m1", 204),
        ({"m1"}, "m1", 204),
        ({"m1"}, "m1-alias", 204),
        ({"m1-alias"}, "m1", 204),
        ({"m1"}, "only-oai", 403),
        (set(), "m1", 403),
    ],
)
async def test_allow_lists(models: set[str] | None, asked: str, status: int) -> None:
    allowed = None if models is None else frozenset(models)
    door = Door(principal=Principal("k", models=allowed))
    answer = await door.post(json.dumps({"model": asked, "messages": [{}]}).encode())
    assert answer.status == status


async def test_a_callers_own_order() -> None:
    door = Door()
    body = b'{"model":"m1","models":["m1-alias","only-oai"],"messages":[{}]}'
    assert (await door.post(body)).status == 204
    exchange = door.inside.seen[0]
    assert (exchange.model, exchange.models) == ("m1", ("m1-alias", "only-oai"))
    assert sorted(exchange.fields) == ["messages", "model"]  # no upstream knows the other


@pytest.mark.parametrize("models", [b"null", b"[]"])
async def test_no_order(models: bytes) -> None:
    door = Door()
    assert (await door.post(b'{"model":"m1","models":%b,"messages":[{}]}' % models)).status == 204
    exchange = door.inside.seen[0]
    assert (exchange.models, sorted(exchange.fields)) == ((), ["messages", "model"])


async def test_the_first_of_an_order_may_stand_for_the_model() -> None:
    door = Door()
    assert (await door.post(b'{"models":["only-oai","m1"],"messages":[{}]}')).status == 204
    assert door.inside.seen[0].model == "only-oai"


@pytest.mark.parametrize(
    ("models", "status", "param"),
    [
        ('["m1","nope"]', 404, "models[1]"),
        ('["m1","only-oai"]', 403, "models[1]"),
        ('"m1"', 400, "models"),
        ('["m1",1]', 400, "models"),
        ('[""]', 400, "models[0]"),
        ('["a\\nb"]', 400, "models[0]"),
        ('["' + "m" * 257 + '"]', 400, "models[0]"),
        (json.dumps(["m1"] * 17), 400, "models"),
        ("{}", 400, "models"),
    ],
)
async def test_an_order_within_what_the_key_may_use(models: str, status: int, param: str) -> None:
    door = Door(principal=Principal("k", models=frozenset(("m1",))))
    answer = await door.post(f'{{"model":"m1","models":{models},"messages":[{{}}]}}'.encode())
    assert (answer.status, error_of(answer)["param"]) == (status, param)
    assert door.inside.seen == []


@pytest.mark.parametrize("endpoint", ["messages", "responses", "completions"])
async def test_an_order_in_every_dialect(endpoint: str) -> None:
    """An upstream that knows the member could else be asked for what the key may not use."""
    door = Door(endpoint, principal=Principal("k", models=frozenset(("m1",))))
    asked = b'"messages":[{}],"input":"x","prompt":"x"'
    answer = await door.post(b'{"model":"m1","models":["only-oai"],%b}' % asked)
    assert answer.status == 403
    assert (await door.post(b'{"model":"m1","models":["m1-alias"],%b}' % asked)).status == 204
    exchange = door.inside.seen[0]
    assert (exchange.models, "models" in exchange.fields) == (("m1-alias",), False)


LIST = "GET /v1/models lists the models that this key may use."


async def test_an_unknown_model_is_named_as_each_vendor_does() -> None:
    body = GOOD.replace(b"m1", b"nope")
    for dialect in ("openai", "responses"):
        chat = await Door(dialect=dialect).post(body)
        assert (chat.status, error_of(chat)["code"]) == (404, "model_not_found")
        assert error_of(chat)["message"] == (
            f"The model `nope` does not exist or you do not have access to it. {LIST}"
        )
    messages = await Door(dialect="anthropic").post(body)
    assert messages.status == 404
    assert error_of(messages) == {"type": "not_found_error", "message": f"model: nope. {LIST}"}


@pytest.mark.parametrize("dialect", ["openai", "responses", "anthropic"])
@pytest.mark.parametrize(
    ("allowed", "near"), [(None, "only-oai"), ({"only-ant", "m1"}, "only-ant"), ({"m1"}, None)]
)
async def test_unknown_model_message_names_the_closest_that_the_key_may_use(
    dialect: Dialect, allowed: set[str] | None, near: str | None
) -> None:
    principal = Principal("k", models=None if allowed is None else frozenset(allowed))
    door = Door(dialect=dialect, principal=principal)
    message = error_of(await door.post(GOOD.replace(b"m1", b"only-oa")))["message"]
    assert ("Did you mean" in message) == (near is not None)
    assert near is None or f" Did you mean `{near}`? {LIST}" in message


async def test_model_that_the_key_may_not_use_says_where_the_list_is() -> None:
    door = Door(principal=Principal("k", models=frozenset(("m1",))))
    answer = await door.post(GOOD.replace(b"m1", b"only-oai"))
    assert answer.status == 403
    assert error_of(answer)["message"] == f"This key may not use `only-oai`. {LIST}"


# Media types


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 204),
        ({"content-type": "application/json"}, 204),
        ({"content-type": "Application/JSON; charset=utf-8"}, 204),
        ({"content-type": "application/vnd.x+json"}, 204),
        ({"content-encoding": "identity"}, 204),
        ({"content-encoding": ""}, 204),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "multipart/form-data; boundary=application/json"}, 415),
        ({"content-type": ""}, 415),
        ({"content-encoding": "gzip"}, 415),
        ({"content-encoding": "identity, gzip"}, 415),
    ],
)
async def test_media_types(headers: dict[str, str], status: int) -> None:
    answer = await Door().post(GOOD, headers)
    assert answer.status == status
    if status == 415:
        assert error_of(answer)["param"] in headers


# Size and time


async def test_a_body_announced_too_large_is_refused_unread() -> None:
    scope = http_scope("POST", headers={"content-length": str(LIMIT + 1)})
    async with Call(Door().app, scope, body=None) as call:
        await call.started()
        assert call.status == 413
        assert (await call.done()).complete
        assert all(message["type"] == "http.disconnect" for message in call.received)


async def test_a_body_that_grows_too_large_is_refused_when_it_does() -> None:
    door = Door()
    async with Call(door.app, http_scope("POST"), body=None) as call:
        for _ in range(3):
            call.feed(b"x" * (LIMIT // 3), more=True)
        await call.received_all()
        assert not call.record.has_started
        call.feed(b"xx", more=True)
        await call.started()
        assert call.status == 413
        assert f"{LIMIT} bytes" in call.record.text
        await call.done()
    assert door.exchange is not None and door.exchange.fields == {}


async def test_a_body_of_exactly_the_limit_is_read() -> None:
    body = GOOD + b" " * (LIMIT - len(GOOD))
    assert (await Door().post(body)).status == 204


@pytest.mark.parametrize("length", ["-1", "+3", "x", "", "1 ", "9" * 5000])
async def test_a_length_that_is_no_number(length: str) -> None:
    answer = await Door().post(GOOD, {"content-length": length})
    assert (answer.status, error_of(answer)["code"]) == (400, "invalid_request")


async def test_a_body_in_pieces_is_put_together_and_no_more_is_asked() -> None:
    scope = http_scope("POST", headers={"content-length": str(len(GOOD))})
    door = Door()
    async with Call(door.app, scope, body=None) as call:
        for i in range(len(GOOD)):
            call.feed(GOOD[i : i + 1], more=True)  # the server has not seen the end yet
        await call.done()
    assert door.inside.seen[0].model == "m1"


async def test_a_body_without_a_length_ends_where_it_says() -> None:
    async with Call(Door().app, http_scope("POST"), body=[GOOD[:5], b"", GOOD[5:]]) as call:
        assert (await call.done()).status == 204


async def test_a_body_that_stalls_is_given_up() -> None:
    async with Call(Door(idle=0.05).app, http_scope("POST"), body=None) as call:
        call.feed(GOOD[:5], more=True)
        await call.started()
        assert call.status == 408
        assert "stopped arriving" in call.record.text
        await call.done()


async def test_a_body_that_drips_is_not_a_stall() -> None:
    door = Door(idle=0.2, limit=4000)
    async with Call(door.app, http_scope("POST"), body=None) as call:
        for piece in (b" " * 1000, b" " * 1000, GOOD[:20], GOOD[20:]):
            call.feed(piece, more=True)
            await call.received_all()
            await asyncio.sleep(0.08)
        call.feed(b"")
        assert (await call.done()).status == 204


async def test_intake_body_that_breaks_off_is_refused() -> None:
    door = Door()
    async with Call(door.app, http_scope("POST"), body=None) as call:
        call.feed(GOOD[:5], more=True)
        await call.received_all()
        call.hang_up()
        record = await call.done()
    assert record.status == 400
    assert "ended before it was complete" in record.text
    assert door.exchange is not None and door.exchange.outcome == "refused"
    assert door.inside.seen == []


@pytest.mark.parametrize(
    ("part", "media"),
    [
        ('{"type":"text","text":"image_url"}', False),
        ('{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}', True),
        ('{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}', True),
        ('{"type":"video","video":["https://example.com/a.png"]}', True),
        ('{"inlineData":{"mimeType":"image/png","data":"AAAA"}}', True),
    ],
)
async def test_intake_small_or_linked_part_counts_as_media(part: str, media: bool) -> None:
    door = Door()
    body = f'{{"model":"m1","messages":[{{"role":"user","content":[{part}]}}]}}'
    assert (await door.post(body.encode())).status == 204
    assert door.inside.seen[0].media is media
