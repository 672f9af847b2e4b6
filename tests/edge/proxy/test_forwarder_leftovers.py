"""What a failed request leaves behind: nothing, and not only after a full garbage collection.

The collector's last generation is looked at so seldom that a few hundred requests with long prompts
would fill the memory of a worker.
"""

import asyncio
import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest

from edge.upstreams import ConnectFailed, Disconnected, TimedOut
from middlewares import Exchange, Problem
from tests.asgi import Call, http_scope, request
from tests.edge.scripted import JSON, Answer, Scripted, ScriptedGateway
from tests.edge.wire import CHAT, DONE, HI, ROLE, STOP

RESPONSES = "/v1/responses"
DOCUMENT = {"models": [{"id": "m", "targets": ["both/a", "oai/b", "ant/c"]}]}
REFUSAL = b'{"error":{"message":"no","type":"overloaded_error"}}'
FRAME = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
PATHS = (CHAT, RESPONSES)


@pytest.fixture(autouse=True)
def _uncollected() -> Iterator[None]:
    """What is made from now on is of the youngest generation, and stays that."""
    gc.disable()
    gc.collect(0)
    yield
    gc.enable()


def body(path: str, *, stream: bool) -> dict[str, Any]:
    said = (
        {"input": "Hi"} if path == RESPONSES else {"messages": [{"role": "user", "content": "Hi"}]}
    )
    return {"model": "m", "max_tokens": 5, "stream": stream, **said}


async def left(gateway: ScriptedGateway) -> int:
    """How many are still there; those that the gateway recorded are not what is meant."""
    gateway.exchanges.clear()
    await asyncio.sleep(0)  # tasks that were cancelled end
    young = gc.get_objects(generation=0)
    return sum(isinstance(one, Exchange | Problem) for one in young)


async def ask(gateway: ScriptedGateway, path: str, *, stream: bool) -> int:
    answer = await request(gateway.app, "POST", path, json=body(path, stream=stream))
    return answer.status


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Answer([REFUSAL], status=503, headers=[JSON]), (503, 529)),
        (Answer([REFUSAL], status=400, headers=[JSON]), (400,)),
        (Answer(before=[ConnectFailed("refused")]), (503, 529)),
        (Answer(before=[TimedOut("idle", 1.0)]), (504,)),
        (Answer([b"data: {\n\n"]), (502,)),
        (Answer([FRAME]), (502, 503, 529)),
        (Answer([ROLE, Disconnected("cut")]), (502,)),
        (Answer([ROLE, Disconnected("cut")], pumping=True), (502,)),
        (Answer([]), (502,)),
    ],
)
async def test_a_failed_request_is_gone(
    answer: Answer, status: tuple[int, ...], path: str, stream: bool
) -> None:
    gateway = ScriptedGateway(Scripted(answer), document=DOCUMENT)
    assert await ask(gateway, path, stream=stream) in status
    assert await left(gateway) == 0


@pytest.mark.parametrize("path", PATHS)
async def test_so_is_one_that_had_no_content_in_time(path: str) -> None:
    gateway = ScriptedGateway(
        Scripted(Answer([asyncio.Event()])), document=DOCUMENT, first_content=0.12
    )
    assert await ask(gateway, path, stream=True) == 504
    assert await left(gateway) == 0


async def test_so_is_one_that_was_answered_late() -> None:
    """And watched meanwhile."""
    late = asyncio.Event()
    gateway = ScriptedGateway(Scripted(Answer([late, ROLE, HI, STOP, DONE])), document=DOCUMENT)
    asyncio.get_running_loop().call_later(0.15, late.set)
    assert await ask(gateway, CHAT, stream=True) == 200
    assert await left(gateway) == 0


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
async def test_so_is_one_whose_client_has_left(path: str, stream: bool) -> None:
    gateway = ScriptedGateway(Scripted(Answer([asyncio.Event()])), document=DOCUMENT)

    async def leave() -> None:
        sent = json.dumps(body(path, stream=stream)).encode()
        async with Call(gateway.app, http_scope("POST", path), body=sent) as call:
            await gateway.upstream.opening.wait()
            call.hang_up()
            await call.done()

    await leave()
    assert await left(gateway) == 0
