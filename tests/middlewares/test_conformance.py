"""What every exported middleware has to keep to, whatever it does: STYLE for composable layers.

A new export whose name ends in `Middleware` fails here until it has a case in `cases.py`.
"""

import asyncio
import copy
import inspect
import subprocess
import sys
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import middlewares
from middlewares import Exchange
from middlewares.asgi import Message, Receive, Scope, Send
from tests.asgi import Call, http_scope, lifespan
from tests.waiting import DEADLINE

from .cases import CASES, Case, Wrap

ROOT = Path(__file__).parents[2]
EXPORTED = [name for name in middlewares.__all__ if name.endswith("Middleware")]

START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain")],
}
HELLO: Message = {"type": "http.response.body", "body": b"hello"}


def test_every_exported_middleware_has_a_case() -> None:
    assert sorted(CASES) == sorted(EXPORTED)


@pytest.mark.parametrize("name", EXPORTED)
def test_middleware_call_is_a_coroutine_function(name: str) -> None:
    """By that uvicorn recognises ASGI 3, where the layer is the outermost."""
    assert inspect.iscoroutinefunction(getattr(middlewares, name).__call__)


@pytest.fixture(params=EXPORTED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def case(name: str) -> Case:
    return CASES[name]


@pytest.fixture
async def wrap(name: str, case: Case) -> AsyncIterator[Wrap]:
    module = import_module(getattr(middlewares, name).__module__)
    async with case.ready(module) as make:
        yield make


def scope_for(case: Case, path: str = "/", **rest: Any) -> Scope:
    return http_scope("POST", path, headers=case.headers, **rest)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send(START)
    await send(HELLO)


async def test_lifespan_passes(wrap: Wrap) -> None:
    seen: list[Scope] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        for phase in ("startup", "shutdown"):
            assert await receive() == {"type": f"lifespan.{phase}"}
            await send({"type": f"lifespan.{phase}.complete"})

    async with lifespan(wrap(inner)):
        assert [scope["type"] for scope in seen] == ["lifespan"]


async def test_body_messages_pass_by_identity(wrap: Wrap, case: Case) -> None:
    received: list[Message] = []
    parts: list[Message] = [
        {"type": "http.response.body", "body": b"a", "more_body": True},
        {"type": "http.response.body", "body": b"b", "more_body": False},
    ]

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        while not received or received[-1]["more_body"]:
            received.append(await receive())
        await send(START)
        for part in parts:
            await send(part)

    async with Call(wrap(inner), scope_for(case), body=[b"1", b"2"]) as call:
        record = await call.done()
    assert [message["body"] for message in received] == [b"1", b"2"]
    assert all(ours is theirs for ours, theirs in zip(received, call.received, strict=True))
    assert all(ours is theirs for ours, theirs in zip(parts, record.messages[1:], strict=True))


async def test_the_inner_apps_start_is_not_touched(wrap: Wrap, case: Case) -> None:
    before = copy.deepcopy(START)
    app = wrap(hello)
    lengths = []
    for _ in range(2):
        async with Call(app, scope_for(case)) as call:
            record = await call.done()
        assert (record.status, record.body) == (200, b"hello")
        assert record.headers[:1] == [(b"content-type", b"text/plain")]
        lengths.append(len(record.headers))
        assert before == START
    assert lengths[0] == lengths[1]


async def test_a_start_without_headers_is_enough(wrap: Wrap, case: Case) -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async with Call(wrap(inner), scope_for(case)) as call:
        assert (await call.done()).status == 204


async def test_each_chunk_is_out_before_the_next_exists(wrap: Wrap, case: Case) -> None:
    chunks: asyncio.Queue[Message] = asyncio.Queue()

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-type", b"text/event-stream; charset=utf-8")]})
        more = True
        while more:
            chunk = await chunks.get()
            more = chunk["more_body"]
            await send(chunk)

    async with Call(wrap(inner), scope_for(case)) as call:
        await call.started()
        for n in range(5):
            data = b"data: %d\n\n" % n
            chunks.put_nowait({"type": "http.response.body", "body": data, "more_body": n < 4})
            assert await call.chunk() == data
            assert len(call.chunks) == n + 1
        await call.done()


async def test_works_without_state_in_the_scope(wrap: Wrap, case: Case) -> None:
    async with Call(wrap(hello), scope_for(case, with_state=False)) as call:
        assert (await call.done()).body == b"hello"


async def test_exceptions_before_the_start_propagate(wrap: Wrap, case: Case) -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("inside")

    async with Call(wrap(inner), scope_for(case)) as call:
        raised = await call.ended()
    if case.answers_exceptions:
        assert raised is None
        assert call.status == 500
    else:
        assert isinstance(raised, LookupError)
        assert not call.record.messages


async def test_exceptions_after_the_start_propagate(wrap: Wrap, case: Case) -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise LookupError("inside")

    async with Call(wrap(inner), scope_for(case)) as call:
        assert isinstance(await call.ended(), LookupError)
    assert call.record.body == b"half"
    assert not call.record.complete


class Stop(BaseException):
    """Neither an error nor a cancellation; only the server may catch it."""


@pytest.mark.parametrize("when", ["before the start", "after the start"])
async def test_base_exceptions_are_never_swallowed(wrap: Wrap, case: Case, when: str) -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        if when == "after the start":
            await send(START)
        raise Stop

    async with Call(wrap(inner), scope_for(case)) as call:
        assert isinstance(await call.ended(), Stop)


@pytest.mark.parametrize("when", ["before the start", "after the start"])
async def test_cancellation_propagates(wrap: Wrap, case: Case, when: str) -> None:
    waiting = asyncio.Event()
    seen: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        if when == "after the start":
            await send(START)
        try:
            waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async with Call(wrap(inner), scope_for(case)) as call:
        await waiting.wait()
        await call.cancel()
    assert seen == ["cancelled"]
    assert isinstance(call.record.raised, asyncio.CancelledError)


async def test_disconnect_reaches_the_inner_app(wrap: Wrap, case: Case) -> None:
    heard: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append((await receive())["type"])
        await send(START)
        heard.append((await receive())["type"])

    async with Call(wrap(inner), scope_for(case)) as call:
        await call.started()
        call.hang_up()
        await call.done()
    assert heard == ["http.request", "http.disconnect"]


async def test_a_hundred_interleaved_requests_share_nothing(wrap: Wrap, case: Case) -> None:
    """All are inside at once, and go on in another order than they came."""
    count = 100
    inside = 0
    everybody = asyncio.Event()
    turns = [asyncio.Event() for _ in range(count)]

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal inside
        mine = scope["path"]
        Exchange.of(scope).endpoint = mine
        body = (await receive())["body"]
        inside += 1
        if inside == count:
            everybody.set()
        await turns[int(mine[1:])].wait()
        headers = [(b"x-path", mine.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": mine.encode()})

    app = wrap(inner)
    calls = [
        Call(app, scope_for(case, f"/{n}"), body=b"canary %d;" % n, timeout=60)
        for n in range(count)
    ]

    async def run(call: Call) -> None:
        async with call:
            await call.done()

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(run(call))
        await everybody.wait()
        for turn in turns[::-2] + turns[::2]:
            turn.set()

    for n, call in enumerate(calls):
        assert call.record.body == b"canary %d;/%d" % (n, n)
        assert call.header("x-path") == f"/{n}"
        assert call.header("x-endpoint") in (None, f"/{n}")
        assert Exchange.of(call.scope).endpoint == f"/{n}"
    exchanges = [Exchange.of(call.scope) for call in calls]
    assert len({id(exchange) for exchange in exchanges}) == count
    ids = [call.header("x-request-id") for call in calls]
    assert ids == [None] * count or len(set(ids)) == count


async def test_nothing_is_kept_on_the_middleware(wrap: Wrap, case: Case) -> None:
    app = wrap(hello)
    slots = [slot for kind in type(app).__mro__ for slot in getattr(kind, "__slots__", ())]
    assert slots, "a middleware has __slots__, so that nothing can be added to it later"
    assert not hasattr(app, "__dict__")
    before = {slot: id(getattr(app, slot)) for slot in slots}
    async with Call(app, scope_for(case)) as call:
        await call.done()
    assert {slot: id(getattr(app, slot)) for slot in slots} == before


@pytest.mark.parametrize("kind", ["websocket", "unheard-of"])
async def test_scopes_of_other_types(wrap: Wrap, case: Case, kind: str) -> None:
    """Gatekeepers let nothing in that they do not know; all others pass it on as it is."""
    seen: list[tuple[Scope, Any, Any]] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    async def receive() -> Message:
        return {"type": f"{kind}.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    sent: list[Message] = []
    scope: Scope = {**scope_for(case), "type": kind}
    try:
        await wrap(inner)(scope, receive, send)
    except Exception:
        assert case.gatekeeper
    if case.gatekeeper:
        assert not seen
        assert "websocket.accept" not in [message["type"] for message in sent]
    else:
        assert seen == [(scope, receive, send)]
        assert not sent


ALONE = """
import importlib.abc, sys

class Nowhere(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "edge":
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Nowhere())
name, home = sys.argv[1:]
module = importlib.import_module(home)
loaded = {name for name, module in sys.modules.items() if module is not None}

features = sys.stdin.read().split()
own = ".".join(home.split(".")[:2])  # a feature may be a package
others = {f"middlewares.{feature}" for feature in features} - {own}
foreign = {"edge", "starlette", "httpx", "granian"}
assert not loaded & (others | foreign), loaded & (others | foreign)

import asyncio
from tests.asgi import Call, http_scope
from tests.middlewares.cases import CASES

async def bare(scope, receive, send):
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"you said " + message["body"]})

async def main():
    case = CASES[name]
    scope = http_scope("POST", "/anything", headers=case.headers)
    async with case.ready(module) as wrap, Call(wrap(bare), scope, body=b"hello") as call:
        record = await call.done()
    print(record.status, record.text)

asyncio.run(main())
"""


def test_runs_alone_in_a_strangers_app(name: str) -> None:
    """With `edge` un-importable, and without any other feature, framework or server loaded."""
    home = getattr(middlewares, name).__module__
    homes = " ".join(getattr(middlewares, other).__module__.split(".")[1] for other in EXPORTED)
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE, name, home],
        input=homes,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, "200 you said hello"), ran.stderr
