"""An app that lets requests wait, for a server of its own; see `test_waiting`.

Each folder of paths is a principal, limited to one request at once, and one in 300 ms. `/read...`
has its body read before it waits, as in the gateway; of others the server still holds it.
`/.../echo` answers the body; `/.../watch` waits for ever, as for an upstream, until the client
leaves. `/seen` tells how requests ended so far, as "outcome path", and how many are in the line.
"""

import asyncio
import json

from edge.proxy.watchdog import Watchdog
from middlewares import Exchange, Principal, RateLimitMiddleware
from middlewares.asgi import Receive, Scope, Send
from middlewares.body import read_body, replay
from middlewares.disconnects import ClientDisconnected
from middlewares.limits import Limits, Rate
from middlewares.rate_limit.throttle_queue import ThrottleQueue
from middlewares.stores.counters.memory import MemoryCounters

LIMITS = Limits(requests=Rate(1, 0.3), concurrency=1, on_excess="throttle")

_line = ThrottleQueue()
_seen: list[str] = []


async def _inner(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"].endswith("watch"):
        _seen.append(f"inside {scope['path']}")
        try:
            async with Watchdog(receive):
                await asyncio.Event().wait()
        except ClientDisconnected:
            Exchange.of(scope).outcome = "hung_up"
            _seen.append(f"left {scope['path']}")
            return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await _say(send, body)


async def _say(send: Send, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


_limited = RateLimitMiddleware(
    _inner, counters=MemoryCounters(), limits=lambda _: LIMITS, queue=_line
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
        return
    path = scope["path"]
    if path == "/seen":
        return await _say(send, json.dumps([*_seen, f"{len(_line)} wait"]).encode())
    if path.startswith("/read"):
        receive = replay(await read_body(scope, receive, limit=1 << 20, idle=5.0), receive)
    exchange = Exchange.of(scope)
    exchange.principal = Principal(path.rpartition("/")[0])
    await _limited(scope, receive, send)
    _seen.append(f"{exchange.outcome} {path}")
