"""Bounds on what one request holds: just under is answered, just over is 400 by its path, and the
event loop goes on beside both."""

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import httpx
import pytest

from edge.api.responses.expand import MAX_TURNS
from edge.dialects.data_urls import MOST_QUOTED
from edge.dialects.json_schema import MOST_EXPANDED, MOST_NODES, MOST_WALKED
from edge.proxy.intake import MAX_NAME
from edge.requests import body_limits
from edge.requests.json_body import MAX_MEMBERS
from middlewares.body import FREE_PIECES, LEAST_PIECE
from tests.e2e.hostile.arena import Helper, document
from tests.e2e.hostile.kinds import DIALECTS, Dialect, Raw, array, encode
from tests.waiting import DEADLINE

from .program import Gateway, Program, until
from .wire import line, request

MODELS = ("chat", "claude", "resp")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Gateway]:
    """A gateway before upstreams that answer whatever they get."""
    sink = Helper("sink")
    try:
        upstream = sink.first.split()[1]
        program = Gateway(tmp_path_factory.mktemp("bounds"), document(simulator.url, upstream))
        try:
            yield program
        finally:
            assert program.stop() == 0, program.stderr
    finally:
        sink.close()


def _messages(dialect: Dialect, model: str, count: int) -> bytes:
    return dialect.messages(model, array(dialect.message, count))


def _parts(dialect: Dialect, model: str, count: int) -> bytes:
    return dialect.parts(model, array(dialect.part, count))


def _tools(dialect: Dialect, model: str, count: int) -> bytes:
    tools = [dialect.tool(f"t{n}", {"type": "object"}) for n in range(count)]
    return dialect.body(model, tools=tools)


def _required(dialect: Dialect, model: str, count: int) -> bytes:
    schema = {"type": "object", "properties": {}, "required": [f"p{n}" for n in range(count)]}
    return dialect.body(model, tools=[dialect.tool("t", schema)])


def _metadata(dialect: Dialect, model: str, count: int) -> bytes:
    return dialect.body(model, metadata={f"m{n}": "" for n in range(count)})


Body = Callable[[Dialect, str, int], bytes]
BOUNDS: list[tuple[Body, int, tuple[str, str, str]]] = [
    (_messages, body_limits.MOST_MESSAGES, ("messages", "messages", "input")),
    (
        _parts,
        body_limits.MOST_PARTS,
        ("messages[0].content", "messages[0].content", "input[0].content"),
    ),
    (_tools, body_limits.MOST_TOOLS, ("tools", "tools", "tools")),
    (
        _required,
        body_limits.MOST_NAMES,
        (
            "tools[0].function.parameters.required",
            "tools[0].input_schema.required",
            "tools[0].parameters.required",
        ),
    ),
    (_metadata, body_limits.MOST_METADATA, ("metadata", "metadata", "metadata")),
]


def _post(gateway: Gateway, dialect: Dialect, body: bytes) -> httpx.Response:
    return _post_to(gateway, dialect.path, body)


def _post_to(gateway: Gateway, path: str, body: bytes) -> httpx.Response:
    headers = {**gateway.bearer, "content-type": "application/json"}
    with httpx.Client(trust_env=False, timeout=DEADLINE) as client:
        return client.post(gateway.url + path, content=body, headers=headers)


def _refused(answer: httpx.Response, path: str, bound: int) -> None:
    assert answer.status_code == 400, answer.text
    said = answer.json()["error"]["message"]
    assert f"`{path}`" in said and f"at most {bound} " in said


@pytest.mark.parametrize("at", range(3), ids=MODELS)
@pytest.mark.parametrize(
    ("body", "most", "paths"), BOUNDS, ids=lambda one: getattr(one, "__name__", "")
)
def test_just_under_is_answered_and_just_over_is_refused_by_path(
    gateway: Gateway, body: Body, most: int, paths: tuple[str, str, str], at: int
) -> None:
    dialect = DIALECTS[MODELS[at]]
    model = MODELS[(at + 1) % 3]  # of another dialect, so that it is translated
    answer = _post(gateway, dialect, body(dialect, model, most))
    assert answer.status_code == 200, answer.text
    _refused(_post(gateway, dialect, body(dialect, model, most + 1)), paths[at], most)


