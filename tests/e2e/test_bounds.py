"""Bounds on what one request holds: just under is answered, just over is 400 by its path, and the
event loop goes on beside both."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from edge import shape
from edge.dialects.json_schema import MOST_NODES
from middlewares._body import FREE_PIECES
from tests.waiting import DEADLINE

from .hostile.arena import Helper, document
from .hostile.kinds import DIALECTS, Dialect, array, encode
from .program import Gateway, Program, until

MODELS = ("chat", "claude", "resp")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Gateway]:
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
    (_messages, shape.MOST_MESSAGES, ("messages", "messages", "input")),
    (
        _parts,
        shape.MOST_PARTS,
        ("messages[0].content", "messages[0].content", "input[0].content"),
    ),
    (_tools, shape.MOST_TOOLS, ("tools", "tools", "tools")),
    (
        _required,
        shape.MOST_NAMES,
        (
            "tools[0].function.parameters.required",
            "tools[0].input_schema.required",
            "tools[0].parameters.required",
        ),
    ),
    (_metadata, shape.MOST_METADATA, ("metadata", "metadata", "metadata")),
]


def _post(gateway: Gateway, dialect: Dialect, body: bytes) -> httpx.Response:
    headers = {**gateway.bearer, "content-type": "application/json"}
    with httpx.Client(trust_env=False, timeout=DEADLINE) as client:
        return client.post(gateway.url + dialect.path, content=body, headers=headers)


def _refused(answer: httpx.Response, path: str, bound: int) -> None:
    assert answer.status_code == 400, answer.text
    said = answer.json()["error"]["message"]
    assert f"`{path}`" in said and f"at most {bound} " in said


@pytest.mark.parametrize("at", range(3), ids=MODELS)
@pytest.mark.parametrize(
    ("body", "most", "paths"), BOUNDS, ids=lambda one: getattr(one, "__name__", "")
)
def test_just_under_is_answered_and_just_over_is_refused_by_path(
    attacked: Gateway, body: Body, most: int, paths: tuple[str, str, str], at: int
) -> None:
    dialect = DIALECTS[MODELS[at]]
    model = MODELS[(at + 1) % 3]  # of another dialect, so that it is read and written anew
    answer = _post(attacked, dialect, body(dialect, model, most))
    assert answer.status_code == 200, answer.text
    _refused(_post(attacked, dialect, body(dialect, model, most + 1)), paths[at], most)


@pytest.mark.parametrize("name", ["chat", "claude"])
def test_stop_strings_have_a_bound_in_number_and_length(attacked: Gateway, name: str) -> None:
    dialect = DIALECTS[name]
    member = next(iter(dialect.stops(["a"])))
    most, longest = shape.MOST_STOPS, shape.LONGEST_STOP
    under = ["s" * longest] * most
    for model in MODELS:
        assert _post(attacked, dialect, dialect.body(model, **dialect.stops(under))).is_success
    over = dialect.stops([*under, "one more"])
    _refused(_post(attacked, dialect, dialect.body("chat", **over)), member, most)
    longer = dialect.stops(["s" * (longest + 1)])
    _refused(_post(attacked, dialect, dialect.body("chat", **longer)), f"{member}[0]", longest)


@pytest.mark.parametrize(
    ("name", "path"),
    [("chat", "response_format.json_schema.schema"), ("resp", "text.format.schema")],
)
def test_a_schema_whose_references_double_is_refused_by_path(
    attacked: Gateway, name: str, path: str
) -> None:
    properties: dict[str, Any] = {"p0": {"type": "string"}}
    for n in range(1, 26):
        properties[f"p{n}"] = {"anyOf": [{"$ref": f"#/properties/p{n - 1}"}] * 2}
    dialect = DIALECTS[name]
    format_ = dialect.formatted({"type": "object", "properties": properties})
    said = {"messages": [{"role": "user", "content": "Hi"}]} if name == "chat" else {"input": "Hi"}
    answer = _post(attacked, dialect, encode({"model": "claude", **said, **format_}))
    _refused(answer, path, MOST_NODES)


def test_a_body_in_very_many_pieces_is_refused(attacked: Gateway) -> None:
    def pieces() -> Iterator[bytes]:
        for at in range(20_000):
            yield b"{" if not at else b" "

    headers = {**attacked.bearer, "content-type": "application/json"}
    url = attacked.url + DIALECTS["chat"].path
    with httpx.Client(trust_env=False, timeout=DEADLINE) as client:
        try:
            answer = client.post(url, content=pieces(), headers=headers)
        except httpx.WriteError:
            return  # it was refused, and the connection closed, while the rest was on its way
    assert answer.status_code == 400
    assert str(FREE_PIECES) in answer.json()["error"]["message"]


def test_memory_of_a_large_body_is_given_back(attacked: Gateway) -> None:
    """A worker kept the blocks of the largest body it had seen: 90 MB and more of it."""
    dialect, text = DIALECTS["chat"], "many words " * (2 << 20)
    assert _post(attacked, dialect, dialect.body("claude", "few")).is_success
    before = attacked.rss()
    for _ in range(2):
        assert _post(attacked, dialect, dialect.body("claude", text)).is_success
    until(lambda: attacked.rss() - before < len(text), what="the memory of a body given back")


def test_the_loop_goes_on_beside_a_body_that_takes_long(attacked: Gateway) -> None:
    """/livez is answered again and again meanwhile: before, not once until the body was through."""
    dialect = DIALECTS["chat"]
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turn = encode({"role": "assistant", "tool_calls": [call]})
    turn += b"," + encode({"role": "tool", "tool_call_id": "a", "content": "x"})
    body = dialect.messages("claude", array(turn, shape.MOST_MESSAGES // 2))
    done = threading.Event()
    with ThreadPoolExecutor(1) as pool, httpx.Client(trust_env=False, timeout=DEADLINE) as client:
        sending = pool.submit(_post, attacked, dialect, body)
        sending.add_done_callback(lambda _: done.set())
        answers, longest = 0, 0.0
        while not done.is_set():
            started = time.perf_counter()
            assert client.get(f"{attacked.url}/livez").status_code == 200
            longest = max(longest, time.perf_counter() - started)
            answers += 1
        assert sending.result().status_code == 200
    assert answers >= 5, f"{answers} answers, the longest after {longest:.2f} s"