@pytest.mark.parametrize("name", ["chat", "claude"])
def test_stop_strings_have_a_bound_in_number_and_length(gateway: Gateway, name: str) -> None:
    dialect = DIALECTS[name]
    member = next(iter(dialect.stops(["a"])))
    most, longest = body_limits.MOST_STOPS, body_limits.LONGEST_STOP
    under = ["s" * longest] * most
    for model in MODELS:
        assert _post(gateway, dialect, dialect.body(model, **dialect.stops(under))).is_success
    over = dialect.stops([*under, "one more"])
    _refused(_post(gateway, dialect, dialect.body("chat", **over)), member, most)
    longer = dialect.stops(["s" * (longest + 1)])
    _refused(_post(gateway, dialect, dialect.body("chat", **longer)), f"{member}[0]", longest)


def _results_of_messages(count: int) -> bytes:
    call = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    parts = array(DIALECTS["claude"].part, count)
    said = b'[{"role":"user","content":"Hi"},{"role":"assistant","content":[%s]},' % encode(call)
    said += b'{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":%s}]}]'
    return DIALECTS["claude"].messages("chat", said % parts)


def _results_of_responses(count: int) -> bytes:
    call = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    said = b'[%s,{"type":"function_call_output","call_id":"a","output":%s}]'
    parts = array(DIALECTS["resp"].part, count)
    return DIALECTS["resp"].messages("claude", said % (encode(call), parts))


def _functions(count: int) -> bytes:
    functions = [{"name": f"f{n}", "parameters": {"type": "object"}} for n in range(count)]
    return DIALECTS["chat"].body("chat", functions=functions)


def _tokens(count: int) -> bytes:
    return b'{"model":"embed","input":%s}' % array(b"[1]", count)


ELSEWHERE: list[tuple[str, Callable[[int], bytes], int, str]] = [
    (
        DIALECTS["claude"].path,
        _results_of_messages,
        body_limits.MOST_PARTS,
        "messages[2].content[0].",
    ),
    (DIALECTS["resp"].path, _results_of_responses, body_limits.MOST_PARTS, "input[1].output`"),
    (DIALECTS["chat"].path, _functions, body_limits.MOST_TOOLS, "functions`"),
    ("/v1/embeddings", _tokens, body_limits.MOST_INPUTS, "input`"),
]


@pytest.mark.parametrize(
    ("path", "make", "most", "place"), ELSEWHERE, ids=lambda one: getattr(one, "__name__", "")
)
def test_bounds_hold_for_results_functions_and_tokens(
    gateway: Gateway, path: str, make: Callable[[int], bytes], most: int, place: str
) -> None:
    answer = _post_to(gateway, path, make(most))
    assert answer.status_code == 200, answer.text
    answer = _post_to(gateway, path, make(most + 1))
    assert answer.status_code == 400, answer.text
    said = answer.json()["error"]["message"]
    assert f"`{place}" in said and f"at most {most} " in said


@pytest.mark.parametrize("name", MODELS)
def test_a_body_has_a_bound_in_members(gateway: Gateway, name: str) -> None:
    dialect = DIALECTS[name]
    few = len(json.loads(dialect.body(name)))
    for more in (0, 1):
        members = {f"x{n}": 0 for n in range(MAX_MEMBERS - few + more)}
        answer = _post(gateway, dialect, dialect.body(name, **members))
        assert answer.status_code == (400 if more else 200), answer.text
    assert f"more than {MAX_MEMBERS} members" in answer.json()["error"]["message"]


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _defined(more: int) -> dict[str, Any]:
    """Schemas up to the bound: the whole, one that is defined, and references to it."""
    refs = {f"p{n}": {"$ref": "#/$defs/a"} for n in range(MOST_NODES - 2 + more)}
    return {**_object(**refs), "$defs": {"a": {"type": "string"}}}


def _replaced(more: int) -> dict[str, Any]:
    """References that Claude does not know count, and so does what stands in their places."""
    refs = {f"p{n}": {"$ref": "#/properties/a"} for n in range((MOST_NODES - 2) // 2 + more)}
    return _object(a={"type": "string"}, **refs)


def _merged(more: int) -> dict[str, Any]:
    """Each part of `allOf`, its one member, and the member where it is merged."""
    parts = [_object(**{f"p{n}": {}}) for n in range((MOST_NODES - 1) // 3 + more)]
    return {**_object(), "allOf": parts}


def _walked(more: int) -> dict[str, Any]:
    """Objects up to the bound: the whole, its properties, each of five, and what is in those."""
    each = (MOST_WALKED - 7) // 5
    first = (MOST_WALKED - 7) % 5 + each + more
    return _object(**{f"p{n}": {"prefixItems": [{}] * (each if n else first)} for n in range(5)})


def _expanded(more: int) -> dict[str, Any]:
    """Two references to half of the bytes, and one more to an empty schema where it is beyond."""
    half = {"type": "string", "description": ""}
    half["description"] = "a" * (MOST_EXPANDED // 2 - len(encode(half)))
    refs = {f"p{n}": {"$ref": "#/properties/half"} for n in range(2)}
    if more:
        refs["p2"] = {"$ref": "#/properties/none"}
    return _object(half=half, none={}, **refs)


SCHEMAS: list[tuple[Callable[[int], dict[str, Any]], int]] = [
    (_defined, MOST_NODES),
    (_replaced, MOST_NODES),
    (_merged, MOST_NODES),
    (_walked, MOST_WALKED),
    (_expanded, MOST_EXPANDED),
]


@pytest.mark.parametrize(
    ("name", "path"),
    [("chat", "response_format.json_schema.schema"), ("resp", "text.format.schema")],
)
def test_a_schema_for_claude_has_a_bound_with_all_that_it_expands_to(
    gateway: Gateway, name: str, path: str
) -> None:
    dialect = DIALECTS[name]
    for make, most in SCHEMAS:
        within = dialect.body("claude", **dialect.formatted(make(0)))
        answer = _post(gateway, dialect, within)
        assert answer.status_code == 200, f"{make.__name__}: {answer.text}"
        beyond = dialect.body("claude", **dialect.formatted(make(1)))
        _refused(_post(gateway, dialect, beyond), path, most)


@pytest.mark.parametrize(
    ("name", "path"),
    [("chat", "response_format.json_schema.schema"), ("resp", "text.format.schema")],
)
def test_a_schema_whose_references_double_is_refused_by_path(
    gateway: Gateway, name: str, path: str
) -> None:
    properties: dict[str, Any] = {"p0": {"type": "string"}}
    for n in range(1, 26):
        properties[f"p{n}"] = {"anyOf": [{"$ref": f"#/properties/p{n - 1}"}] * 2}
    dialect = DIALECTS[name]
    answer = _post(
        gateway, dialect, dialect.body("claude", **dialect.formatted(_object(**properties)))
    )
    _refused(answer, path, MOST_NODES)


def _chat_image(url: str) -> bytes:
    return b'{"type":"image_url","image_url":%s}' % encode({"url": url})


def _responses_image(url: str) -> bytes:
    return encode({"type": "input_image", "image_url": url})


@pytest.mark.parametrize(
    ("name", "model", "image"),
    [("chat", "claude", _chat_image), ("resp", "chat", _responses_image)],
)
def test_a_data_url_that_is_quoted_has_a_bound(
    gateway: Gateway, name: str, model: str, image: Callable[[str], bytes]
) -> None:
    dialect = DIALECTS[name]
    for more in (0, 1):
        url = "data:image/png,%89" + "a" * (MOST_QUOTED - 3 + more)
        answer = _post(gateway, dialect, dialect.parts(model, b"[%s]" % image(url)))
        if more:
            assert answer.status_code == 400
            said = answer.json()["error"]["message"]
            assert "[0].content[0]" in said and f"at most {MOST_QUOTED} " in said
        else:
            assert answer.status_code == 200, answer.text


def test_a_name_of_a_model_has_a_bound_in_length(gateway: Gateway) -> None:
    """No model may have so long a name, so the longest is not found."""
    dialect, name = DIALECTS["chat"], "m" * MAX_NAME
    for within, beyond in (
        (dialect.body(name), dialect.body(name + "m")),
        (dialect.body("chat", models=[name]), dialect.body("chat", models=[name + "m"])),
    ):
        answer = _post(gateway, dialect, within)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        answer = _post(gateway, dialect, beyond)
        assert answer.status_code == 400
        assert f"1 to {MAX_NAME} characters" in answer.json()["error"]["message"]


_GROW = """
with recursive turns(n) as (select 2 union all select n + 1 from turns where n < :most)
insert into responses
select owner, 'resp_turn' || n, case n when 2 then id else 'resp_turn' || (n - 1) end,
    model, created_at, expires_at, input, '[]', answer from responses, turns where id = :id
"""
"""Makes a conversation of one response as long as `most`; the last turn's id has the number."""


def test_a_conversation_has_a_bound_in_turns_and_in_items(gateway: Gateway) -> None:
    dialect = DIALECTS["resp"]
    kept = _post(gateway, dialect, encode({"model": "chat", "input": "Hi"})).json()["id"]
    with closing(sqlite3.connect(gateway.database, timeout=DEADLINE)) as database, database:
        database.execute(_GROW, {"most": MAX_TURNS + 1, "id": kept})
    for turn, status in ((MAX_TURNS, 200), (MAX_TURNS + 1, 413)):
        body = dialect.body("chat", previous_response_id=f"resp_turn{turn}")
        answer = _post(gateway, dialect, body)
        assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert f"more than {MAX_TURNS} responses" in error["message"]
    assert error["param"] == "previous_response_id"
    before = {"previous_response_id": f"resp_turn{MAX_TURNS}"}
    new = body_limits.MOST_MESSAGES - MAX_TURNS - 1  # an item in each turn, and one answer
    for more in (0, 1):
        said = Raw(array(dialect.message, new + more))
        body = encode({"model": "claude", "store": False, **before, "input": said})
        answer = _post(gateway, dialect, body)
        if more:
            _refused(answer, "input", body_limits.MOST_MESSAGES)
        else:
            assert answer.status_code == 200, answer.text


async def test_a_body_has_a_bound_in_pieces(gateway: Gateway) -> None:
    """As many as may be of one byte, then of the least size that more of them must have."""
    headers = {
        **gateway.bearer,
        "content-type": "application/json",
        "transfer-encoding": "chunked",
    }
    body = DIALECTS["chat"].body("chat")

    def pieces(count: int, size: int) -> bytes:
        filled = body[:-1] + b" " * (count * size - len(body)) + b"}"
        parts = (filled[at : at + size] for at in range(0, len(filled), size))
        return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"

    few = FREE_PIECES + FREE_PIECES // LEAST_PIECE
    for data, status in (
        (pieces(few, 1), 200),
        (pieces(few + 2, 1), 400),
        (pieces(3 * FREE_PIECES // 2, LEAST_PIECE // 2), 200),
        (pieces(3 * FREE_PIECES, LEAST_PIECE // 2), 400),
    ):
        async with line(gateway.url) as connection:
            await connection.send(request(DIALECTS["chat"].path, None, headers, method="POST"))
            sending = asyncio.create_task(connection.send(data))
            answer = await connection.reply()
            assert answer.status == status, answer.body
            with suppress(ConnectionError):
                await sending
        if status == 400:
            assert f"the first {FREE_PIECES}, expected {LEAST_PIECE} " in answer.error["message"]


def test_memory_of_a_large_body_is_given_back(gateway: Gateway) -> None:
    """A worker kept the blocks of the largest body it had seen: 90 MB and more of it."""
    dialect, text = DIALECTS["chat"], "many words " * (2 << 20)
    assert _post(gateway, dialect, dialect.body("claude", "few")).is_success
    before = gateway.rss()
    for _ in range(2):
        assert _post(gateway, dialect, dialect.body("claude", text)).is_success
    until(lambda: gateway.rss() - before < len(text), what="the memory of a body given back")


def test_the_loop_goes_on_beside_a_body_that_takes_long(gateway: Gateway) -> None:
    """/livez is answered again and again meanwhile: before, not once until the body was through."""
    dialect = DIALECTS["chat"]
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turn = encode({"role": "assistant", "tool_calls": [call]})
    turn += b"," + encode({"role": "tool", "tool_call_id": "a", "content": "x"})
    body = dialect.messages("claude", array(turn, body_limits.MOST_MESSAGES // 2))
    done = threading.Event()
    with ThreadPoolExecutor(1) as pool, httpx.Client(trust_env=False, timeout=DEADLINE) as client:
        sending = pool.submit(_post, gateway, dialect, body)
        sending.add_done_callback(lambda _: done.set())
        answers, longest = 0, 0.0
        while not done.is_set():
            started = time.perf_counter()
            assert client.get(f"{gateway.url}/livez").status_code == 200
            longest = max(longest, time.perf_counter() - started)
            answers += 1
        assert sending.result().status_code == 200
    assert answers >= 5, f"{answers} answers, the longest after {longest:.2f} s"
